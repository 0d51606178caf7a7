//! `GET /metrics`: OpenMetrics text, made anew for every scrape.
//!
//! A value that is not known has no line: a dashboard shows a gap, not a zero. Labels come from
//! closed lists only.

mod sheet;
#[cfg(test)]
mod tests;

use std::{fmt, time::Duration};

use tandem_policy::{
    Health, Status,
    invariant::Invariant,
    pair::NODES_MAX,
    reboot::cause::{self, OTHER},
};

use crate::publish::{
    Build,
    counters::{CRASH_KINDS, Counters, FAULT_KINDS},
};
use sheet::Sheet;

/// Ranks that get lines of their own; no config has as many.
const RANKS_MAX: usize = 64;

/// Ways to one node that get lines of their own; no config has as many.
const PATHS_MAX: usize = 16;

/// Every verdict on leaked memory.
const LEAK_STATES: [&str; 4] = ["clear", "watching", "suspect", "confirmed"];

/// Every phase of the ranks.
const ENGINE_STATES: [&str; 7] =
    ["idle", "starting", "serving", "stopping", "backoff", "held", "drained"];

/// All metrics as text.
pub(crate) fn encode(
    build: &Build,
    last: Option<(&Status, Duration)>,
    counters: &Counters,
) -> Result<String, fmt::Error> {
    let mut sheet = Sheet::new();
    sheet.info("build", "What was built", "version", &build.version);
    counted(&mut sheet, counters);
    if let Some((status, age)) = last {
        sheet.gauge(
            "status_age_seconds",
            "Time since the supervisor's last turn",
            Some(age.as_secs_f64()),
        );
        seen(&mut sheet, status);
        memory(&mut sheet, status);
        engine(&mut sheet, status);
        nodes(&mut sheet, status);
    }
    sheet.text()
}

fn counted(sheet: &mut Sheet, counters: &Counters) {
    sheet.counters(
        "drift",
        "Times that an invariant stopped to hold",
        "name",
        Invariant::ALL.iter().map(|name| (label(*name), counters.drifts.get(name).copied())),
    );
    let of = |name: &str, counts: &std::collections::BTreeMap<&'static str, u64>| {
        (name.to_owned(), counts.get(name).copied())
    };
    sheet.counters(
        "reboots",
        "Reboots by what asked for them",
        "reason",
        cause::LABELS.iter().map(|name| of(name, &counters.reboots)),
    );
    sheet.counters(
        "crash_evidence",
        "Evidence of crashes by kind of fault",
        "kind",
        CRASH_KINDS.iter().map(|name| of(name, &counters.crashes)),
    );
    sheet.counters(
        "engine_starts",
        "Starts of the ranks by what came of them",
        "result",
        [
            ("served".to_owned(), Some(counters.starts_served)),
            ("failed".to_owned(), Some(counters.starts_failed)),
        ],
    );
    sheet.gauge(
        "boot_to_serving_seconds",
        "From this boot to the first proof of serving in it",
        counters.boot_to_serving_ms.map(seconds),
    );
}

fn seen(sheet: &mut Sheet, status: &Status) {
    let health = match status.health {
        Health::Healthy => "healthy",
        Health::Degraded => "degraded",
        Health::NotServing => "not_serving",
    };
    one_hot(
        sheet,
        "health",
        "The status in one word",
        &["healthy", "degraded", "not_serving"],
        health,
    );
    sheet.gauge("proven", "Whether tokens came lately", Some(flag(status.proven)));
    sheet.gauges(
        "invariant_ok",
        "Whether an invariant is known to hold",
        "name",
        // What this platform has not, or no config asks for, is neither well nor ill.
        status
            .invariants
            .iter()
            .filter(|row| !is_absent(row.unknown.as_ref()))
            .map(|row| (label(row.name), flag(row.holds == Some(true)))),
    );
    let open = |kind: &str| status.faults.iter().filter(|f| f.kind.name() == kind).count();
    sheet.gauges(
        "faults_open",
        "Open faults by kind",
        "kind",
        FAULT_KINDS.iter().map(|kind| ((*kind).to_owned(), count(open(kind)))),
    );
    sheet.gauge(
        "reboot_budget_remaining",
        "Automatic reboots that are left for the last 24 hours",
        Some(f64::from(status.reboot.budget_left)),
    );
}

fn memory(sheet: &mut Sheet, status: &Status) {
    let memory = status.memory.as_ref();
    sheet.gauge("wired_bytes", "Wired memory", memory.map(|m| bytes(m.wired_bytes)));
    sheet.gauge(
        "wired_baseline_bytes",
        "Wired memory without an engine, as learned",
        memory.and_then(|m| m.baseline_bytes).map(bytes),
    );
    sheet.gauge(
        "wired_unexplained_bytes",
        "Wired memory that nobody alive owns",
        memory.map(|m| bytes(m.unexplained_bytes)),
    );
    if let Some(memory) = memory {
        let help = "The verdict on leaked wired memory";
        one_hot(sheet, "leak_state", help, &LEAK_STATES, &memory.leak);
    }
}

fn engine(sheet: &mut Sheet, status: &Status) {
    one_hot(sheet, "engine_state", "The phase of the ranks", &ENGINE_STATES, &status.phase);
    sheet.gauge(
        "restarts",
        "Restarts of the ranks in the current window",
        Some(f64::from(status.restarts)),
    );
    // All ranks compute the same tokens, so the first one's are all there are.
    sheet.counter(
        "tokens",
        "Tokens generated by this epoch",
        status.ranks.first().and_then(|r| r.tokens),
    );
    let ranks = || status.ranks.iter().take(RANKS_MAX);
    sheet.counters(
        "rank_steps",
        "Steps finished by a rank's process",
        "rank",
        ranks().filter_map(|rank| Some((rank.rank.to_string(), Some(rank.steps?)))),
    );
    sheet.gauges(
        "rank_memory_bytes",
        "Memory that MLX holds in a rank",
        "rank",
        ranks().filter_map(|rank| Some((rank.rank.to_string(), bytes(rank.memory_bytes?)))),
    );
}

/// The other nodes and the ways to them, by number, since a name can be any text.
fn nodes(sheet: &mut Sheet, status: &Status) {
    let nodes = || status.pair.nodes.iter().enumerate().take(NODES_MAX);
    let paths = || {
        nodes().flat_map(|(number, node)| {
            let of = move |(way, path)| (format!("{number}.{way}"), path);
            node.paths.iter().take(PATHS_MAX).enumerate().map(of)
        })
    };
    let heard = nodes().map(|(number, node)| (number.to_string(), flag(node.is_heard)));
    sheet.gauges("node_heard", "Whether a node was heard lately", "node", heard);
    let up = paths().map(|(path, seen)| (path, flag(seen.is_up)));
    sheet.gauges("path_up", "Whether a way to a node answers", "path", up);
    let times = paths().filter_map(|(path, seen)| Some((path, micros(seen.round_trip_us?))));
    let help = "Time of a question and its answer on a way to a node";
    sheet.gauges("path_round_trip_seconds", help, "path", times);
}

/// One line a state: 1 for the one it is in, else 0; a word that is in no list counts as `other`.
fn one_hot(sheet: &mut Sheet, name: &str, help: &str, states: &[&str], now: &str) {
    let now = if states.contains(&now) { now } else { OTHER };
    let rows = states.iter().chain([&OTHER]).map(|s| ((*s).to_owned(), flag(*s == now)));
    sheet.gauges(name, help, "state", rows);
}

/// An invariant's name, as in the config.
fn label(invariant: Invariant) -> String {
    match serde_json::to_value(invariant) {
        Ok(serde_json::Value::String(name)) => name,
        _ => OTHER.to_owned(),
    }
}

const fn is_absent(unknown: Option<&tandem_policy::invariant::Unknown>) -> bool {
    use tandem_policy::invariant::Unknown::{NotConfigured, NotOnThisPlatform};
    matches!(unknown, Some(NotOnThisPlatform | NotConfigured(_)))
}

const fn flag(is_so: bool) -> f64 {
    if is_so { 1.0 } else { 0.0 }
}

/// Exact up to 8 PiB.
const fn bytes(bytes: u64) -> f64 {
    bytes as f64
}

const fn count(n: usize) -> f64 {
    n as f64
}

const fn micros(us: u64) -> f64 {
    us as f64 / 1_000_000.0
}

const fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}
