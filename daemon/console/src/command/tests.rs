//! What the commands print, and their exit codes, on statuses as a supervisor would publish them.

mod events;
mod ledger;
mod views;
mod whole;

use std::{io, time::Duration};

use tandem_policy::Status;

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
