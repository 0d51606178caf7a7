//! Children that an earlier supervisor left running.
//!
//! They are found by the process ids it noted and, where that note is gone, by a rank's own `Hello`.
//! A noted id counts only while that process still is what it was: ids are used again.

use std::{io::Read, os::unix::net::UnixStream, path::Path, time::Duration};

use tandem_wire::{FromRank, read_frame};

use super::{
    child::Who,
    launch::{Served, pid_path},
};

/// How long a found socket may take to say `Hello`. Asked at start only, once a socket.
const HELLO_TIMEOUT: Duration = Duration::from_millis(500);

/// A process that was left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stale {
    pub(super) pid: u32,
    pub(super) epoch: u64,
    pub(super) served: Served,
}

/// The process that now runs as this child, if any.
pub(super) fn find(run_dir: &Path, who: Who) -> Option<Stale> {
    if let Some((pid, epoch)) = read_note(&pid_path(run_dir, who)) {
        let is_it = |served: &Served| is_ours(pid, run_dir, who, *served);
        if let Some(served) = Served::ALL.into_iter().find(is_it) {
            return Some(Stale { pid, epoch, served });
        }
    }
    let Who::Rank(rank) = who else { return None };
    let mut stream = UnixStream::connect(run_dir.join(format!("rank-{rank}.sock"))).ok()?;
    stream.set_read_timeout(Some(HELLO_TIMEOUT)).ok()?;
    match read_frame(&mut stream) {
        Ok(FromRank::Hello(hello)) => {
            let is_it = |served: &Served| is_ours(hello.pid, run_dir, who, *served);
            let served = Served::ALL.into_iter().find(is_it).unwrap_or(Served::Together);
            Some(Stale { pid: hello.pid, epoch: hello.epoch, served })
        }
        _ => None,
    }
}

/// The process id and the epoch that were noted.
fn read_note(path: &Path) -> Option<(u32, u64)> {
    let mut text = String::new();
    // Two decimal numbers at most.
    std::fs::File::open(path).ok()?.take(64).read_to_string(&mut text).ok()?;
    let (pid, epoch) = text.trim().split_once(' ')?;
    Some((pid.parse().ok()?, epoch.parse().ok()?))
}

/// Whether a process runs and was started as this child.
fn is_ours(pid: u32, run_dir: &Path, who: Who, served: Served) -> bool {
    let command = tandem_host::command_line(pid);
    let role = match who {
        Who::Gateway => " gateway --config ".to_owned(),
        Who::Rank(rank) => format!(" rank --rank {} --config ", served.rank(rank)),
    };
    command.contains(&format!("{role}{}", served.config_path(run_dir).display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_counts_only_while_its_process_is_what_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let config = Served::Together.config_path(folder.path());
        let mut child = std::process::Command::new("sh")
            .args(["-c", "echo up; read line", "tandem", "rank", "--rank", "1", "--config"])
            .arg(&config)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // Its arguments can be read once it runs, which may be a little after the spawn returns.
        child.stdout.take().unwrap().read_exact(&mut [0; 3]).unwrap();
        let note = format!("{} 9\n", child.id());
        std::fs::write(folder.path().join("rank-1.pid"), &note).unwrap();
        std::fs::write(folder.path().join("rank-0.pid"), &note).unwrap();

        let find = |who| find(folder.path(), who);
        let served = Served::Together;
        assert_eq!(find(Who::Rank(1)), Some(Stale { pid: child.id(), epoch: 9, served }));
        assert_eq!(find(Who::Rank(0)), None, "that process is another rank");
        assert_eq!(find(Who::Gateway), None);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(find(Who::Rank(1)), None, "it ended");
    }
}
