use std::sync::{Arc, Mutex};

use super::*;

/// A line that counts, as a shell script can print it.
const ENTRY: &str = r#"{"eventType":"logEvent","eventMessage":"memorystatus: killing process 9 [tandem] in high band","processImagePath":"/kernel","processID":0}"#;

const QUICK: Pace = Pace {
    pause_min: Duration::from_millis(1),
    pause_max: Duration::from_millis(4),
    stable_after: Duration::from_secs(3_600),
    bytes_max: 256 << 10,
    period: Duration::from_secs(1),
};

fn script(text: &str, pace: Pace) -> Stream {
    Stream { program: "/bin/sh".into(), arguments: vec!["-c".into(), text.into()], pace }
}

type Texts = Arc<Mutex<Vec<String>>>;

/// Follows a stand-in until so many lines came.
async fn follow_until(stream: Stream, count: usize) -> Vec<String> {
    let texts = Texts::default();
    let sink = Arc::clone(&texts);
    let following = tokio::spawn(follow(stream, move |line| sink.lock().unwrap().push(line.text)));
    while texts.lock().unwrap().len() < count {
        assert!(!following.is_finished());
        sleep(Duration::from_millis(2)).await;
    }
    following.abort();
    let texts = texts.lock().unwrap();
    texts.clone()
}

#[test]
fn the_platforms_program_is_asked_for_the_lines_that_count() {
    assert_eq!(Stream::of_platform().is_some(), cfg!(target_os = "macos"));
    let arguments = arguments();
    let fixed = ["stream", "--style", "ndjson", "--level", "default", "--timeout", "1h"];
    assert_eq!(arguments[..7], fixed);
    let predicate = &arguments[8];
    for part in ["process == \"kernel\"", "CONTAINS[c] \"memorystatus\"", "\"io.tandem.supervise\""]
    {
        assert!(predicate.contains(part), "{part} is not in {predicate}");
    }
    let count = |c| predicate.matches(c).count();
    assert!(count('(') == count(')') && count('"') % 2 == 0, "{predicate}");
    let job = include_str!("../../../../launchd/io.tandem.supervise.plist");
    assert!(job.contains(&format!("<string>{LABEL}</string>")), "the label is the job's");
}

#[tokio::test]
async fn a_program_that_ends_at_once_is_started_again() {
    let texts = follow_until(script(&format!("echo '{ENTRY}'; exit 3"), QUICK), 5).await;
    assert!(texts.iter().all(|text| text.starts_with("memorystatus: killing")), "{texts:?}");
}

#[tokio::test]
async fn what_is_no_entry_is_passed_over_and_no_line_is_too_long() {
    // The tool's own words, bytes, a line of a million bytes, one without an end.
    let garbage = format!(
        "echo 'Filtering the log data'; head -c 100000 /dev/urandom; echo; head -c 1000000 /dev/zero \
         | tr '\\0' '{{'; echo; echo '{ENTRY}'; printf '%s' '{ENTRY}'"
    );
    let pace = Pace { bytes_max: usize::MAX, ..QUICK };
    let texts = follow_until(script(&garbage, pace), 2).await;
    assert!(texts.iter().all(|text| text.starts_with("memorystatus: killing")), "{texts:?}");
}

#[tokio::test]
async fn a_program_that_closes_its_output_and_stays_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    // Deaf to SIGTERM too.
    let text = format!(
        "echo $$ >> {}; echo '{ENTRY}'; trap '' TERM; exec >&-; while :; do sleep 60; done",
        pids.display()
    );
    follow_until(script(&text, QUICK), 2).await;
    let first: u32 =
        std::fs::read_to_string(&pids).unwrap().lines().next().unwrap().parse().unwrap();
    assert!(!tandem_host::is_running(first));
}

#[tokio::test]
async fn a_program_that_never_stops_writing_is_read_so_far_and_no_further() {
    let pace = Pace { bytes_max: 64 << 10, period: Duration::from_secs(3_600), ..QUICK };
    let stream = script(&format!("while :; do echo '{ENTRY}'; done"), pace);
    let most = (64 << 10) / (ENTRY.len() + 1);
    let texts = Texts::default();
    let sink = Arc::clone(&texts);
    let following = tokio::spawn(follow(stream, move |line| sink.lock().unwrap().push(line.text)));
    while texts.lock().unwrap().len() + 2 < most {
        sleep(Duration::from_millis(5)).await;
    }
    sleep(Duration::from_millis(100)).await;
    assert!(texts.lock().unwrap().len() <= most, "the rest waits in the pipe");
    following.abort();
}

#[tokio::test]
async fn a_program_that_is_not_there_or_says_nothing_ends_nothing() {
    for (program, arguments) in [("/nowhere/log", vec![]), ("/bin/sleep", vec!["3600".to_owned()])]
    {
        let stream = Stream { program: program.into(), arguments, pace: QUICK };
        let waited = timeout(Duration::from_millis(100), follow(stream, |_| {})).await;
        assert!(waited.is_err(), "{program}: it is followed for ever");
    }
}

#[tokio::test]
async fn a_flood_of_one_hint_is_told_once() {
    let shared = Shared::new([0]);
    let catalogue = evidence::catalogue(std::path::Path::new("")).unwrap();
    let stream = script(&format!("while :; do echo '{ENTRY}'; done"), QUICK);
    let watching = tokio::spawn(watch(shared.clone(), catalogue, stream));
    while shared.facts().evidence.is_empty() {
        sleep(Duration::from_millis(2)).await;
    }
    sleep(Duration::from_millis(50)).await;
    watching.abort();
    let facts = shared.facts();
    assert_eq!((facts.evidence.len(), facts.news.len()), (1, 1));
}

#[test]
fn a_hint_is_told_once_an_hour_and_only_so_many_different_ones() {
    let mut hints = Hints::default();
    let now = Instant::now();
    assert!(hints.is_due("a", now));
    assert!(!hints.is_due("a", now + Duration::from_secs(3_599)));
    assert!(hints.is_due("a", now + Duration::from_secs(3_600)));
    let others = (0..100).filter(|id| hints.is_due(&format!("b{id}"), now)).count();
    assert_eq!(others, HINTS_MAX - 1);
}
