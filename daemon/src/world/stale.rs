//! Children that an earlier supervisor left running.
//!
//! They are found by the process ids it noted and, where that note is gone, by a rank's own `Hello`.
//! A noted id counts only while that process still is what it was: ids are used again.

use std::{io::Read, os::unix::net::UnixStream, path::Path, time::Duration};

use tandem_wire::{FromRank, read_frame};

use super::{child::Who, launch::pid_path};

/// How long a found socket may take to say `Hello`. Asked at start only, once a socket.
const HELLO_TIMEOUT: Duration = Duration::from_millis(500);

/// A process that was left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stale {
    pub(super) pid: u32,
    pub(super) epoch: u64,
}

/// The process that now runs as this child, if any.
pub(super) fn find(run_dir: &Path, config_path: &Path, who: Who) -> Option<Stale> {
    let noted = read_note(&pid_path(run_dir, who));
    if let Some(stale) = noted.filter(|stale| is_ours(stale.pid, config_path, who)) {
        return Some(stale);
    }
    let Who::Rank(rank) = who else { return None };
    let mut stream = UnixStream::connect(run_dir.join(format!("rank-{rank}.sock"))).ok()?;
    stream.set_read_timeout(Some(HELLO_TIMEOUT)).ok()?;
    match read_frame(&mut stream) {
        Ok(FromRank::Hello(hello)) => Some(Stale { pid: hello.pid, epoch: hello.epoch }),
        _ => None,
    }
}

fn read_note(path: &Path) -> Option<Stale> {
    let mut text = String::new();
    // Two decimal numbers at most.
    std::fs::File::open(path).ok()?.take(64).read_to_string(&mut text).ok()?;
    let (pid, epoch) = text.trim().split_once(' ')?;
    Some(Stale { pid: pid.parse().ok()?, epoch: epoch.parse().ok()? })
}

/// Whether a process runs and was started as this child.
fn is_ours(pid: u32, config_path: &Path, who: Who) -> bool {
    let command = tandem_host::command_line(pid);
    let role = match who {
        Who::Gateway => " gateway --config ".to_owned(),
        Who::Rank(rank) => format!(" rank --rank {rank} --config "),
    };
    command.contains(&format!("{role}{}", config_path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_counts_only_while_its_process_is_what_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("tandem.toml");
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

        let find = |who| find(folder.path(), &config, who);
        assert_eq!(find(Who::Rank(1)), Some(Stale { pid: child.id(), epoch: 9 }));
        assert_eq!(find(Who::Rank(0)), None, "that process is another rank");
        assert_eq!(find(Who::Gateway), None);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(find(Who::Rank(1)), None, "it ended");
    }
}
