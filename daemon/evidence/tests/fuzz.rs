//! Bytes that nobody meant: no panic, and every bound holds. The seed is fixed, so a run is the same
//! each time.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, fs, path::Path};

use proptest::{
    collection::vec,
    prelude::*,
    sample::Index,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use tandem_evidence::{
    Catalogue, CatalogueError, EXPLAIN_MAX, HIT_TEXT_BYTES_MAX, REPORT_TEXT_BYTES_MAX, Report,
    ReportFolder, SIGNATURES_MAX, Writer, read_report,
};

const SAMPLES: [&str; 5] =
    ["gpu-out-of-memory.ips", "rdma-post.ips", "jetsam.ips", "panic.ips", "gpu-event.ips"];

/// Runs a property over so many inputs, the same in each run.
fn check<S: Strategy>(cases: u32, strategy: &S, property: impl Fn(S::Value)) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let outcome = runner.run(strategy, |value| {
        property(value);
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

/// A change of some bytes: put others in their place.
fn edits() -> impl Strategy<Value = Vec<(Index, usize, Vec<u8>)>> {
    let piece = prop_oneof![
        vec(any::<u8>(), 0..8),
        prop_oneof![
            Just("\""),
            Just("{"),
            Just("}"),
            Just("["),
            Just("]"),
            Just("\n"),
            Just("\0"),
            Just("null"),
            Just("-1"),
            Just("1e999"),
            Just("18446744073709551616"),
            Just("\\ud800"),
            Just("'''"),
            Just("[[signature]]\n"),
            Just("id = \"x\"\n"),
            Just("(?i)"),
            Just("{9,99}"),
        ]
        .prop_map(|piece| piece.as_bytes().to_vec()),
    ];
    vec((any::<Index>(), 0usize..12, piece), 1..6)
}

fn apply(original: &[u8], edits: &[(Index, usize, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = original.to_vec();
    for (place, removed, piece) in edits {
        let from = place.index(bytes.len() + 1);
        let to = (from + removed).min(bytes.len());
        bytes.splice(from..to, piece.iter().copied());
    }
    bytes
}

fn is_safe(text: &str, bytes_max: usize) -> bool {
    text.len() <= bytes_max && !text.chars().any(|c| c.is_control() && c != '\n')
}

/// Reads the bytes as a report, by itself and in a folder; whether it was one.
fn read(dir: &Path, bytes: &[u8]) -> bool {
    let path = dir.join("some.ips");
    fs::write(&path, bytes).unwrap();
    let alone = read_report(&path);
    let mut folder = ReportFolder::new(dir);
    let scanned = folder.scan(0);
    let Ok((id, report)) = alone else {
        assert!(scanned.is_empty());
        return false;
    };
    assert!(is_safe(id.as_str(), 255) && !id.as_str().contains('\n'));
    match &report {
        Report::Crash { process, text, .. } => {
            assert!(is_safe(process, 255) && is_safe(text, REPORT_TEXT_BYTES_MAX));
        }
        Report::Jetsam { victims, .. } => {
            assert!(victims.iter().all(|victim| is_safe(&victim.name, 255)));
        }
        Report::Panic { boot_session, text, .. } => {
            assert!(is_safe(text, REPORT_TEXT_BYTES_MAX));
            assert!(boot_session.as_ref().is_none_or(|uuid| uuid.len() == 36));
        }
        Report::Gpu { process, .. } => assert!(is_safe(process, 255)),
    }
    if let Some(signature) = Catalogue::builtin().match_report(&report) {
        assert_eq!(signature.source, report.source());
    }
    assert_eq!(scanned, [(id, report)]);
    true
}

#[test]
fn any_bytes_in_place_of_a_report() {
    let dir = tempfile::tempdir().unwrap();
    check(500, &vec(any::<u8>(), 0..300), |bytes| {
        read(dir.path(), &bytes);
    });
}

#[test]
fn reports_with_some_bytes_changed() {
    let dir = tempfile::tempdir().unwrap();
    let reports = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reports");
    let (whole, broken) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    for sample in SAMPLES {
        let original = fs::read(reports.join(sample)).unwrap();
        check(300, &edits(), |edits| {
            let count = if read(dir.path(), &apply(&original, &edits)) { &whole } else { &broken };
            count.set(count.get() + 1);
        });
    }
    // Else the changes would be too harmless, or too harmful, to test anything.
    assert!(whole.get() > 50 && broken.get() > 50, "{whole:?} {broken:?}");
}

#[test]
fn the_catalogue_with_some_bytes_changed() {
    let original = include_str!("../../../config/signatures.toml");
    let entries: Vec<_> =
        original.split_inclusive("\n\n").filter(|e| e.contains("[[signature]]")).collect();
    let (loaded, refused) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let strategy = (any::<Index>(), edits());
    check(600, &strategy, |(from, edits)| {
        // A part of it, since compiling all patterns each time would take minutes.
        let from = from.index(entries.len());
        let part: String = entries[from..entries.len().min(from + 6)].concat();
        let text = String::from_utf8_lossy(&apply(part.as_bytes(), &edits)).into_owned();
        match Catalogue::parse(&text, "fuzz") {
            Ok(catalogue) => {
                loaded.set(loaded.get() + 1);
                let signatures = catalogue.signatures();
                let ids: BTreeSet<_> = signatures.iter().map(|s| &s.id).collect();
                assert!(ids.len() == signatures.len() && signatures.len() <= SIGNATURES_MAX);
                assert!(catalogue.match_output(Writer::Rank, "").is_none());
            }
            Err(CatalogueError::Invalid { problems, .. }) => {
                refused.set(refused.get() + 1);
                let lines = 1 + text.matches('\n').count();
                assert!(!problems.is_empty() && problems.len() <= 100);
                assert!(problems.iter().all(|p| (1..=lines).contains(&p.line)), "{problems:?}");
                assert!(problems.is_sorted_by_key(|p| p.line), "{problems:?}");
            }
            Err(other) => panic!("{other}"),
        }
    });
    assert!(loaded.get() > 50 && refused.get() > 50, "{loaded:?} {refused:?}");
}

#[test]
fn any_text_in_place_of_a_line() {
    let piece = prop_oneof![
        ".{0,40}",
        Just("[jaccl] ".to_owned()),
        Just("[METAL] Command buffer execution failed".to_owned()),
        Just("errno=60 ".repeat(400)),
        Just("ä\u{85}\u{1b}[31m".repeat(500)),
    ];
    let strategy = vec(piece, 0..12).prop_map(|pieces| pieces.concat());
    check(300, &strategy, |line| {
        let catalogue = Catalogue::builtin();
        if let Some(signature) = catalogue.match_output(Writer::Rank, &line) {
            let hit = signature.hit(&line);
            assert!(is_safe(&hit.text, HIT_TEXT_BYTES_MAX) && !hit.text.contains('\n'));
        }
        assert!(catalogue.explain(&line).len() <= EXPLAIN_MAX);
    });
}
