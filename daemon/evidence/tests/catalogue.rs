//! The built-in catalogue: what it recognises, and what it leaves alone.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde::Deserialize;
use tandem_evidence::{
    Catalogue, EXPLAIN_MAX, Exit, LogLine, LogSender, Process, Report, Rung, Source, Trigger,
    Victim, Writer,
};
use tandem_wire::exit;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Samples {
    sample: Vec<Sample>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    id: String,
    text: String,
    #[serde(default)]
    also: Vec<String>,
}

fn samples() -> Vec<Sample> {
    toml::from_str::<Samples>(include_str!("samples.toml")).unwrap().sample
}

/// All signatures of a source whose pattern matches, found without the catalogue's own matcher.
fn matching(source: Source, text: &str) -> Vec<&'static str> {
    let of_source = Catalogue::builtin().signatures().iter().filter(|s| s.source == source);
    of_source
        .filter(|s| match &s.trigger {
            Trigger::Pattern(pattern) => Regex::new(pattern).unwrap().is_match(text),
            _ => false,
        })
        .map(|s| s.id.as_str())
        .collect()
}

fn exit_of(text: &str) -> Exit {
    let (kind, number) = text.split_once(' ').unwrap();
    match kind {
        "code" => Exit::Code(number.parse().unwrap()),
        "signal" => Exit::Signal(number.parse().unwrap()),
        _ => panic!("{text:?} is neither a code nor a signal"),
    }
}

fn panic_of(text: &str) -> Report {
    Report::Panic { boot_session: None, text: text.to_owned(), captured_wall_ms: None }
}

fn logged(text: &str) -> LogLine {
    LogLine { sender: LogSender::Kernel, text: text.to_owned(), wall_ms: None, boot: None }
}

fn crash_of(text: &str) -> Report {
    Report::Crash {
        process: "tandem".into(),
        pid: Some(1),
        signal: None,
        exception: None,
        termination: None,
        captured_wall_ms: None,
        text: text.to_owned(),
    }
}

#[test]
fn the_built_in_catalogue_loads_whole() {
    let text = include_str!("../../../config/signatures.toml");
    let entries = text.lines().filter(|line| *line == "[[signature]]").count();
    assert!(entries > 100, "{entries}");
    assert_eq!(Catalogue::builtin().signatures().len(), entries);
    Catalogue::parse(text, "config/signatures.toml").unwrap();
}

#[test]
fn every_signature_has_a_sample_and_every_sample_finds_its_signature() {
    let catalogue = Catalogue::builtin();
    let mut wrong = Vec::new();
    for Sample { id, text, also } in &samples() {
        let signature = catalogue.get(id).unwrap_or_else(|| panic!("no signature {id}"));
        let found = match signature.source {
            Source::Output if signature.process == Process::Other => {
                let ours = [Writer::Rank, Writer::Gateway];
                assert!(ours.iter().all(|by| catalogue.match_output(*by, text) != Some(signature)));
                catalogue.explain(text).first().map(|found| found.signature)
            }
            Source::Output => catalogue.match_output(Writer::Rank, text),
            Source::Exit => catalogue.match_exit(&exit_of(text)),
            Source::CrashReport => catalogue.match_report(&crash_of(text)),
            Source::Panic => catalogue.match_report(&panic_of(text)),
            // Built from its parts below; here the text is enough.
            Source::Jetsam => {
                matching(Source::Jetsam, text).first().and_then(|id| catalogue.get(id))
            }
            Source::SystemLog => catalogue.match_system_log(&logged(text)),
            Source::Symptom => catalogue.explain(text).first().map(|found| found.signature),
        };
        let found = found.map(|signature| signature.id.as_str());
        if found != Some(id) {
            wrong.push(format!("{text:?}: {found:?} instead of {id}"));
        }
        if !matches!(signature.source, Source::Exit | Source::Symptom) {
            let expected: Vec<_> = [id].into_iter().chain(also).map(String::as_str).collect();
            let all = matching(signature.source, text);
            if all != expected {
                wrong.push(format!("{text:?}: matches {all:?}, not {expected:?}"));
            }
        }
    }
    let samples = samples();
    let sampled: BTreeSet<&str> = samples.iter().map(|sample| sample.id.as_str()).collect();
    for signature in catalogue.signatures() {
        if !sampled.contains(signature.id.as_str()) {
            wrong.push(format!("{} has no sample", signature.id));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_says_nothing_is_no_hit() {
    for line in include_str!("innocent.txt").lines() {
        for writer in [Writer::Rank, Writer::Gateway] {
            let found = Catalogue::builtin().match_output(writer, line);
            assert_eq!(found.map(|signature| signature.id.as_str()), None, "{line:?}");
        }
    }
    let quiet = Report::Jetsam { largest: None, victims: Vec::new(), captured_wall_ms: None };
    assert_eq!(Catalogue::builtin().match_report(&quiet), None);
    assert_eq!(Catalogue::builtin().match_report(&crash_of("frame main (Safari)")), None);
    for ended in [Exit::Code(1), Exit::Code(9), Exit::Signal(1), Exit::Signal(64)] {
        assert_eq!(Catalogue::builtin().match_exit(&ended), None);
    }
}

#[test]
fn every_exit_code_of_a_rank_is_known_and_those_that_cannot_end_differently_are_held() {
    for code in 1..=255 {
        let found = Catalogue::builtin().match_exit(&Exit::Code(code));
        if exit::meaning(code) == "unknown" {
            continue;
        }
        let action = found.unwrap_or_else(|| panic!("exit code {code} is unknown")).action;
        let expected = if exit::is_retryable(code) { Rung::Restart } else { Rung::Hold };
        assert_eq!(action, expected, "exit code {code}");
    }
    let orderly = Catalogue::builtin().match_exit(&Exit::Code(exit::OK)).unwrap();
    assert_eq!(orderly.action, Rung::None);
}

#[test]
fn the_actions_are_the_smallest_that_can_help() {
    for (text, action) in [
        ("[jaccl] Changing queue pair to RTR failed with errno 22", Rung::Reassert),
        ("[jaccl] Changing queue pair to RTR failed with errno 16", Rung::Reboot),
        ("[jaccl] Changing queue pair to INIT failed with errno 16", Rung::Restart),
        ("[jaccl] Couldn't connect (error: 65)", Rung::Hold),
        ("[jaccl] Couldn't connect (error: 61)", Rung::Restart),
        ("[jaccl] Connection attempt 1 waiting 1000 ms", Rung::None),
        ("[METAL] x Insufficient Memory (00000008:y)", Rung::Retune),
    ] {
        assert_eq!(
            Catalogue::builtin().match_output(Writer::Rank, text).unwrap().action,
            action,
            "{text}"
        );
    }
    assert!(Rung::ALL.is_sorted(), "smallest first");
}

#[test]
fn reports_are_matched_by_their_own_source_only() {
    let victim = |name: &str| Victim {
        name: name.into(),
        pid: Some(456),
        reason: "vm-pageshortage".into(),
        resident_bytes: None,
    };
    let jetsam = |names: &[&str]| Report::Jetsam {
        largest: None,
        victims: names.iter().map(|name| victim(name)).collect(),
        captured_wall_ms: None,
    };
    let gpu = |restart_reason, text: &str| Report::Gpu {
        process: "tandem".into(),
        signature: Some(577),
        restart_reason,
        restart_reason_text: Some(text.into()),
        guilty_dm: None,
        captured_wall_ms: None,
    };
    let out_of_memory = "kIOGPUCommandBufferCallbackErrorOutOfMemory";
    for (report, expected) in [
        (jetsam(&["tandem"]), Some("jetsam-tandem")),
        (jetsam(&["photod", "tandem"]), Some("jetsam-tandem")),
        (jetsam(&["tandemonium"]), Some("jetsam-other")),
        (jetsam(&[]), None),
        (gpu(Some(4), ""), Some("gpu-firmware-lockup")),
        (gpu(None, "firmware-detected lockup"), Some("gpu-firmware-lockup")),
        (gpu(Some(40), "unlucky"), Some("gpu-reset")),
        (crash_of(out_of_memory), Some("crash-gpu-out-of-memory")),
        (panic_of(out_of_memory), None),
    ] {
        let found = Catalogue::builtin().match_report(&report).map(|s| s.id.as_str());
        assert_eq!(found, expected, "{report:?}");
    }
}

#[test]
fn an_explanation_takes_an_id_a_part_of_one_a_line_or_an_exit_code() {
    let ids = |text: &str| -> Vec<&str> {
        Catalogue::builtin().explain(text).iter().map(|s| s.signature.id.as_str()).collect()
    };
    for (text, first) in [
        ("gpu-hang", "gpu-hang"),
        (" gpu-hang\n", "gpu-hang"),
        ("stranded", "wired-memory-stranded"),
        ("exit code 81", "exit-group"),
        ("exit 134", "signal-abort"),
        ("rank 1 (process 5) ended: killed by signal 9", "signal-killed"),
        ("Runner terminated with signal=9", "runner-killed"),
        ("a\nb\n[ring] connection to a peer was lost\n", "ring-peer-lost"),
        ("ZOMBIE ORPHANED FENCE KERNEL", "gpu-wedged"),
        (
            "panic(cpu 1 caller 0xf): \"completeMemory() prepare count underflow\"",
            "panic-gpu-memory-count",
        ),
        ("first [METAL] Command buffer execution failed: Insufficient Memory", "gpu-out-of-memory"),
    ] {
        assert_eq!(ids(text).first(), Some(&first), "{text:?}: {:?}", ids(text));
    }
    assert!(ids("signal=9 Runner terminated with signal=9").contains(&"signal-killed"));
    for text in ["", "   ", "\n", "xyzzy", "zzz qqq"] {
        assert_eq!(ids(text), Vec::<&str>::new(), "{text:?}");
    }
    let codes =
        [64, 65, 70, 71, 80, 81, 82, 83, 84, 85].map(|code| format!("exit code {code} ")).concat();
    let many = ids(&codes);
    assert_eq!(many.len(), EXPLAIN_MAX);
    assert_eq!(many.iter().collect::<BTreeSet<_>>().len(), EXPLAIN_MAX, "each once: {many:?}");
}

/// What may follow from a text, and whether that is a guess.
fn explained(text: &str) -> Vec<(&'static str, bool)> {
    let found = Catalogue::builtin().explain(text);
    found.iter().map(|found| (found.signature.id.as_str(), found.is_guess)).collect()
}

#[test]
fn what_is_found_by_words_alone_is_a_guess_and_everyday_words_find_nothing() {
    for text in [
        "a",
        "e",
        "0",
        "the",
        "is",
        "gpu",
        "rank",
        "memory",
        "error",
        "no",
        "failed",
        "Previous shutdown cause: 0",
        "Everything is fine",
        "the answer is 0",
        "everything works",
        "nothing is wrong with it",
        "error: something went wrong",
        "INFO request finished in 3 s",
        "the quick brown fox",
        "Hello world",
        "200 OK",
        "status 400",
        "please help me",
        "one two three",
    ] {
        assert_eq!(explained(text), [], "{text:?}");
    }
    for text in ["stranded", "ZOMBIE ORPHANED FENCE KERNEL", "gpu hang", "ibv_devinfo hangs"] {
        let found = explained(text);
        assert!(
            !found.is_empty() && found.iter().all(|(_, is_guess)| *is_guess),
            "{text:?}: {found:?}"
        );
    }
    for text in ["gpu-hang", "exit code 81", "signal 9", "[ring] connection to a peer was lost"] {
        let found = explained(text);
        assert!(
            !found.is_empty() && found.iter().all(|(_, is_guess)| !is_guess),
            "{text:?}: {found:?}"
        );
    }
}

#[test]
fn lines_that_people_asked_about_are_known() {
    for sample in samples() {
        let found = explained(&sample.text);
        let is_symptom = |id: &str| Catalogue::builtin().get(id).unwrap().source == Source::Symptom;
        if !sample.text.starts_with("code ") && !sample.text.starts_with("victim ") {
            let known = found.iter().find(|(id, _)| *id == sample.id);
            assert!(known.is_some(), "{:?}: {found:?}", sample.text);
            assert_eq!(known.unwrap().1, is_symptom(&sample.id), "{:?}", sample.text);
        }
    }
}

#[test]
fn no_word_of_a_client_is_evidence() {
    let mut planted = 0;
    for sample in samples() {
        let text = sample.text.replace(['\n', '\r'], " ");
        for line in [
            format!("WARN refused request_id={text:?} method=POST path=\"/v1\" status=504"),
            format!("WARN refused request_id={text} method=POST path=/v1 status=504"),
            format!("DEBUG answered request_id=\"8\" method=POST path=\"/{text}\" status=404"),
            format!("WARN a stream ends early: the engine restarts request={text}"),
            format!("INFO listening model={text:?} address=Some(127.0.0.1:8080)"),
            format!("{{\"level\":\"WARN\",\"fields\":{{\"request_id\":\"{text}\"}}}}"),
        ] {
            let found = Catalogue::builtin().match_output(Writer::Gateway, &line);
            assert_eq!(found, None, "{line}");
            planted += 1;
        }
        // In the gateway's own words only what any process can say counts, and nothing of GPU or fabric.
        if let Some(found) = Catalogue::builtin().match_output(Writer::Gateway, &text) {
            assert_eq!(found.process, Process::Any, "{text}");
            assert!(!matches!(found.kind.as_deref(), Some("gpu" | "fabric" | "model")), "{text}");
        }
    }
    assert!(planted > 500, "{planted}");
    let panicked = "thread 'main' panicked at gateway/src/app.rs:10:5:";
    assert!(Catalogue::builtin().match_output(Writer::Gateway, panicked).is_some());
}

#[test]
fn a_line_is_looked_at_up_to_its_bound() {
    let fault = "[ring] connection to a peer was lost";
    let at = |column: usize| format!("{}{fault}", "x".repeat(column));
    let found = |line: &str| Catalogue::builtin().match_output(Writer::Rank, line).is_some();
    assert!(found(&at(tandem_evidence::LINE_BYTES_MAX - fault.len())));
    assert!(!found(&at(tandem_evidence::LINE_BYTES_MAX - fault.len() + 1)));
}

#[test]
fn a_hit_is_one_bounded_line() {
    let signature = Catalogue::builtin().get("gpu-hang").unwrap();
    let hit = signature.hit("a\x1b[2J\nERROR forged");
    assert_eq!((hit.id.as_str(), hit.action), ("gpu-hang", Rung::Restart));
    assert_eq!(hit.text, "a [2J ERROR forged");
    let long = signature.hit(&"ä".repeat(1_000));
    assert_eq!(long.text.len(), tandem_evidence::HIT_TEXT_BYTES_MAX);
    let json = serde_json::to_string(&hit).unwrap();
    assert!(json.contains(r#""action":"restart""#), "{json}");
}

#[test]
fn remedies_name_config_keys_that_exist() {
    let config: toml::Table = toml::from_str(include_str!("../../../config/tandem.toml")).unwrap();
    let key = Regex::new(r"\b(engine|model|gateway|node)\.([a-z_]+)\b").unwrap();
    let mut named = 0;
    for signature in Catalogue::builtin().signatures() {
        for found in key.captures_iter(&signature.remedy) {
            let known = config.get(&found[1]).and_then(|section| section.get(&found[2]));
            assert!(known.is_some(), "{}: {} is no key", signature.id, &found[0]);
            named += 1;
        }
    }
    assert!(named > 10, "{named}");
}

#[test]
fn kinds_are_a_small_set_of_labels() {
    let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
    for signature in Catalogue::builtin().signatures() {
        *uses.entry(signature.kind.as_deref().unwrap_or("none")).or_default() += 1;
    }
    let known = [
        "config",
        "fabric",
        "gpu",
        "integrity",
        "memory",
        "misdiagnosis",
        "model",
        "panic",
        "peer",
        "process",
        "software",
    ];
    assert_eq!(uses.keys().copied().collect::<Vec<_>>(), known);
}
