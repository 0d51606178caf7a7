//! Lines of macOS's unified log: what is read of them, and that nothing else gets through.
#![allow(clippy::unwrap_used)]

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Value, json};
use tandem_evidence::{
    Catalogue, LOG_LINE_BYTES_MAX, LOG_TEXT_BYTES_MAX, LogLine, LogLineError, LogSender, Rung,
};

/// An entry with the members that `log stream --style ndjson` gives one.
fn entry(path: &str, pid: u64, message: &str) -> Value {
    json!({
        "traceID": 762_098_997_530_628_u64, "eventMessage": message, "eventType": "logEvent",
        "source": null, "formatString": "%s", "activityIdentifier": 0, "subsystem": "",
        "category": "", "threadID": 7_071_609, "backtrace": {"frames": [
            {"imageOffset": 104_220, "imageUUID": "EFCEFC07-848B-3EA7-87A0-E967111ABE77"}]},
        "senderImageUUID": "EFCEFC07-848B-3EA7-87A0-E967111ABE77",
        "bootUUID": "4044A0BF-330C-4FB9-8D90-D5BF55C7B63C", "processImagePath": path,
        "timestamp": "2020-12-10 17:00:10.147707+0100", "machTimestamp": 356_419_409_889_185_u64,
        "messageType": "Error", "processID": pid, "senderProgramCounter": 104_220,
        "parentActivityIdentifier": 0, "timezoneName": "", "userID": 0,
    })
}

fn kernel(message: &str) -> Vec<u8> {
    entry("/kernel", 0, message).to_string().into_bytes()
}

#[test]
fn an_entry_of_the_kernel_or_of_launchd_is_read() {
    let line = LogLine::parse(&kernel(" memorystatus: killing process 9 [tandem]\u{1b}[2J\n"));
    let expected = LogLine {
        sender: LogSender::Kernel,
        text: "memorystatus: killing process 9 [tandem] [2J".into(),
        // 16:00:10.147 UTC on that day.
        wall_ms: Some(1_607_616_010_147),
        boot: Some("4044A0BF-330C-4FB9-8D90-D5BF55C7B63C".into()),
    };
    assert_eq!(line.as_ref(), Ok(&expected));
    let found = Catalogue::builtin().match_system_log(&expected).unwrap();
    assert_eq!((found.id.as_str(), found.action), ("log-killed-for-memory", Rung::None));
    let launchd = entry("/sbin/launchd", 1, "exited due to SIGSEGV, ran for 50ms").to_string();
    assert_eq!(LogLine::parse(launchd.as_bytes()).unwrap().sender, LogSender::Launchd);
}

#[test]
fn what_is_no_message_of_theirs_says_nothing() {
    let of = |path: &str, pid: u64| entry(path, pid, "m").to_string();
    let without = |member: &str| {
        let mut entry = entry("/kernel", 0, "m");
        entry.as_object_mut().unwrap().remove(member);
        entry.to_string()
    };
    let with = |member: &str, value: Value| {
        let mut entry = entry("/kernel", 0, "m");
        entry[member] = value;
        entry.to_string()
    };
    use LogLineError::{NoEntry, OtherKind, OtherSender, TooLong};
    for (line, expected) in [
        ("Filtering the log data using \"process == \\\"kernel\\\"\"".to_owned(), NoEntry),
        (String::new(), NoEntry),
        ("{".into(), NoEntry),
        ("[]".into(), NoEntry),
        ("null".into(), NoEntry),
        ("{}".into(), OtherKind),
        ("{\"a\":".repeat(20_000), TooLong),
        ("{\"a\":".repeat(10_000), NoEntry),
        (format!("{}{}", "[".repeat(200), "]".repeat(200)), NoEntry),
        (without("eventType"), OtherKind),
        (without("eventMessage"), OtherKind),
        (with("eventType", json!("activityCreateEvent")), OtherKind),
        (with("eventMessage", json!(7)), NoEntry),
        (with("processID", json!(-1)), NoEntry),
        (with("processID", json!("0")), NoEntry),
        (without("processID"), OtherSender),
        // Programs that took the name.
        (of("/tmp/kernel", 4711), OtherSender),
        (of("/kernel", 4711), OtherSender),
        (of("/tmp/kernel", 0), OtherSender),
        (of("/sbin/launchd", 400), OtherSender),
        (of("/usr/local/libexec/tandem/tandem", 500), OtherSender),
        (format!("{{\"processID\":0,{}", &of("/kernel", 0)[1..]), NoEntry),
    ] {
        assert_eq!(LogLine::parse(line.as_bytes()), Err(expected), "{line:.80}");
    }
    let odd = with("timestamp", json!("yesterday"));
    assert_eq!(LogLine::parse(odd.as_bytes()).unwrap().wall_ms, None, "the text still counts");
    let long = kernel(&"é".repeat(LOG_LINE_BYTES_MAX / 3));
    let text = LogLine::parse(&long).unwrap().text;
    assert!(text.len() <= LOG_TEXT_BYTES_MAX && text.ends_with('é'));
}

/// Runs a property over so many inputs, the same in each run.
fn check<S: Strategy>(cases: u32, strategy: &S, property: impl Fn(S::Value)) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[11; 32]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let outcome = runner.run(strategy, |value| {
        property(value);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

fn is_bounded(bytes: &[u8]) -> bool {
    let Ok(line) = LogLine::parse(bytes) else { return false };
    assert!(line.text.len() <= LOG_TEXT_BYTES_MAX && !line.text.chars().any(char::is_control));
    assert!(line.boot.is_none_or(|boot| boot.len() <= 36 && !boot.chars().any(char::is_control)));
    true
}

#[test]
fn any_bytes_in_place_of_a_line_and_lines_with_some_bytes_changed() {
    check(500, &vec(any::<u8>(), 0..400), |bytes| {
        is_bounded(&bytes);
    });
    let read = std::cell::Cell::new(0);
    let change = (any::<prop::sample::Index>(), 0..4_usize, vec(any::<u8>(), 0..6));
    check(2_000, &(".{0,60}", vec(change, 0..3)), |(message, changes)| {
        let mut bytes = kernel(&message);
        for (place, removed, piece) in changes {
            let from = place.index(bytes.len() + 1);
            let to = (from + removed).min(bytes.len());
            bytes.splice(from..to, piece);
        }
        read.set(read.get() + u32::from(is_bounded(&bytes)));
    });
    // Else the changes would be too harmless, or too harmful, to test anything.
    assert!(read.get() > 300 && read.get() < 1_900, "{read:?}");
}
