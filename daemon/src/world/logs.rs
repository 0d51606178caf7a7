//! Children's output. Each child writes to a file of its own, which outlives a supervisor: a pipe
//! would break with it, and with the pipe the child. The supervisor reads what is new ([`tail`]), passes
//! it on to its own log, and looks for signatures of crashes in it.
//!
//! A child may write as fast as it likes, since what took hold of it decides that. What is read, what lies
//! on the disk and what is passed on have bounds each, and its last lines are always read and passed on:
//! they say why it ended.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Stdio,
};

use tracing::{debug, error, info, trace, warn};

use super::{child::Who, own_file::replace};
use crate::log;

mod allowance;
mod tail;

pub(super) use tail::Output;

/// Where a child's output goes.
pub(super) fn output_path(run_dir: &Path, who: Who) -> PathBuf {
    run_dir.join(format!("{}.log", who.name()))
}

/// Where the gateway's records of requests go.
pub(super) fn requests_path(run_dir: &Path) -> PathBuf {
    run_dir.join("requests.log")
}

/// Makes a child's output file anew, keeping the last one beside it, and returns it twice: as the
/// child's standard output and error.
pub(super) fn create(path: &Path) -> io::Result<(Stdio, Stdio)> {
    match replace(path, &path.with_extension("old.log")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Appending, so that cutting the file does not leave a hole before the child's next line.
    let file = fs::OpenOptions::new().append(true).create_new(true).mode(0o640).open(path)?;
    Ok((Stdio::from(file.try_clone()?), Stdio::from(file)))
}

/// Logs a line at the level its own writer gave it.
pub(super) fn emit(who: Who, epoch: u64, line: &str) {
    let (level, text) = split_level(line);
    macro_rules! at {
        ($log:ident) => {
            match who {
                Who::Gateway => $log!(target: log::GATEWAY, role = "gateway", "{text}"),
                Who::Rank(rank) => $log!(target: log::RANK, role = "rank", rank, epoch, "{text}"),
            }
        };
    }
    match level {
        "ERROR" => at!(error),
        "WARN" => at!(warn),
        "DEBUG" => at!(debug),
        "TRACE" => at!(trace),
        _ => at!(info),
    }
}

/// Our own processes begin each line with its level; a line of a library or a panic does not.
fn split_level(line: &str) -> (&str, &str) {
    let trimmed = line.trim_start();
    match trimmed.split_once(' ') {
        Some((level @ ("ERROR" | "WARN" | "INFO" | "DEBUG" | "TRACE"), text)) => {
            (level, text.trim_start())
        }
        _ => ("INFO", line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::own_file::tests::PLANTS;

    #[test]
    fn an_output_file_is_made_whatever_stands_in_its_place_or_in_that_of_the_last_one() {
        for (name, plant) in PLANTS {
            for place in ["rank-0.log", "rank-0.old.log"] {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("rank-0.log");
                if place.contains("old") {
                    fs::write(&path, "last").unwrap();
                }
                plant(&folder.path().join(place));
                create(&path).unwrap_or_else(|error| panic!("{name} as {place}: {error}"));
                let made = fs::symlink_metadata(&path).unwrap();
                assert!(made.is_file() && made.len() == 0, "{name} as {place}");
            }
        }
    }

    #[test]
    fn a_line_keeps_its_own_level() {
        assert_eq!(split_level(" WARN slow disk"), ("WARN", "slow disk"));
        assert_eq!(split_level("ERROR x: y"), ("ERROR", "x: y"));
        assert_eq!(split_level("thread 'main' panicked"), ("INFO", "thread 'main' panicked"));
    }
}
