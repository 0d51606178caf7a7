//! What a child may not do, set between its fork and its start, where nothing of its own runs yet.

#![allow(unsafe_code)]

use std::{io, os::unix::process::CommandExt, process::Command};

use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::{SigHandler, Signal, signal},
};

use crate::platform;

/// The bounds of a child and of all that it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// Largest file that it may write, in bytes. A write beyond it fails with `EFBIG`, and the child
    /// goes on.
    pub file_bytes_max: u64,
    /// Most processes of its user, on Linux most threads; `None` for a user that has other business
    /// than this.
    pub processes_max: Option<u64>,
}

/// Has a command start a child with these bounds, from which no child comes back, and which no program
/// that it starts can shed: where the system has such a thing (Linux), none of them gains rights by the
/// set-user-id bit of a file.
pub fn confine(command: &mut Command, bounds: Confinement) {
    // SAFETY: the closure runs in the child between fork and exec. It makes system calls only, which are
    // safe there, allocates nothing and takes no lock; an error is a number.
    unsafe {
        command.pre_exec(move || {
            lower(Resource::RLIMIT_FSIZE, bounds.file_bytes_max)?;
            if let Some(most) = bounds.processes_max {
                lower_processes(most)?;
            }
            // Ignored, which outlives the exec: the signal would end a child that only logs too much.
            signal(Signal::SIGXFSZ, SigHandler::SigIgn)?;
            platform::gain_no_rights()
        });
    }
}

/// Lowers both limits to this, or leaves the hard one where it is lower.
fn lower(resource: Resource, most: u64) -> io::Result<()> {
    let (_, hard) = getrlimit(resource)?;
    let limit = most.min(hard);
    Ok(setrlimit(resource, limit, limit)?)
}

/// The same for processes, which nix has for some systems only.
fn lower_processes(most: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes to `limit`, which nobody else uses.
    if unsafe { libc::getrlimit(libc::RLIMIT_NPROC, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let most = most.min(limit.rlim_max);
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: the call only reads `limit`.
    let rc = unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_child_is_bounded_and_lives_on_when_it_meets_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("out");
        let script = "ulimit -f; ulimit -Hf; (ulimit -u) 2>/dev/null || ulimit -p
                      (yes | head -c 20000 >\"$1\") 2>/dev/null; echo lives on
                      grep NoNewPrivs /proc/self/status || echo no such file";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(&file);
        // Bounds that this process itself does not have.
        confine(&mut command, Confinement { file_bytes_max: 8192, processes_max: Some(3_000) });
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = said.lines().collect();
        // In blocks of 512 bytes (POSIX), soft and hard.
        assert_eq!(&lines[..4], ["16", "16", "3000", "lives on"], "{said}");
        assert_eq!(fs::metadata(&file).unwrap().len(), 8192);
        if cfg!(target_os = "linux") {
            assert_eq!(lines[4].split_whitespace().last(), Some("1"), "{said}");
        }
    }
}
