//! What is done with a ledger that can't be used.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::{FileExt, PermissionsExt, symlink},
    path::Path,
};

use support::{found, names, open, order, raw, saved, state};
use tandem_ledger::{FILE_NAME, Ledger, LedgerError, Limits, Opened, Reader};
use tandem_policy::{Event, STATE_VERSION, State};

fn set_aside(opened: Opened) -> (std::path::PathBuf, String) {
    match opened {
        Opened::SetAside { to, why } => (to, why),
        other => panic!("taken as {other:?}"),
    }
}

#[test]
fn what_is_saved_is_found_and_a_first_start_finds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, opened) = open(folder.path());
    assert_eq!(opened, Opened::Fresh);
    drop(ledger);
    (ledger, _) = open(folder.path());
    assert_eq!(open(folder.path()).1, Opened::Fresh, "nothing was saved yet");
    ledger.save(&state(7), &[order(1), order(2)]).unwrap();
    drop(ledger);
    assert_eq!(open(folder.path()).1, Opened::Found(Box::new(state(7))));
    for name in [FILE_NAME, "ledger.db-wal", "ledger.db-shm"] {
        let mode = fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640, "{name}");
    }
}

type Damage = fn(&Path);

#[test]
fn a_ledger_that_cannot_be_used_is_set_aside_whole_and_said_so() {
    let cases: [(&str, Damage, &str); 14] = [
        ("garbage", |path| fs::write(path, vec![0x5a; 50_000]).unwrap(), "not a database"),
        ("emptied", |path| fs::write(path, []).unwrap(), "empty"),
        ("cut to half a page", |path| truncate(path, 2_048), ""),
        ("cut after a page", |path| truncate(path, 4_096), ""),
        ("without its last page", |path| truncate(path, size(path) - 4_096), "malformed"),
        ("a flipped byte in the schema's page", |path| flip(path, 100), ""),
        ("a flipped byte in a table's page", |path| flip(path, page_of(path, "events")), ""),
        ("a flipped digit of the state", |path| flip(path, digit_of_state(path)), "checksum"),
        ("another application's", |path| raw(path, "PRAGMA application_id = 7"), "application"),
        ("a newer version's", |path| raw(path, "PRAGMA user_version = 99"), "version 99"),
        ("a table is gone", |path| raw(path, "DROP TABLE state"), "no such table"),
        ("the state is gone", |path| raw(path, "DELETE FROM state"), "no state"),
        (
            "a directory",
            |path| {
                fs::remove_file(path).unwrap();
                fs::create_dir(path).unwrap();
            },
            "regular",
        ),
        (
            "a link",
            |path| {
                fs::rename(path, path.with_extension("elsewhere")).unwrap();
                symlink(path.with_extension("elsewhere"), path).unwrap();
            },
            "regular",
        ),
    ];
    for (name, damage, reason) in cases {
        let folder = tempfile::tempdir().unwrap();
        let path = saved(folder.path(), 1);
        damage(&path);
        let is_file = fs::symlink_metadata(&path).unwrap().is_file();
        let before = is_file.then(|| fs::read(&path).unwrap());

        let (mut ledger, opened) = open(folder.path());
        let (to, why) = set_aside(opened);
        assert!(why.contains(reason), "{name}: {why}");
        assert_eq!(to, folder.path().join("ledger.corrupt-1.db"), "{name}");
        if let Some(before) = before {
            assert!(fs::read(&to).unwrap() == before, "{name}: kept as it was");
        }

        ledger.save(&state(2), &[order(2)]).unwrap();
        drop(ledger);
        assert_eq!(found(folder.path()), 2, "{name}: the new one works");
    }
}

#[test]
fn a_state_of_another_version_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(folder.path());
    let other = STATE_VERSION + 1;
    ledger.save(&State { version: other, ..state(1) }, &[]).unwrap();
    drop(ledger);
    let (_, why) = set_aside(open(folder.path()).1);
    assert!(why.contains(&format!("version {other}")), "{why}");
}

#[test]
fn asides_are_numbered_never_overwritten_and_three_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    for number in 1..=5_u8 {
        fs::write(folder.path().join(FILE_NAME), [number; 100]).unwrap();
        let (to, _) = set_aside(open(folder.path()).1);
        assert_eq!(to, folder.path().join(format!("ledger.corrupt-{number}.db")));
        assert_eq!(fs::read(to).unwrap(), [number; 100]);
    }
    let asides: Vec<_> =
        names(folder.path()).into_iter().filter(|name| name.contains("corrupt")).collect();
    let mains: Vec<_> = asides.iter().filter(|name| name.ends_with(".db")).collect();
    assert_eq!(mains, ["ledger.corrupt-3.db", "ledger.corrupt-4.db", "ledger.corrupt-5.db"]);
}

#[test]
fn a_start_that_ended_after_setting_aside_is_no_first_start_for_the_next() {
    // After the file was renamed, before a new one was made, with and without the log moved too.
    for (name, moved) in [("all", &["", "-wal", "-shm"][..]), ("only the file", &[""])] {
        let folder = tempfile::tempdir().unwrap();
        let (mut ledger, _) = open(folder.path());
        ledger.save(&state(1), &[]).unwrap();
        drop(ledger);
        for suffix in moved {
            let from = folder.path().join(format!("{FILE_NAME}{suffix}"));
            fs::rename(from, folder.path().join(format!("ledger.corrupt-1.db{suffix}"))).unwrap();
        }
        set_aside(open(folder.path()).1);
        set_aside(open(folder.path()).1);
        let (mut ledger, _) = open(folder.path());
        ledger.save(&state(2), &[]).unwrap();
        drop(ledger);
        assert_eq!(found(folder.path()), 2, "{name}");
    }
}

#[test]
fn a_log_without_its_file_is_a_loss() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(folder.path());
    ledger.save(&state(1), &[]).unwrap();
    drop(ledger);
    fs::remove_file(folder.path().join(FILE_NAME)).unwrap();
    let (_, why) = set_aside(open(folder.path()).1);
    assert!(why.contains("log"), "{why}");
}

#[test]
fn what_only_the_log_of_a_crash_holds_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(folder.path());
    ledger.save(&state(1), &[order(1)]).unwrap();
    // As a power cut would leave it: copied while the writer lives, with the index lost.
    let after = tempfile::tempdir().unwrap();
    for name in [FILE_NAME, "ledger.db-wal"] {
        fs::copy(folder.path().join(name), after.path().join(name)).unwrap();
    }
    assert_eq!(found(after.path()), 1);

    // A log that ends in half a save holds what was saved before.
    let whole = size(&folder.path().join("ledger.db-wal"));
    ledger.save(&state(2), &[order(2)]).unwrap();
    let torn = tempfile::tempdir().unwrap();
    for name in [FILE_NAME, "ledger.db-wal"] {
        fs::copy(folder.path().join(name), torn.path().join(name)).unwrap();
    }
    let log = torn.path().join("ledger.db-wal");
    assert!(size(&log) > whole, "the second save added to the log");
    truncate(&log, size(&log) - 100);
    assert_eq!(found(torn.path()), 1);
    assert_eq!(Reader::open(torn.path()).unwrap().events(None, 10, None).unwrap().events.len(), 1);
}

#[test]
fn an_unfinished_new_ledger_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("ledger.new.db"), "half").unwrap();
    assert_eq!(open(folder.path()).1, Opened::Fresh);
    assert!(!names(folder.path()).iter().any(|name| name.contains("new")));
}

#[test]
fn a_folder_that_is_not_there_is_an_error_and_nothing_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("gone");
    let Err(error) = Ledger::open(&gone, Limits::default()) else { panic!("opened") };
    assert!(error.to_string().contains("gone"), "{error}");
    let Err(error) = Reader::open(&gone) else { panic!("opened") };
    assert!(matches!(error, LedgerError::Missing(_)), "{error}");
}

#[test]
fn a_file_that_was_taken_away_while_in_use_is_not_written_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(folder.path());
    ledger.save(&state(1), &[]).unwrap();
    fs::remove_file(folder.path().join(FILE_NAME)).unwrap();
    let error = ledger.save(&state(2), &[]).unwrap_err();
    assert!(error.needs_reopen(), "{error}");
    drop(ledger);
    let (mut ledger, opened) = open(folder.path());
    set_aside(opened);
    ledger.save(&state(2), &[]).unwrap();
    drop(ledger);
    assert_eq!(found(folder.path()), 2);
}

#[test]
fn a_state_that_would_not_be_read_again_is_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(folder.path());
    ledger.save(&state(1), &[]).unwrap();
    let large = State { rank_plan: "x".repeat(2 << 20), ..state(2) };
    let error = ledger.save(&large, &[order(1)]).unwrap_err();
    assert!(matches!(error, LedgerError::StateTooLarge { .. }), "{error}");
    drop(ledger);
    assert_eq!(found(folder.path()), 1);
    let reader = Reader::open(folder.path()).unwrap();
    let events: Vec<(i64, Event)> = reader.events(None, 10, None).unwrap().events;
    assert_eq!(events, [], "nor are its events");
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

fn truncate(path: &Path, size_bytes: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(size_bytes).unwrap();
}

fn flip(path: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x01], offset).unwrap();
}

/// Where a table's first page begins.
fn page_of(path: &Path, table: &str) -> u64 {
    let connection = rusqlite::Connection::open(path).unwrap();
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    let page: i64 = connection.query_row(sql, [table], |row| row.get(0)).unwrap();
    (page as u64 - 1) * 4_096
}

/// Where the state says its epoch.
fn digit_of_state(path: &Path) -> u64 {
    let bytes = fs::read(path).unwrap();
    let key = b"\"epoch\":1,";
    let found = bytes.windows(key.len()).position(|window| window == key).unwrap();
    (found + key.len() - 2) as u64
}
