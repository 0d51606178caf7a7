//! The ledger does not grow without end.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;

use support::{event, open, order, request, state};
use tandem_ledger::{Cell, FILE_NAME, Ledger, Limits, QueryLimits, Reader, Recorded, Request};
use tandem_policy::What;

const SMALL: Limits = Limits { events_max: 500, requests_max: 300, file_bytes_max: 1 << 20 };

/// First key, last key and number of rows.
fn keys(reader: &Reader, table: &str, key: &str) -> [i64; 3] {
    let sql = format!("SELECT min({key}), max({key}), count(*) FROM {table}");
    let table = reader.query(&sql, &QueryLimits::default()).unwrap();
    match table.rows[0][..] {
        [Cell::Integer(first), Cell::Integer(last), Cell::Integer(count)] => [first, last, count],
        _ => panic!("{table:?}"),
    }
}

#[test]
fn the_oldest_rows_go_first_and_saving_alone_keeps_the_limits() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, _) = Ledger::open(folder.path(), SMALL).unwrap();
    for number in 0..30 {
        let events: Vec<_> = (0..100).map(|n| order(number * 100 + n)).collect();
        ledger.save(&state(number), &events).unwrap();
        let requests: Vec<_> = (0..100).map(|n| request(number * 100 + n)).collect();
        ledger.record_requests(&requests).unwrap();
        // Between two rounds of pruning less than a round's rows and one call's are added.
        let reader = Reader::open(folder.path()).unwrap();
        assert!(keys(&reader, "events", "id")[2] <= 500 + 256 + 100);
        assert!(keys(&reader, "requests", "row")[2] <= 300 + 256 + 100);
    }
    let reader = Reader::open(folder.path()).unwrap();
    let [first, last, count] = keys(&reader, "events", "id");
    assert_eq!((last, last - first + 1), (3_000, count), "the newest, without a gap");
    let [first, last, count] = keys(&reader, "requests", "row");
    assert_eq!((last, last - first + 1), (3_000, count));
    drop(reader);

    while ledger.prune().unwrap().is_unfinished {}
    let reader = Reader::open(folder.path()).unwrap();
    assert_eq!(keys(&reader, "events", "id"), [2_501, 3_000, 500]);
    assert_eq!(keys(&reader, "requests", "row"), [2_701, 3_000, 300]);
    assert_eq!(reader.state().unwrap().unwrap().epoch, 29);
}

#[test]
fn a_ledger_over_new_limits_comes_within_them_by_saving() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(folder.path());
    let events: Vec<_> = (0..5_000).map(order).collect();
    ledger.save(&state(0), &events).unwrap();
    drop(ledger);
    let (mut ledger, _) = Ledger::open(folder.path(), SMALL).unwrap();
    for number in 1..=10 {
        ledger.save(&state(number), &[]).unwrap();
    }
    let reader = Reader::open(folder.path()).unwrap();
    assert_eq!(keys(&reader, "events", "id")[2], 500);
}

#[test]
fn the_file_keeps_its_size_whatever_the_rows_have() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { events_max: 1_000_000, ..SMALL };
    let (mut ledger, _) = Ledger::open(folder.path(), limits).unwrap();
    let large = |number| {
        // Over the size of one event, so that it is cut as well.
        let detail = format!("{number} {}", "x".repeat(20_000));
        event(number, What::Canary { passed: false, detail })
    };
    for number in 0..300 {
        let events: Vec<_> = (0..20).map(|n| large(number * 20 + n)).collect();
        ledger.save(&state(number), &events).unwrap();
    }
    let size_bytes = |name: &str| fs::metadata(folder.path().join(name)).unwrap().len();
    let (file, log) = (size_bytes(FILE_NAME), size_bytes("ledger.db-wal"));
    // 6000 events of a kilobyte were written; a round of pruning apart, the limit holds.
    assert!(file < 3 << 19, "{file}");
    assert!(log < 9 << 20, "{log}");
    while ledger.prune().unwrap().is_unfinished {}
    drop(ledger);
    support::raw(&folder.path().join(FILE_NAME), "PRAGMA wal_checkpoint(TRUNCATE)");
    let file = size_bytes(FILE_NAME);
    assert!(file <= 1 << 20, "{file}");

    let events = Reader::open(folder.path()).unwrap().events(None, 1, None).unwrap().events;
    let What::Canary { detail, .. } = &events[0].1.what else { panic!("{events:?}") };
    assert!(detail.starts_with("5999 xxx") && detail.ends_with("x ..."), "{detail}");
}

#[test]
fn pruned_room_is_given_back_to_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(folder.path());
    let detail = "x".repeat(900);
    let canary = |n| event(n, What::Canary { passed: true, detail: detail.clone() });
    for number in 0..20 {
        let events: Vec<_> = (0..1_000).map(canary).collect();
        ledger.save(&state(number), &events).unwrap();
    }
    drop(ledger);
    let path = folder.path().join(FILE_NAME);
    support::raw(&path, "PRAGMA wal_checkpoint(TRUNCATE)");
    let before = fs::metadata(&path).unwrap().len();
    let (mut ledger, _) = Ledger::open(folder.path(), SMALL).unwrap();
    while ledger.prune().unwrap().is_unfinished {}
    drop(ledger);
    support::raw(&path, "PRAGMA wal_checkpoint(TRUNCATE)");
    let after = fs::metadata(&path).unwrap().len();
    assert!(before > 16 << 20 && after <= 1 << 20, "{before} to {after}");
}

#[test]
fn a_request_is_kept_once_and_its_texts_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(folder.path());
    let nameless = Request { id: String::new(), ..request(3) };
    let long = Request { model: "x".repeat(10_000), ..request(4) };
    let recorded =
        ledger.record_requests(&[request(1), request(2), request(1), nameless, long.clone()]);
    assert_eq!(recorded.unwrap(), Recorded { added: 2, repeated: 1, refused: 2 });
    let recorded = ledger.record_requests(&[request(2), request(5)]).unwrap();
    assert_eq!(recorded, Recorded { added: 1, repeated: 1, refused: 0 });

    let json = serde_json::to_string(&request(1)).unwrap();
    assert_eq!(serde_json::from_str::<Request>(&json).unwrap(), request(1));
    let refused = [
        (serde_json::to_string(&long).unwrap(), "at most 255"),
        (json.replace("request-1", ""), "1 to 128"),
        (json.replace("request-1", &"x".repeat(129)), "1 to 128"),
        (json.replacen('{', "{\"prompt\":\"text\",", 1), "unknown field"),
        (json.replace("stop", "because"), "unknown variant"),
    ];
    for (json, reason) in refused {
        let error = serde_json::from_str::<Request>(&json).unwrap_err().to_string();
        assert!(error.contains(reason), "{reason}: {error}");
    }
}
