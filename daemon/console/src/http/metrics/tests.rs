use std::collections::{BTreeMap, BTreeSet};

use tandem_policy::{Event, Status, What};

use super::*;
use crate::command::fixtures;

fn build() -> Build {
    Build { version: "0.1.0".into() }
}

fn encoded(status: &Status, counters: &Counters) -> String {
    encode(&build(), Some((status, Duration::from_millis(250))), counters).unwrap()
}

/// Reads the text format: the value of every line, by its name and labels. Panics at what the
/// OpenMetrics 1.0 text format does not allow of what is used here.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut values = BTreeMap::new();
    let mut typed = BTreeSet::new();
    let body = text.strip_suffix("# EOF\n").expect("the text ends with # EOF");
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let (keyword, rest) = comment.split_once(' ').expect(line);
            assert!(["HELP", "TYPE", "UNIT"].contains(&keyword), "{line}");
            if keyword == "TYPE" {
                assert!(typed.insert(rest.split(' ').next().unwrap().to_owned()), "twice: {line}");
            }
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').expect(line);
        let name = sample.split('{').next().unwrap();
        assert!(name.starts_with("tandem_"), "{line}");
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{line}");
        let family = |suffix| name.strip_suffix(suffix).is_some_and(|f| typed.contains(f));
        assert!(typed.contains(name) || family("_total") || family("_info"), "untyped: {line}");
        if let Some(labels) = sample.strip_prefix(name).filter(|labels| !labels.is_empty()) {
            let inner = labels.strip_prefix('{').and_then(|l| l.strip_suffix("\"}")).expect(line);
            let (_, value) = inner.split_once("=\"").expect(line);
            assert!(!value.contains(['"', '\\']), "one plain label: {line}");
        }
        let value: f64 = value.parse().expect(line);
        assert!(value.is_finite() && value >= 0.0, "{line}");
        assert!(values.insert(sample.to_owned(), value).is_none(), "twice: {line}");
    }
    values
}

/// The names and labels, without values.
fn series(text: &str) -> BTreeSet<String> {
    parse(text).into_keys().collect()
}

#[test]
fn nodes_and_ways_are_counted_by_number() {
    let values = parse(&encoded(&fixtures::paired(), &Counters::default()));
    for (name, expected) in [
        ("tandem_node_heard{node=\"0\"}", 1.0),
        ("tandem_node_heard{node=\"1\"}", 1.0),
        ("tandem_path_up{path=\"1.0\"}", 1.0),
        ("tandem_path_up{path=\"1.1\"}", 0.0),
        ("tandem_path_round_trip_seconds{path=\"1.0\"}", 0.000_21),
    ] {
        assert_eq!(values.get(name), Some(&expected), "{name}");
    }
    assert!(!values.contains_key("tandem_path_round_trip_seconds{path=\"1.1\"}"), "not known");
}

#[test]
fn the_values_are_those_of_the_status() {
    let mut counters = Counters::default();
    counters.count(&Event {
        wall_ms: 0,
        boot_ms: 0,
        what: What::Drift {
            invariant: Invariant::LinkMtu,
            found: "1500".into(),
            wanted: "9000".into(),
        },
    });
    let values = parse(&encoded(&fixtures::degraded(), &counters));
    let gibibyte = f64::from(1 << 30);
    let cases = [
        ("tandem_build_info{version=\"0.1.0\"}", 1.0),
        ("tandem_status_age_seconds", 0.25),
        ("tandem_health{state=\"degraded\"}", 1.0),
        ("tandem_health{state=\"healthy\"}", 0.0),
        ("tandem_proven", 0.0),
        ("tandem_invariant_ok{name=\"link_mtu\"}", 0.0),
        ("tandem_drift_total{name=\"link_mtu\"}", 1.0),
        ("tandem_drift_total{name=\"open_files\"}", 0.0),
        ("tandem_wired_bytes", 270.0 * gibibyte),
        ("tandem_wired_baseline_bytes", 6.0 * gibibyte),
        ("tandem_wired_unexplained_bytes", 0.0),
        ("tandem_leak_state{state=\"clear\"}", 1.0),
        ("tandem_reboot_budget_remaining", 3.0),
        ("tandem_reboots_total{reason=\"leak\"}", 0.0),
        ("tandem_engine_state{state=\"backoff\"}", 1.0),
        ("tandem_engine_state{state=\"serving\"}", 0.0),
        ("tandem_engine_starts_total{result=\"served\"}", 0.0),
        ("tandem_crash_evidence_total{kind=\"panic\"}", 0.0),
        ("tandem_faults_open{kind=\"broken\"}", 1.0),
        ("tandem_faults_open{kind=\"signature\"}", 1.0),
        ("tandem_faults_open{kind=\"panic\"}", 0.0),
        ("tandem_restarts", 1.0),
        ("tandem_tokens_total", 48_211.0),
        ("tandem_rank_steps_total{rank=\"0\"}", 15_000.0),
        ("tandem_rank_memory_bytes{rank=\"0\"}", 131.0 * gibibyte),
    ];
    for (name, expected) in cases {
        assert_eq!(values.get(name), Some(&expected), "{name}");
    }
}

#[test]
fn what_is_not_known_has_no_line() {
    let values = parse(&encoded(&fixtures::unknown(), &Counters::default()));
    for name in [
        "tandem_wired_bytes",
        "tandem_wired_baseline_bytes",
        "tandem_leak_state{state=\"clear\"}",
        "tandem_boot_to_serving_seconds",
        "tandem_tokens_total",
        "tandem_rank_steps_total{rank=\"0\"}",
    ] {
        assert!(!values.contains_key(name), "{name}");
    }
    // But an invariant that was not read is not well.
    assert_eq!(values.get("tandem_invariant_ok{name=\"link_mtu\"}"), Some(&0.0));
    let nothing = parse(&encode(&build(), None, &Counters::default()).unwrap());
    assert!(nothing.contains_key("tandem_build_info{version=\"0.1.0\"}"));
    assert!(!nothing.contains_key("tandem_proven"));
}

#[test]
fn what_this_platform_has_not_is_neither_well_nor_ill() {
    let values = parse(&encoded(&fixtures::healthy(), &Counters::default()));
    assert_eq!(values.get("tandem_invariant_ok{name=\"link_mtu\"}"), Some(&1.0));
    assert!(!values.contains_key("tandem_invariant_ok{name=\"spotlight_off\"}"));
}

#[test]
fn no_text_of_a_status_becomes_a_label() {
    let shown = Status { pair: fixtures::hostile().pair, ..fixtures::degraded() };
    let plain = series(&encoded(&shown, &Counters::default()));
    let mut hostile = fixtures::hostile();
    // What differs by design: rows of invariants whose state differs.
    hostile.invariants = fixtures::degraded().invariants;
    assert_eq!(series(&encoded(&hostile, &Counters::default())), plain);
}

#[test]
fn the_number_of_lines_is_bounded_however_odd_the_status() {
    let mut odd = fixtures::degraded();
    let rank = odd.ranks[0].clone();
    odd.ranks = (0..10_000)
        .map(|n| tandem_policy::RankStatus { rank: n, tokens: Some(u64::MAX), ..rank.clone() })
        .collect();
    odd.faults = vec![odd.faults[0].clone(); 5_000];
    odd.invariants = vec![odd.invariants[0].clone(); 5_000];
    odd.restarts = u32::MAX;
    odd.reboot.budget_left = u32::MAX;
    for row in &mut odd.ranks {
        row.memory_bytes = Some(u64::MAX);
    }
    let values = parse(&encoded(&odd, &Counters::default()));
    assert!(values.len() < 300, "{}", values.len());
    assert_eq!(values.get("tandem_faults_open{kind=\"broken\"}"), Some(&5_000.0));
}

/// A small generator (SplitMix64, Steele et al. 2014): the same statuses on every run.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn any_status_makes_text_that_can_be_parsed() {
    let texts =
        ["", "serving", "clear", "a\"b\\c\nd", "\u{0}", "日本", "{", "}", "# EOF\n", " 1 2"];
    let mut seed = 7;
    for _ in 0..500 {
        let mut status = fixtures::hostile();
        let text = |seed: &mut u64| {
            let at = next(seed) as usize % texts.len();
            texts[at].repeat(next(seed) as usize % 3)
        };
        status.phase = text(&mut seed);
        status.epoch = next(&mut seed);
        status.restarts = next(&mut seed) as u32;
        status.reboot.budget_left = next(&mut seed) as u32;
        if let Some(memory) = &mut status.memory {
            memory.leak = text(&mut seed);
            memory.wired_bytes = next(&mut seed);
            memory.unexplained_bytes = next(&mut seed);
            memory.baseline_bytes = next(&mut seed).is_multiple_of(2).then(|| next(&mut seed));
        }
        for rank in &mut status.ranks {
            // The same number twice is one series.
            rank.rank = next(&mut seed) as u32 % 3;
            rank.steps = Some(next(&mut seed));
            rank.memory_bytes = Some(next(&mut seed));
        }
        let values = parse(&encoded(&status, &Counters::default()));
        let states: f64 = values
            .iter()
            .filter(|(name, _)| name.starts_with("tandem_engine_state"))
            .map(|(_, value)| value)
            .sum();
        assert_eq!(states, 1.0, "{:?}", status.phase);
    }
}
