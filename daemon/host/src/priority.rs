//! Who goes first where processes want more of the CPU than there is.

#![allow(unsafe_code)]

use std::io;

/// Nice value of what goes first. Against others at 0 Linux gives it three quarters of a core that both
/// want (`sched_prio_to_weight` in kernel/sched/core.c); macOS adds it to the base priority.
const FIRST_NICE: i32 = -5;

/// Has the process group that this child leads, with all its threads and all that it will start, go
/// before others.
///
/// # Errors
/// This process may not do that (only root may), or there is no such group.
pub fn put_first(group: u32) -> io::Result<()> {
    // The type of the first argument is not the same on all systems.
    // SAFETY: the call takes numbers only.
    let rc = unsafe { libc::setpriority(libc::PRIO_PGRP as _, group, FIRST_NICE) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::CommandExt, process::Command};

    use nix::unistd::Uid;

    use super::*;

    #[test]
    fn a_child_goes_first_where_root_starts_it() {
        let mut child = Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
        // SAFETY: the call takes numbers only.
        let nice = || unsafe { libc::getpriority(libc::PRIO_PROCESS as _, child.id()) };
        let before = nice();
        let outcome = put_first(child.id());
        let after = nice();
        let pid = child.id();
        child.kill().unwrap();
        child.wait().unwrap();
        let expected = if Uid::effective().is_root() { FIRST_NICE } else { before };
        assert_eq!((outcome.is_ok(), after), (Uid::effective().is_root(), expected));
        put_first(pid).unwrap_err();
    }
}
