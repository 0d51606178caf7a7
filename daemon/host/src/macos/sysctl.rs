//! Settings and counters of the kernel, by sysctlbyname(3). Reading needs no privilege, setting needs
//! root and lasts until the next boot.
//!
//! One that this system does not have is `NotFound`: those of a driver are there once it is loaded.

#![allow(unsafe_code)]

use std::{
    ffi::{CString, c_void},
    io, ptr,
};

use crate::mac::sysctl_value;

/// Longest answer that is read, in bytes: the longest text that is asked for, a UUID, has 37.
const ANSWER_BYTES_MAX: usize = 1_024;

/// A text.
pub(crate) fn text(name: &str) -> io::Result<String> {
    let answer = read(name)?;
    sysctl_value::text(&answer)
        .map(str::to_owned)
        .ok_or_else(|| unexpected(name, &answer, "a text"))
}

/// An unsigned number of 32 bits.
pub(crate) fn u32(name: &str) -> io::Result<u32> {
    let answer = read(name)?;
    sysctl_value::u32(&answer).ok_or_else(|| unexpected(name, &answer, "a number of 4 bytes"))
}

/// A signed number of 32 bits.
pub(crate) fn i32(name: &str) -> io::Result<i32> {
    let answer = read(name)?;
    sysctl_value::i32(&answer).ok_or_else(|| unexpected(name, &answer, "a number of 4 bytes"))
}

/// An unsigned number of 64 bits.
pub(crate) fn u64(name: &str) -> io::Result<u64> {
    let answer = read(name)?;
    sysctl_value::u64(&answer).ok_or_else(|| unexpected(name, &answer, "a number of 8 bytes"))
}

/// Sets a signed number of 32 bits. Whether the kernel took it as it is shows in reading it again.
pub(crate) fn set_i32(name: &str, value: i32) -> io::Result<()> {
    let name = c_name(name)?;
    let mut bytes = value.to_le_bytes();
    // SAFETY: the name ends with a zero; the new value is read from `bytes`, which lives on and has the
    // length that is given; no old value is asked for.
    let rc = unsafe {
        let new = bytes.as_mut_ptr().cast::<c_void>();
        libc::sysctlbyname(name.as_ptr(), ptr::null_mut(), ptr::null_mut(), new, bytes.len())
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The answer's bytes. One that is longer than [`ANSWER_BYTES_MAX`] is the kernel's `ENOMEM`.
fn read(name: &str) -> io::Result<Vec<u8>> {
    let name = c_name(name)?;
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    let mut length = answer.len();
    // SAFETY: the name ends with a zero; at most `length` bytes are written to `answer`, which has as
    // many, and their number to `length`; nothing is set.
    let rc = unsafe {
        let old = answer.as_mut_ptr().cast::<c_void>();
        libc::sysctlbyname(name.as_ptr(), old, &raw mut length, ptr::null_mut(), 0)
    };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    answer.truncate(length);
    Ok(answer)
}

fn c_name(name: &str) -> io::Result<CString> {
    CString::new(name).map_err(|_| io::ErrorKind::NotFound.into())
}

fn unexpected(name: &str, answer: &[u8], wanted: &str) -> io::Error {
    let length = answer.len();
    io::Error::other(format!(
        "the system answers sysctl {name} with {length} bytes that are not {wanted}: compare with \
         `sysctl {name}`"
    ))
}
