//! Other processes: their command line, whether they run, when they end.

#![allow(unsafe_code)]

use std::{
    fs::{self, File},
    io::{self, Read},
    os::{
        fd::{FromRawFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::PathBuf,
};

use tokio::io::{Interest, unix::AsyncFd};

use super::procfs;
use crate::identity::Identity;

/// Most of a command line that is read: far more than any of ours has.
const COMMAND_BYTES_MAX: u64 = 64 * 1024;

/// Longest `/proc/PID/stat` and `/proc/PID/status`: the first has some 350 bytes, the second 1.5
/// KiB, and more for the lists of groups, CPUs and memory nodes of a large machine.
pub(super) const STATUS_BYTES_MAX: u64 = 64 * 1024;

/// A process's arguments in one line; empty if there is none, or only its exit status is left.
pub fn command_line(pid: u32) -> String {
    let mut bytes = Vec::new();
    // What was read before an error counts: the process may end meanwhile.
    let _ = File::open(format!("/proc/{pid}/cmdline"))
        .and_then(|file| file.take(COMMAND_BYTES_MAX).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// Whether a process runs, and does not just wait to be reaped. A process id is used again, so
/// this says nothing about what runs under it.
pub fn is_running(pid: u32) -> bool {
    procfs::read(format!("/proc/{pid}/stat"), STATUS_BYTES_MAX)
        .is_ok_and(|text| state(&text).is_some_and(|state| !matches!(state, 'Z' | 'X' | 'x')))
}

/// The state letter of `/proc/PID/stat` (proc_pid_stat(5)). It follows the name, which is in
/// brackets and may hold brackets and blanks itself.
fn state(stat: &str) -> Option<char> {
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Who a process is. Another user's needs root.
///
/// # Errors
/// There is no such process, or only its exit status is left of it, or it may not be looked at.
pub fn identity(pid: u32) -> io::Result<Identity> {
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "an odd file of /proc");
    let stat = || {
        let text = procfs::read(format!("/proc/{pid}/stat"), STATUS_BYTES_MAX)?;
        group_and_start(&text).ok_or_else(odd)
    };
    let (group, started) = stat()?;
    let status = procfs::read(format!("/proc/{pid}/status"), STATUS_BYTES_MAX)?;
    let uids = uids(&status).ok_or_else(odd)?;
    let executable = said_of_link(fs::read_link(format!("/proc/{pid}/exe"))?);
    // Its id may have been used again between two readings.
    if stat()? != (group, started) {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(Identity { uids, group, executable, started })
}

/// The path in `/proc/PID/exe`, without the note that the file is gone, which the kernel adds when a
/// new version was put in its place.
fn said_of_link(path: PathBuf) -> PathBuf {
    match path.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
        Some(path) => std::ffi::OsString::from_vec(path.to_vec()).into(),
        None => path,
    }
}

/// Process group and time of start from `/proc/PID/stat`: fields 5 and 22 (proc_pid_stat(5)).
fn group_and_start(stat: &str) -> Option<(u32, u64)> {
    // The first after the name is field 3.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let group = fields.nth(2)?.parse().ok()?;
    Some((group, fields.nth(16)?.parse().ok()?))
}

/// Real, effective and saved user from `/proc/PID/status`.
fn uids(status: &str) -> Option<[u32; 3]> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    let mut uids = line.split_ascii_whitespace().map(|uid| uid.parse().ok());
    Some([uids.next()??, uids.next()??, uids.next()??])
}

/// Gives up for good, for this process and all that it starts, what set-user-id files give.
pub(crate) fn gain_no_rights() -> io::Result<()> {
    // SAFETY: with this option prctl takes numbers only and touches no memory.
    let rc = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits until a process that need not be our child has ended; a zombie has. Returns at once if
/// there is none of that id. Must be called in a tokio runtime.
///
/// # Errors
/// The system's, such as too many open files.
pub async fn exited(pid: u32) -> io::Result<()> {
    let Some(pidfd) = open_pidfd(pid)? else { return Ok(()) };
    // It becomes readable when the process ends, and stays so (pidfd_open(2)).
    // SAFETY: the descriptor is owned, so it stays open, and the same one, until the `AsyncFd` that
    // it is moved into is dropped.
    let pidfd = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?;
    pidfd.readable().await.map(drop)
}

fn open_pidfd(pid: u32) -> io::Result<Option<OwnedFd>> {
    // 0 would mean the caller itself.
    let Some(pid) = i32::try_from(pid).ok().filter(|pid| *pid > 0) else { return Ok(None) };
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if let Ok(fd) = i32::try_from(fd)
        && fd >= 0
    {
        // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns. The kernel
        // opens it close-on-exec.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }));
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ESRCH) { Ok(None) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, test_runner::RngSeed};

    use super::*;

    #[test]
    fn the_state_follows_a_name_that_may_hold_anything() {
        for (stat, expected) in [
            ("7 (sleep) S 1 7 7 0", Some('S')),
            ("7 (a) Z (b) ) R 1 7", Some('R')),
            ("7 ((sd-pam)) Z 1 7", Some('Z')),
            ("7 (cut", None),
            ("7 (cut) ", None),
            ("", None),
        ] {
            assert_eq!(state(stat), expected, "{stat:?}");
        }
    }

    #[test]
    fn a_process_is_told_from_others_by_its_user_group_program_and_start() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let (own, other) = (identity(std::process::id()).unwrap(), identity(child.id()).unwrap());
        assert_eq!(own.executable, std::env::current_exe().unwrap().canonicalize().unwrap());
        assert_eq!(own.uids, [nix::unistd::geteuid().as_raw(); 3]);
        assert_eq!(own.group, u32::try_from(nix::unistd::getpgrp().as_raw()).unwrap());
        assert_eq!((own.group, own.uids), (other.group, other.uids));
        assert!(own.started <= other.started && own.executable != other.executable);
        assert_eq!(identity(child.id()).unwrap(), other, "it stays the same");
        child.kill().unwrap();
        crate::await_end(child.id()).unwrap();
        identity(child.id()).unwrap_err();
        child.wait().unwrap();
        for pid in [0, child.id(), u32::MAX] {
            identity(pid).unwrap_err();
        }
    }

    #[test]
    fn what_is_said_of_a_process_is_read_past_any_name() {
        let rest = "S 1 5 6 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 8123456789 9 9";
        assert_eq!(group_and_start(&format!("7 (a) R 1 1 (b) ) {rest}")), Some((5, 8_123_456_789)));
        assert_eq!(group_and_start("7 (cut) S 1 5"), None);
        assert_eq!(uids("Name:\tUid: 0\nUid:\t1\t2\t3\t4\n"), Some([1, 2, 3]));
        for odd in ["Uid:\t1\t2\n", "Uid:\t-1\t2\t3\t4", "Gid:\t1\t2\t3\t4", ""] {
            assert_eq!(uids(odd), None, "{odd:?}");
        }
        assert_eq!(said_of_link("/bin/tandem (deleted)".into()), PathBuf::from("/bin/tandem"));
    }

    #[test]
    fn no_process_has_id_zero() {
        assert!(!is_running(0));
        assert_eq!(command_line(0), "");
    }

    proptest! {
        // The same cases in every run.
        #![proptest_config(ProptestConfig {
            rng_seed: RngSeed::Fixed(7), failure_persistence: None, ..Default::default()
        })]

        #[test]
        fn any_name_leaves_the_state_readable(name in "\\PC{0,15}", letter in "[A-Z]", any: String) {
            let stat = format!("7 ({name}) {letter} 1 7 7 0 -1");
            prop_assert_eq!(state(&stat), letter.chars().next());
            let _ = state(&any);
        }
    }
}
