//! Other processes, by libproc, sysctl and kqueue: their command line, whether they run, when they
//! end, what they use. Other users' processes need root, but for whether they run and when they end.
//!
//! `libproc.h` is public and says that it may change; the structures are those of the `libc` crate,
//! whose sizes are compared here with xnu 11417.101.15 (macOS 15.4).

#![allow(unsafe_code)]

use std::{
    ffi::{OsString, c_int, c_void},
    io,
    mem::{self, MaybeUninit},
    os::{fd::OwnedFd, unix::ffi::OsStringExt},
    ptr,
};

use nix::{
    errno::Errno,
    sys::event::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue},
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::{identity::Identity, mac::process as said};

const _: () = assert!(size_of::<libc::rusage_info_v4>() == 296);
const _: () = assert!(mem::offset_of!(libc::rusage_info_v4, ri_wired_size) == 56);
const _: () = assert!(mem::offset_of!(libc::rusage_info_v4, ri_phys_footprint) == 72);
const _: () = assert!(size_of::<libc::proc_bsdinfo>() == 136);
const _: () = assert!(mem::offset_of!(libc::proc_bsdinfo, pbi_uid) == 20);
const _: () = assert!(mem::offset_of!(libc::proc_bsdinfo, pbi_comm) == 48);
const _: () = assert!(mem::offset_of!(libc::proc_bsdinfo, pbi_pgid) == 100);
const _: () = assert!(mem::offset_of!(libc::proc_bsdinfo, pbi_start_tvsec) == 120);
const _: () = assert!(size_of::<libc::proc_bsdshortinfo>() == 64);
const _: () = assert!(mem::offset_of!(libc::proc_bsdshortinfo, pbsi_status) == 12);

/// Most processes that are looked at: many times what a host that serves one model runs. More is an
/// error, for an owner that is left out would make its memory look leaked.
const PROCESSES_MAX: usize = 32_768;

/// Longest arguments with the environment that are read: `ARG_MAX` of `<sys/syslimits.h>`, and the
/// number of arguments.
const ARGUMENTS_BYTES_MAX: usize = (1 << 20) + 4;

/// Longest path that libproc tells: `PROC_PIDPATHINFO_MAXSIZE` of `<sys/proc_info.h>`.
const PATH_BYTES_MAX: usize = 4 * 1024;

/// A process's arguments in one line; empty if there is none, or only its exit status is left.
pub fn command_line(pid: u32) -> String {
    let answer = raw(pid).and_then(arguments).unwrap_or_default();
    said::command_line(&answer).unwrap_or_default()
}

/// Whether a process runs, and does not just wait to be reaped. A process id is used again, so
/// this says nothing about what runs under it.
pub fn is_running(pid: u32) -> bool {
    let Ok(pid) = raw(pid) else { return false };
    // Zombies are not looked for: the argument that asks for them too is 0.
    let seen = info::<libc::proc_bsdshortinfo>(pid, libc::PROC_PIDT_SHORTBSDINFO);
    seen.is_ok_and(|seen| seen.pbsi_status != libc::SZOMB)
}

/// Who a process is. Another user's needs root.
///
/// # Errors
/// There is no such process, or only its exit status is left of it, or it may not be looked at.
pub fn identity(pid: u32) -> io::Result<Identity> {
    let pid = raw(pid)?;
    let before = info::<libc::proc_bsdinfo>(pid, libc::PROC_PIDTBSDINFO)?;
    if before.pbi_status == libc::SZOMB {
        return Err(Errno::ESRCH.into());
    }
    let executable = executable(pid)?;
    let seen = info::<libc::proc_bsdinfo>(pid, libc::PROC_PIDTBSDINFO)?;
    let started = |seen: &libc::proc_bsdinfo| {
        seen.pbi_start_tvsec.saturating_mul(1_000_000).saturating_add(seen.pbi_start_tvusec)
    };
    // Its id may have been used again between two readings.
    if started(&before) != started(&seen) {
        return Err(Errno::ESRCH.into());
    }
    Ok(Identity {
        uids: [seen.pbi_ruid, seen.pbi_uid, seen.pbi_svuid],
        group: seen.pbi_pgid,
        executable: executable.into(),
        started: started(&seen),
    })
}

/// The path of the file that a process executes.
fn executable(pid: c_int) -> io::Result<OsString> {
    let mut path = vec![0_u8; PATH_BYTES_MAX];
    let size = u32::try_from(path.len()).map_err(io::Error::other)?;
    // SAFETY: at most `size` bytes are written to `path`, which is as long and borrowed by nobody else.
    let length = unsafe { libc::proc_pidpath(pid, path.as_mut_ptr().cast::<c_void>(), size) };
    let length = usize::try_from(length).ok().filter(|length| *length > 0);
    path.truncate(length.ok_or_else(io::Error::last_os_error)?);
    Ok(OsString::from_vec(path))
}

/// Gives up what set-user-id files give: macOS has no such thing.
pub(crate) const fn gain_no_rights() -> io::Result<()> {
    Ok(())
}

/// Waits until a process that need not be our child has ended; a zombie has. Returns at once if
/// there is none of that id. Must be called in a tokio runtime.
///
/// # Errors
/// The system's, such as too many open files.
pub async fn exited(pid: u32) -> io::Result<()> {
    let Ok(ident) = raw(pid).and_then(|pid| usize::try_from(pid).map_err(io::Error::other)) else {
        return Ok(());
    };
    let queue = Kqueue::new()?;
    // The kernel looks the process up when it takes this, and not finding it is ESRCH; from then on
    // its end is told, however soon it comes.
    let end = KEvent::new(
        ident,
        EventFilter::EVFILT_PROC,
        EvFlags::EV_ADD | EvFlags::EV_ONESHOT,
        FilterFlag::NOTE_EXIT,
        0,
        0,
    );
    match queue.kevent(&[end], &mut [], None) {
        Ok(_) => {}
        Err(Errno::ESRCH) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    // A queue with an event is readable. Children do not inherit one (kqueue(2)).
    let queue = OwnedFd::from(queue);
    // SAFETY: the descriptor is owned, so it stays open, and the same one, until the `AsyncFd` that
    // it is moved into is dropped.
    let queue = unsafe { AsyncFd::register_with_interest(queue, Interest::READABLE) }?;
    queue.readable().await.map(drop)
}

/// The ids of all processes, the kernel's own 0 too, and of zombies.
pub(super) fn all() -> io::Result<Vec<c_int>> {
    let mut pids: Vec<c_int> = vec![0; PROCESSES_MAX];
    let size = c_int::try_from(size_of_val(&*pids)).map_err(io::Error::other)?;
    // SAFETY: at most `size` bytes of process ids are written to `pids`, which is as long and borrowed
    // by nobody else.
    let count = unsafe { libc::proc_listallpids(pids.as_mut_ptr().cast::<c_void>(), size) };
    let count = usize::try_from(count).ok().filter(|count| *count > 0);
    let count = count.ok_or_else(io::Error::last_os_error)?;
    // A list that fills the room may be cut.
    if count >= PROCESSES_MAX {
        return Err(io::Error::other(format!("there are {PROCESSES_MAX} processes or more")));
    }
    pids.truncate(count);
    Ok(pids)
}

/// What a process uses; of one that has ended and was not reaped, what it used then.
pub(super) fn usage(pid: c_int) -> io::Result<libc::rusage_info_v4> {
    let mut usage = MaybeUninit::<libc::rusage_info_v4>::zeroed();
    // SAFETY: for this flavour the call writes a `rusage_info_v4` to the address that it is given. Its
    // type in the header is a pointer to a pointer, but no second one is followed.
    let rc = unsafe {
        let out = usage.as_mut_ptr().cast::<libc::rusage_info_t>();
        libc::proc_pid_rusage(pid, libc::RUSAGE_INFO_V4, out)
    };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is integers only, zeroed and then written by the call that succeeded.
    Ok(unsafe { usage.assume_init() })
}

/// A process's name; `None` if it has ended. One that lives and does not show its name has an empty
/// one.
pub(super) fn name_if_alive(pid: c_int) -> Option<String> {
    match info::<libc::proc_bsdinfo>(pid, libc::PROC_PIDTBSDINFO) {
        Ok(seen) if seen.pbi_status == libc::SZOMB => None,
        Ok(seen) => {
            let registered = seen.pbi_name.map(libc::c_char::cast_unsigned);
            let program = seen.pbi_comm.map(libc::c_char::cast_unsigned);
            Some(said::name(&registered, &program))
        }
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => None,
        Err(_) => Some(String::new()),
    }
}

/// Structures of integers that proc_pidinfo fills in.
///
/// # Safety
/// Zero must be a value of every field, and so must any bits.
unsafe trait Info: Sized {}

// SAFETY: both are integers and arrays of them.
unsafe impl Info for libc::proc_bsdinfo {}
// SAFETY: as above.
unsafe impl Info for libc::proc_bsdshortinfo {}

/// What libproc says of a live process. `ESRCH` if there is none.
fn info<T: Info>(pid: c_int, flavor: c_int) -> io::Result<T> {
    let mut seen = MaybeUninit::<T>::zeroed();
    let size = c_int::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: at most `size` bytes are written to `seen`, which is as long and borrowed by nobody else.
    let written =
        unsafe { libc::proc_pidinfo(pid, flavor, 0, seen.as_mut_ptr().cast::<c_void>(), size) };
    if written <= 0 {
        return Err(io::Error::last_os_error());
    }
    if written != size {
        return Err(io::Error::other(format!("proc_pidinfo wrote {written} bytes, not {size}")));
    }
    // SAFETY: it was zeroed, and any bits are a value of it by `Info`.
    Ok(unsafe { seen.assume_init() })
}

/// The answer of `KERN_PROCARGS2`, whole: in a shorter buffer the kernel puts the *end* of it.
fn arguments(pid: c_int) -> io::Result<Vec<u8>> {
    let mut name = [libc::CTL_KERN, libc::KERN_PROCARGS2, pid];
    let mut ask = |buffer: *mut c_void, mut length: usize| {
        // SAFETY: the name is three numbers, as it says; at most `length` bytes are written to `buffer`,
        // which below is null, for the length alone, or has as many; nothing is set.
        let rc = unsafe {
            libc::sysctl(name.as_mut_ptr(), 3, buffer, &raw mut length, ptr::null_mut(), 0)
        };
        if rc == 0 { Ok(length) } else { Err(io::Error::last_os_error()) }
    };
    let length = ask(ptr::null_mut(), 0)?;
    if length > ARGUMENTS_BYTES_MAX {
        return Err(io::Error::other(format!("{length} bytes of arguments")));
    }
    let mut answer = vec![0_u8; length];
    let length = ask(answer.as_mut_ptr().cast(), answer.len())?;
    answer.truncate(length);
    Ok(answer)
}

/// A process id as the system takes it; 0 is the kernel's own, which nobody starts or ends.
fn raw(pid: u32) -> io::Result<c_int> {
    c_int::try_from(pid).ok().filter(|pid| *pid > 0).ok_or_else(|| Errno::ESRCH.into())
}
