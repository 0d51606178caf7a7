//! Makes and mends a leak of locked memory that no process owns, for tests: a System V segment
//! that is locked, then touched, and outlives its maker.
//!
//! ```text
//! leak make MIB   makes one, prints its id, and exits: resident, locked, nobody's
//! leak hold MIB   the same, but stays attached until its standard input ends
//! leak free ID    removes it, as a reboot would
//! ```
//!
//! Needs root, or a limit of locked memory that is high enough.

#![allow(unsafe_code)]

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["make", mib] => number(mib).and_then(segment::make).map(|id| println!("{id}")),
        ["hold", mib] => number(mib).and_then(segment::make).and_then(|id| {
            println!("{id}");
            // Attached by the making, and until this process ends.
            std::io::stdin().lines().try_for_each(|line| line.map(drop))
        }),
        ["free", id] => number(id).and_then(segment::free),
        _ => Err(std::io::Error::other("say: leak make MIB, leak hold MIB, or leak free ID")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("leak: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("leak: only Linux keeps a segment locked without a process");
    ExitCode::FAILURE
}

#[cfg(target_os = "linux")]
fn number(text: &str) -> std::io::Result<i32> {
    text.parse().map_err(|_| std::io::Error::other(format!("{text:?} is no number")))
}

#[cfg(target_os = "linux")]
mod segment {
    use std::{io, ptr, slice};

    /// Makes a segment of this many MiB, locked and resident, and attached to this process.
    pub(super) fn make(mib: i32) -> io::Result<i32> {
        let mib = usize::try_from(mib).map_err(io::Error::other)?;
        let bytes = mib.checked_mul(1 << 20).ok_or_else(|| io::Error::other("too large"))?;
        // SAFETY: shmget takes integers only.
        let id = unsafe { libc::shmget(libc::IPC_PRIVATE, bytes, libc::IPC_CREAT | 0o600) };
        if id < 0 {
            return Err(io::Error::last_os_error());
        }
        fill(id, bytes).inspect_err(|_| drop(free(id)))?;
        Ok(id)
    }

    fn fill(id: i32, bytes: usize) -> io::Result<()> {
        // Before it is touched: what comes in after the lock counts as unevictable at once.
        // SAFETY: SHM_LOCK ignores the pointer.
        if unsafe { libc::shmctl(id, libc::SHM_LOCK, ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the system chooses a free address, so no memory of ours is replaced.
        let start = unsafe { libc::shmat(id, ptr::null(), 0) };
        if start.addr() == usize::MAX {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the segment is mapped there for reading and writing, has this size, holds zeroes,
        // and nobody else knows its id yet; it stays mapped until this process ends.
        unsafe { slice::from_raw_parts_mut(start.cast::<u8>(), bytes) }.fill(1);
        Ok(())
    }

    /// Removes a segment.
    pub(super) fn free(id: i32) -> io::Result<()> {
        // SAFETY: IPC_RMID ignores the pointer.
        if unsafe { libc::shmctl(id, libc::IPC_RMID, ptr::null_mut()) } == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}
