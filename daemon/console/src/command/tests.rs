//! What the commands print, and their exit codes, on statuses as a supervisor would publish them.

mod explained;
mod hostile;
mod paired;
mod recorded;
mod views;
mod watched;
mod whole;

use std::{io, time::Duration};

use tandem_evidence::Catalogue;
use tandem_ledger::{Ledger, Limits};
use tandem_policy::{Event, State, Status, What, invariant::Invariant};

use super::fixtures::NOW_WALL_MS;
use crate::{Asked, Style};

fn plain() -> Style {
    Style::plain(NOW_WALL_MS)
}

fn asked(status: &Status) -> Asked {
    let json = serde_json::to_string(status).unwrap();
    Asked { status: status.clone(), json, age: Duration::ZERO }
}

fn printed(print: impl FnOnce(&mut Vec<u8>) -> io::Result<i32>) -> (i32, String) {
    let mut out = Vec::new();
    let code = print(&mut out).unwrap();
    (code, String::from_utf8(out).unwrap())
}

/// Compares line by line, so that a failure shows the line.
#[track_caller]
fn assert_lines(text: &str, expected: &[&str]) {
    let lines: Vec<&str> = text.lines().collect();
    for (n, (got, wanted)) in lines.iter().zip(expected).enumerate() {
        assert_eq!(got, wanted, "line {n} of\n{text}");
    }
    assert_eq!(lines.len(), expected.len(), "{text}");
}

/// Nothing that a terminal obeys but line ends and, if `color`, our own colours.
#[track_caller]
fn assert_harmless(text: &str, color: bool) {
    let mut bare = text.replace('\n', "");
    if color {
        for code in ["\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[2m", "\x1b[0m"] {
            bare = bare.replace(code, "");
        }
    }
    assert!(!bare.chars().any(|c| c.is_control() || c == '\u{202e}'), "{bare:?}");
}

/// A catalogue whose texts do not change with the one that ships.
fn catalogue() -> Catalogue {
    let text = r#"
        [[signature]]
        id = "ring-peer-lost"
        source = "output"
        pattern = 'Receiving from socket failed'
        meaning = "A rank is gone."
        action = "restart"
        remedy = "None; the ranks start again."
    "#;
    Catalogue::parse(text, "test").unwrap()
}

/// A ledger with these events, in a folder of its own.
fn ledger(events: &[Event]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, _) = Ledger::open(folder.path(), Limits::default()).unwrap();
    ledger.save(&State::new("9D3F"), events).unwrap();
    folder
}

fn event(age_ms: u64, what: What) -> Event {
    Event { wall_ms: NOW_WALL_MS - age_ms, boot_ms: 1_000, what }
}

/// Some hours of a supervisor.
fn story() -> Vec<Event> {
    let started = What::Started { boot: "9D3F".into(), is_new_boot: true, version: "0.1.0".into() };
    let drift = || What::Drift {
        invariant: Invariant::LinkMtu,
        found: "1500".into(),
        wanted: "9000".into(),
    };
    let epoch = |from: &str, to: &str, cause: Option<&str>| What::Epoch {
        epoch: 3,
        from: from.into(),
        to: to.into(),
        cause: cause.map(Into::into),
    };
    vec![
        event(7_300_000, started),
        event(7_260_000, epoch("starting", "serving", None)),
        event(600_000, drift()),
        event(590_000, What::Held { invariant: Invariant::LinkMtu, after_ms: 10_000 }),
        event(180_000, drift()),
        event(2_000, epoch("serving", "stopping", Some("rank 1: exit code 82"))),
        event(1_000, What::Order { order: "evil\x1b[2J\n".into() }),
    ]
}
