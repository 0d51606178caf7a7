//! A process that is killed while it saves.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use support::{example, found};
use tandem_ledger::Reader;
use tandem_policy::What;

/// Kills; each takes some milliseconds.
const KILLS: u64 = 30;

#[test]
fn what_was_told_to_be_saved_is_there_whole_after_a_kill_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let mut told = 0;
    for kill in 0..KILLS {
        let mut child = Command::new(example("saver"))
            .arg("endless")
            .arg(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Once it saves, at a moment that differs each time; most lie within a save.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next().expect("it ended by itself").unwrap();
        thread::sleep(Duration::from_micros(kill * 7_919 % 40_000));
        child.kill().unwrap();
        child.wait().unwrap();
        // All that it wrote to the pipe, which outlives it.
        let last = lines.map_while(Result::ok).last().unwrap_or(first);
        let last: u64 = last.parse().unwrap();
        assert!(last > told, "kill {kill}: each run goes on from the one before");
        told = last;

        let saved = found(folder.path());
        // At most one save is there that nobody was told of.
        assert!(saved == told || saved == told + 1, "kill {kill}: {saved} after {told}");
        assert_eq!(halves(folder.path()), (saved, 2 * saved), "kill {kill}: events without state");
    }
}

/// The number that the last event names, and how many events there are.
fn halves(folder: &std::path::Path) -> (u64, u64) {
    let reader = Reader::open(folder).unwrap();
    let last = reader.events(None, 1, None).unwrap().events.remove(0);
    let What::Order { order } = last.1.what else { panic!("{last:?}") };
    let (number, half) = order.split_once(' ').unwrap();
    assert!(half.starts_with("second"), "half a save: {order}");
    (number.parse().unwrap(), last.0.unsigned_abs())
}
