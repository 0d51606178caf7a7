//! Shared by the tests: states, events and raw access to the file.

#![allow(dead_code, unreachable_pub)]

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tandem_ledger::{FILE_NAME, Finish, Ledger, Limits, Opened, Request};
use tandem_policy::{Event, State, What};

/// The number is the state's epoch, by which tests tell states apart.
pub fn state(number: u64) -> State {
    State { epoch: number, ..State::new("boot") }
}

pub fn event(number: u64, what: What) -> Event {
    Event { wall_ms: 1_000_000 + number, boot_ms: number, what }
}

pub fn order(number: u64) -> Event {
    event(number, What::Order { order: format!("order {number}") })
}

pub fn request(number: u64) -> Request {
    Request {
        id: format!("request-{number}"),
        wall_ms: number,
        model: "model".to_owned(),
        prompt_tokens: 100,
        cached_tokens: 40,
        completion_tokens: 10,
        first_token_ms: Some(number),
        total_ms: 2 * number,
        finish: Finish::Stop,
        status: 200,
        canary: false,
        epoch: Some(1),
    }
}

pub fn open(folder: &Path) -> (Ledger, Opened) {
    Ledger::open(folder, Limits::default()).unwrap()
}

/// Opens what must be whole; returns its state's number.
pub fn found(folder: &Path) -> u64 {
    match open(folder).1 {
        Opened::Found(state) => state.epoch,
        other => panic!("{other:?}"),
    }
}

/// A ledger with one save of this number, and all of it in the file.
pub fn saved(folder: &Path, number: u64) -> PathBuf {
    let (mut ledger, _) = open(folder);
    ledger.save(&state(number), &[order(number)]).unwrap();
    drop(ledger);
    let path = folder.join(FILE_NAME);
    raw(&path, "PRAGMA wal_checkpoint(TRUNCATE)");
    path
}

/// What no ledger would do to its file.
pub fn raw(path: &Path, sql: &str) {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(sql).unwrap();
}

/// An example of this crate. Cargo builds examples with the tests of the whole package, but not
/// with one test file alone (`--test NAME`): build them first then.
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(
        path.exists(),
        "{} is missing: cargo build -p tandem-ledger --examples",
        path.display()
    );
    path
}

pub fn names(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.unwrap().file_name().into_string().unwrap()
    };
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(name).collect();
    names.sort();
    names
}
