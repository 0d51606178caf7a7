//! The end of a child, learned before its process id is given back.

#![allow(unsafe_code)]

use std::{io, mem::MaybeUninit};

/// Waits until a child of this process has ended, and leaves it to be waited for: until then its id, and
/// that of the group that it leads, belong to no other process, so a signal that is on its way can meet
/// nobody else.
///
/// # Errors
/// It is no child of this process, or was waited for already.
pub fn await_end(pid: u32) -> io::Result<()> {
    let mut seen = MaybeUninit::<libc::siginfo_t>::zeroed();
    loop {
        // SAFETY: the call writes at most one `siginfo_t` to `seen`, which is one, and which nobody else
        // uses; nothing of it is read.
        let rc = unsafe {
            libc::waitid(libc::P_PID, pid, seen.as_mut_ptr(), libc::WEXITED | libc::WNOWAIT)
        };
        if rc == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use nix::{errno::Errno, sys::signal::kill, unistd::Pid};

    use super::*;

    #[test]
    fn a_child_that_has_ended_keeps_its_id_until_it_is_waited_for() {
        let mut child = Command::new("sh")
            .args(["-c", "read line; exit 7"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(child.id().try_into().unwrap());
        drop(child.stdin.take());
        await_end(child.id()).unwrap();
        await_end(child.id()).unwrap();
        assert_eq!(kill(pid, None), Ok(()), "nobody else can have this id yet");
        assert_eq!(child.wait().unwrap().code(), Some(7));
        assert_eq!(kill(pid, None), Err(Errno::ESRCH));
        await_end(child.id()).unwrap_err();
    }
}
