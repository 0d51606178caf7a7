//! Other processes: their command line, whether they run, when they end.

#![allow(unsafe_code)]

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{FromRawFd, OwnedFd},
};

use tokio::io::{Interest, unix::AsyncFd};

use super::procfs;

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
