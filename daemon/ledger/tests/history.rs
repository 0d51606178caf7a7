//! What the CLI asks of the ledger.

#![allow(clippy::unwrap_used)]

mod support;

use support::{event, open, request, state};
use tandem_ledger::{Finish, Quantiles, Reader, Request, RequestTotals};
use tandem_policy::{
    Event, Fault, Rung, State, What,
    fault::Kind,
    gates::{Gate, GateName, GateState},
    invariant::Invariant,
};

fn fault(kind: Kind) -> Fault {
    Fault {
        kind,
        since_wall_ms: 5,
        count: 2,
        evidence: "\"quoted\" evidence".to_owned(),
        rung: Rung::Restart,
        remedy: "tandem release".to_owned(),
    }
}

fn phase(epoch: u64, from: &str, to: &str, cause: Option<&str>) -> What {
    let cause = cause.map(str::to_owned);
    What::Epoch { epoch, from: from.to_owned(), to: to.to_owned(), cause }
}

fn drift(found: &str) -> What {
    let (found, wanted) = (found.to_owned(), "9000".to_owned());
    What::Drift { invariant: Invariant::LinkMtu, found, wanted }
}

/// One of each kind, in the order of a day; each a second after the one before.
fn day() -> Vec<Event> {
    let text = str::to_owned;
    let gate = Gate {
        gate: GateName::Canary,
        state: GateState::Failed,
        evidence: text("no token"),
        remedy: text("tandem explain canary"),
    };
    let day = [
        What::Started { boot: text("boot"), is_new_boot: true, version: text("0.1.0") },
        What::Config { taken: false, detail: text("no such key") },
        drift("1500"),
        What::Action { action: text("mend link_mtu") },
        drift("1400"),
        What::Held { invariant: Invariant::LinkMtu, after_ms: 12 },
        phase(7, "idle", "starting", None),
        phase(7, "starting", "serving", None),
        What::Gateway { from: text("down"), to: text("starting"), cause: Some(text("asked")) },
        What::Canary { passed: true, detail: text("4 tokens") },
        What::Gate(gate),
        What::FaultRaised(fault(Kind::Engine)),
        phase(7, "serving", "stopping", Some("rank 1 was lost")),
        phase(7, "stopping", "backoff", None),
        What::FaultRaised(fault(Kind::Broken(Invariant::LinkMtu))),
        What::FaultCleared(fault(Kind::Signature(text("gpu-timeout")))),
        What::Leak { verdict: text("suspect"), unexplained_bytes: u64::MAX / 2 },
        What::Retune { model: text("model"), prefill_step_tokens: 256 },
        What::Order { order: text("release") },
        phase(8, "backoff", "starting", None),
        What::Reboot { phase: text("draining"), cause: None, intent: None, proposer: None },
        What::Evidence { signature: text("jetsam"), source: text("rank 0"), text: text("line") },
    ];
    (1..).zip(day).map(|(second, what)| event(second * 1_000, what)).collect()
}

fn ledger() -> (tempfile::TempDir, Reader) {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(folder.path());
    ledger.save(&state(7), &day()).unwrap();
    let next = State { boot: "next boot".to_owned(), ..state(8) };
    let started = What::Started {
        boot: "next boot".to_owned(),
        is_new_boot: true,
        version: "0.2.0".to_owned(),
    };
    ledger.save(&next, &[event(90_000, started)]).unwrap();
    drop(ledger);
    let reader = Reader::open(folder.path()).unwrap();
    (folder, reader)
}

#[test]
fn every_kind_of_event_comes_back_as_it_was() {
    let (_folder, reader) = ledger();
    let events = reader.events(Some(0), 1_000, None).unwrap();
    assert_eq!(events.unreadable, 0);
    let (ids, events): (Vec<i64>, Vec<Event>) = events.events.into_iter().unzip();
    assert!(ids.iter().copied().eq(1..=23), "{ids:?}");
    assert_eq!(events[..22], day());
    let state = reader.state().unwrap().unwrap();
    assert_eq!((state.epoch, state.boot.as_str()), (8, "next boot"));
}

/// Since which id, at most how many, of which kinds; the ids expected.
type Asked<'a> = (Option<i64>, usize, Option<&'a [&'a str]>, &'a [i64]);

#[test]
fn events_are_asked_for_by_id_number_and_kind() {
    let (_folder, reader) = ledger();
    let cases: [Asked<'_>; 7] = [
        (None, 3, None, &[21, 22, 23]),
        (Some(0), 3, None, &[1, 2, 3]),
        (Some(21), 100, None, &[22, 23]),
        (Some(23), 100, None, &[]),
        (None, 100, Some(&["drift", "held"]), &[3, 5, 6]),
        (None, 1, Some(&["drift", "held"]), &[6]),
        (Some(3), 100, Some(&["drift", "nothing' OR 1"]), &[5]),
    ];
    for (since, limit, kinds, expected) in cases {
        let events = reader.events(since, limit, kinds).unwrap().events;
        let ids: Vec<i64> = events.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, expected, "{since:?} {limit} {kinds:?}");
    }
}

#[test]
fn an_event_of_another_version_is_counted_and_hides_no_other() {
    let (folder, reader) = ledger();
    drop(reader);
    let path = folder.path().join(tandem_ledger::FILE_NAME);
    support::raw(&path, "UPDATE events SET kind = 'unheard_of' WHERE id = 2");
    support::raw(&path, "UPDATE events SET json = '{' WHERE id = 3");
    let events = Reader::open(folder.path()).unwrap().events(Some(0), 4, None).unwrap();
    let ids: Vec<i64> = events.events.iter().map(|(id, _)| *id).collect();
    assert_eq!((ids, events.unreadable), (vec![1, 4], 2));
}

#[test]
fn faults_drifts_epochs_and_boots_are_told_as_they_were() {
    let (_folder, reader) = ledger();
    let faults = reader.faults(10).unwrap();
    let brief: Vec<_> = faults
        .iter()
        .map(|f| (f.id, f.is_raised, f.fault.as_str(), f.subject.as_deref(), f.rung.as_str()))
        .collect();
    assert_eq!(
        brief,
        [
            (12, true, "engine", None, "restart"),
            (15, true, "broken", Some("link_mtu"), "restart"),
            (16, false, "signature", Some("gpu-timeout"), "restart"),
        ]
    );
    assert_eq!(faults[0].evidence, "\"quoted\" evidence");
    assert_eq!(faults[0].remedy, "tandem release");
    assert_eq!(reader.faults(1).unwrap()[0].id, 16, "the last");

    let drifts = reader.drifts(0).unwrap();
    assert_eq!(drifts.len(), 1);
    let last = &drifts[0];
    assert_eq!((last.invariant.as_str(), last.count), ("link_mtu", 2));
    assert_eq!((last.last_wall_ms, last.found.as_str()), (1_005_000, "1400"));
    assert_eq!(reader.drifts(1_005_001).unwrap(), []);

    let epochs = reader.epochs(10).unwrap();
    let brief: Vec<_> = epochs
        .iter()
        .map(|e| (e.epoch, e.ready_after_ms, e.duration_ms, e.cause.as_deref()))
        .collect();
    assert_eq!(
        brief,
        [(7, Some(1_000), Some(7_000), Some("rank 1 was lost")), (8, None, None, None),]
    );

    let boots = reader.boots(10).unwrap();
    let brief: Vec<_> =
        boots.iter().map(|b| (b.boot.as_str(), b.starts, b.version.as_deref())).collect();
    assert_eq!(brief, [("boot", 1, Some("0.1.0")), ("next boot", 1, Some("0.2.0"))]);
    assert_eq!((boots[0].first_wall_ms, boots[0].last_wall_ms), (1_001_000, 1_022_000));
    assert_eq!(reader.boots(1).unwrap()[0].boot, "next boot");
}

#[test]
fn every_view_and_table_has_rows_of_a_day() {
    let (_folder, reader) = ledger();
    let limits = tandem_ledger::QueryLimits::default();
    let cases = [
        ("gates", 1),
        ("faults", 3),
        ("drifts", 3),
        ("actions", 1),
        ("phases", 5),
        ("epochs", 2),
        ("boots", 2),
        ("orders", 1),
        ("reboots", 1),
        ("leaks", 1),
        ("canaries", 1),
        ("state", 1),
        ("events", 23),
    ];
    for (view, rows) in cases {
        let table = reader.query(&format!("SELECT * FROM {view}"), &limits).unwrap();
        assert_eq!(table.rows.len(), rows, "{view}: {table:?}");
    }
}

#[test]
fn requests_are_summed_in_their_window_without_canaries() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(folder.path());
    let mut requests: Vec<Request> = (1..=100).map(request).collect();
    requests.push(Request { canary: true, ..request(101) });
    let ended = |number, finish| Request { finish, first_token_ms: None, ..request(number) };
    requests.push(ended(102, Finish::Error));
    requests.push(ended(103, Finish::Cancelled));
    requests.push(ended(104, Finish::Drained));
    requests.push(request(5_000));
    ledger.record_requests(&requests).unwrap();
    drop(ledger);
    let reader = Reader::open(folder.path()).unwrap();
    let expected = RequestTotals {
        requests: 103,
        failed: 2,
        cancelled: 1,
        canaries: 1,
        prompt_tokens: 10_300,
        cached_tokens: 4_120,
        completion_tokens: 1_030,
        first_token_ms: Some(Quantiles { count: 100, p50: 50, p99: 99 }),
        total_ms: Some(Quantiles { count: 100, p50: 100, p99: 198 }),
    };
    assert_eq!(reader.request_totals(0..5_000).unwrap(), expected);
    assert_eq!(reader.request_totals(6_000..7_000).unwrap(), RequestTotals::default());
    let one = reader.request_totals(5_000..5_001).unwrap();
    assert_eq!(one.total_ms, Some(Quantiles { count: 1, p50: 10_000, p99: 10_000 }));
}

#[test]
fn the_queries_of_the_documentation_are_answered() {
    let (_folder, reader) = ledger();
    let page = include_str!("../../../docs/ledger.md");
    let block = page.split("```sql").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let queries: Vec<&str> = block.split_inclusive(';').filter(|q| q.contains("SELECT")).collect();
    assert_eq!(queries.len(), 4);
    for sql in queries {
        reader.query(sql, &tandem_ledger::QueryLimits::default()).unwrap();
    }
}
