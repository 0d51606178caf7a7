//! SQL that somebody typed.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use support::{names, open, order, request, state};
use tandem_ledger::{Cell, QueryError, QueryLimits, Reader};

fn ledger() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(folder.path());
    ledger.save(&state(1), &[order(1), order(2), order(3)]).unwrap();
    ledger.record_requests(&[request(1)]).unwrap();
    folder
}

#[test]
fn what_reads_is_answered() {
    let folder = ledger();
    let reader = Reader::open(folder.path()).unwrap();
    let text = |text: &str| Cell::Text(text.to_owned());
    let cases = [
        ("SELECT count(*) FROM events", vec![Cell::Integer(3)]),
        ("SELECT text FROM orders ORDER BY id LIMIT 1;", vec![text("order 1")]),
        ("SELECT json ->> 'epoch' FROM state", vec![Cell::Integer(1)]),
        (
            "SELECT total_ms, epoch, finish FROM requests",
            vec![Cell::Integer(2), Cell::Integer(1), text("stop")],
        ),
        ("SELECT NULL, 1.5, x'00ff'", vec![Cell::Null, Cell::Real(1.5), Cell::Blob(vec![0, 255])]),
        ("PRAGMA user_version", vec![Cell::Integer(1)]),
        ("SELECT count(*) > 0 FROM pragma_table_info('requests')", vec![Cell::Integer(1)]),
        ("WITH a AS (SELECT 2 AS b) SELECT b FROM a -- and a comment", vec![Cell::Integer(2)]),
        (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) \
             SELECT max(i) FROM n",
            vec![Cell::Integer(9)],
        ),
    ];
    for (sql, expected) in cases {
        let table = reader.query(sql, &QueryLimits::default()).unwrap();
        assert_eq!(table.rows, [expected], "{sql}");
        assert!(!table.truncated, "{sql}");
    }
    let table = reader.query("SELECT id, kind AS what FROM events", &QueryLimits::default());
    assert_eq!(table.unwrap().columns, ["id", "what"]);
}

#[test]
fn what_writes_or_reaches_outside_is_refused_and_changes_nothing() {
    let folder = ledger();
    let reader = Reader::open(folder.path()).unwrap();
    let elsewhere = folder.path().join("elsewhere.db");
    let before = names(folder.path());
    let forbidden = [
        "INSERT INTO events (wall_ms, boot_ms, boot, kind, json) VALUES (1, 1, '', '', '{}')",
        "UPDATE state SET json = ''",
        "DELETE FROM requests",
        "DELETE FROM requests RETURNING id",
        "DROP TABLE events",
        "CREATE TABLE more (a)",
        "CREATE TEMP TABLE more (a)",
        &format!("ATTACH '{}' AS other", elsewhere.display()),
        "DETACH main",
        "VACUUM",
        &format!("VACUUM INTO '{}'", elsewhere.display()),
        "PRAGMA journal_mode",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA journal_mode(DELETE)",
        "PRAGMA query_only = 0",
        "PRAGMA writable_schema = 1",
        "PRAGMA user_version = 9",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "PRAGMA temp_store_directory = '/'",
        "PRAGMA hard_heap_limit = 1",
        "BEGIN",
        "BEGIN IMMEDIATE",
        "SAVEPOINT a",
        "REINDEX",
        "ANALYZE",
        "SELECT load_extension('elsewhere')",
        "SELECT fts3_tokenizer('simple')",
        "SELECT FTS3_Tokenizer('simple', x'00')",
    ];
    for sql in forbidden {
        let refused = reader.query(sql, &QueryLimits::default());
        // A function that is not there at all is refused too.
        assert!(
            matches!(refused, Err(QueryError::Forbidden(_)))
                || (sql.contains('(') && refused.is_err()),
            "{sql}: {refused:?}"
        );
    }
    assert_eq!(names(folder.path()), before);
    let table = reader.query("SELECT count(*) FROM events", &QueryLimits::default()).unwrap();
    assert_eq!(table.rows, [[Cell::Integer(3)]]);
    drop(reader);
    assert_eq!(support::found(folder.path()), 1);
}

#[test]
fn what_is_not_one_statement_is_refused() {
    let folder = ledger();
    let reader = Reader::open(folder.path()).unwrap();
    for sql in ["", "  -- nothing", ";", "SELECT 1; SELECT 2", "SELECT 1; ; SELECT 2"] {
        let refused = reader.query(sql, &QueryLimits::default());
        assert!(matches!(refused, Err(QueryError::NotOne)), "{sql:?}: {refused:?}");
    }
    let refused = reader.query("SELECT 1; DROP TABLE events", &QueryLimits::default());
    assert!(refused.is_err(), "{refused:?}");
    let refused =
        reader.query(&format!("SELECT '{}'", "x".repeat(1 << 20)), &QueryLimits::default());
    assert!(matches!(refused, Err(QueryError::TooLong { .. })), "{refused:?}");
    let unknown = reader.query("SELECT nothing FROM nowhere", &QueryLimits::default()).unwrap_err();
    assert!(unknown.to_string().contains("nowhere"), "{unknown}");
}

#[test]
fn an_answer_is_bounded_in_rows_cells_and_bytes() {
    let folder = ledger();
    let reader = Reader::open(folder.path()).unwrap();
    let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";
    let limits = QueryLimits { rows_max: 10, ..QueryLimits::default() };
    let table = reader.query(numbers, &limits).unwrap();
    assert_eq!((table.rows.len(), table.truncated), (10, true));

    let limits = QueryLimits { rows_max: 3, ..QueryLimits::default() };
    let table = reader.query("SELECT id FROM events", &limits).unwrap();
    assert_eq!((table.rows.len(), table.truncated), (3, false), "all there are");

    let limits = QueryLimits { cell_bytes_max: 4, ..QueryLimits::default() };
    let table = reader.query("SELECT 'abcdef', 'abcé', x'0102030405', 'abcd'", &limits).unwrap();
    let text = |text: &str| Cell::Text(text.to_owned());
    let cut = vec![text("abcd"), text("abc"), Cell::Blob(vec![1, 2, 3, 4]), text("abcd")];
    assert_eq!((table.rows, table.truncated), (vec![cut], true));

    let limits = QueryLimits { bytes_max: 20, ..QueryLimits::default() };
    let table = reader.query(numbers, &limits).unwrap();
    assert_eq!((table.rows.len(), table.truncated), (3, true));

    let huge = reader.query("SELECT length(randomblob(1000000000))", &QueryLimits::default());
    assert!(matches!(huge, Err(QueryError::Sql(_))), "{huge:?}");
}

#[test]
fn an_endless_statement_is_stopped_and_the_reader_still_answers() {
    let folder = ledger();
    let reader = Reader::open(folder.path()).unwrap();
    let limits = QueryLimits { time_max: Duration::from_millis(50), ..QueryLimits::default() };
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
                   SELECT count(*) FROM n";
    let stopped = reader.query(endless, &limits);
    assert!(matches!(stopped, Err(QueryError::TooSlow(_))), "{stopped:?}");
    assert_eq!(reader.events(None, 10, None).unwrap().events.len(), 3);
}

#[test]
fn a_reader_sees_whole_saves_while_the_supervisor_writes() {
    const SAVES: u64 = 300;
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(folder.path());
    ledger.save(&state(0), &[]).unwrap();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=SAVES {
                ledger.save(&state(number), &[order(number), order(number)]).unwrap();
            }
            is_done.store(true, Ordering::Release);
        });
        let reader = Reader::open(folder.path()).unwrap();
        let mut last = 0;
        loop {
            // Asked before the look, so that the last look sees all.
            let was_done = is_done.load(Ordering::Acquire);
            let sql = "SELECT json ->> 'epoch', (SELECT count(*) FROM events) FROM state";
            let table = reader.query(sql, &QueryLimits::default()).unwrap();
            let [Cell::Integer(epoch), Cell::Integer(events)] = table.rows[0][..] else {
                panic!("{table:?}")
            };
            assert_eq!(events, 2 * epoch, "half a save");
            assert!(epoch >= last, "{epoch} after {last}");
            last = epoch;
            if was_done {
                break;
            }
        }
        assert_eq!(last as u64, SAVES);
    });
}
