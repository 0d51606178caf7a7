//! What is counted of events. Every label comes from a closed list, so that no cause, however it is
//! worded, makes a new time series.

use std::collections::BTreeMap;

use tandem_policy::{
    Event, What,
    fault::Kind,
    gates::{GateName, GateState},
    invariant::Invariant,
    reboot::Cause,
};

/// Every [`Kind::name`]. A test compares it with the schema of [`Kind`].
pub(crate) const FAULT_KINDS: [&str; 26] = [
    "broken",
    "flapping",
    "engine",
    "stall",
    "canary",
    "canary_refused",
    "unanswered",
    "garbage",
    "model_changed",
    "gateway",
    "leak_suspected",
    "leak_confirmed",
    "memory",
    "signature",
    "panic",
    "reboot_refused",
    "reboot_failed",
    "held",
    "peer_lost",
    "path_lost",
    "parity",
    "unpaired",
    "fallback",
    "fabric",
    "config",
    "ledger",
];

/// The kinds of faults that are evidence of a crash.
pub(crate) const CRASH_KINDS: [&str; 4] = ["engine", "gateway", "signature", "panic"];

/// Totals since the supervisor started, or since the first event it recalled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) drifts: BTreeMap<Invariant, u64>,
    /// By a word of [`tandem_policy::reboot::cause::LABELS`].
    pub(crate) reboots: BTreeMap<&'static str, u64>,
    /// Epochs that came to serve.
    pub(crate) starts_served: u64,
    /// Epochs that failed before they did.
    pub(crate) starts_failed: u64,
    /// By a word of [`CRASH_KINDS`].
    pub(crate) crashes: BTreeMap<&'static str, u64>,
    /// From the boot to the first pass of the last gate, in milliseconds since boot.
    pub(crate) boot_to_serving_ms: Option<u64>,
    /// A boot was seen to begin, and the last gate has not passed in it.
    is_booting: bool,
}

impl Counters {
    pub(crate) fn count(&mut self, event: &Event) {
        match &event.what {
            // A supervisor that starts again in the middle of a boot says nothing about the boot.
            What::Started { is_new_boot: true, .. } => {
                self.is_booting = true;
                self.boot_to_serving_ms = None;
            }
            What::Gate(gate)
                if self.is_booting
                    && gate.gate == GateName::Serving
                    && gate.state == GateState::Passed =>
            {
                self.is_booting = false;
                self.boot_to_serving_ms = Some(event.boot_ms);
            }
            What::Drift { invariant, .. } => add(&mut self.drifts, *invariant),
            What::Reboot { phase, cause, .. } if phase == "rebooting" => {
                add(&mut self.reboots, Cause::label(cause.as_deref().unwrap_or_default()));
            }
            What::Epoch { from, to, .. } if from == "starting" => match to.as_str() {
                "serving" => self.starts_served = self.starts_served.saturating_add(1),
                "stopping" | "backoff" | "held" => {
                    self.starts_failed = self.starts_failed.saturating_add(1);
                }
                _ => {}
            },
            What::FaultRaised(fault) => {
                let kind = Kind::name(&fault.kind);
                if CRASH_KINDS.contains(&kind) {
                    add(&mut self.crashes, kind);
                }
            }
            _ => {}
        }
    }
}

fn add<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K) {
    let count = counts.entry(key).or_default();
    *count = count.saturating_add(1);
}

#[cfg(test)]
mod tests {
    use tandem_policy::{Fault, Rung, gates::Gate, reboot::cause};

    use super::*;

    fn at(boot_ms: u64, what: What) -> Event {
        Event { wall_ms: 0, boot_ms, what }
    }

    fn counted(events: Vec<Event>) -> Counters {
        let mut counters = Counters::default();
        events.iter().for_each(|event| counters.count(event));
        counters
    }

    fn started(is_new_boot: bool) -> What {
        What::Started { boot: "b".into(), is_new_boot, version: "1".into() }
    }

    fn gate(gate: GateName, state: GateState) -> What {
        What::Gate(Gate { gate, state, evidence: String::new(), remedy: String::new() })
    }

    #[test]
    fn the_fault_kinds_are_those_of_the_policy() {
        let schema = schemars::schema_for!(Kind).to_value();
        let mut names: Vec<&str> = Vec::new();
        for variant in schema["oneOf"].as_array().unwrap() {
            names.push(variant["properties"]["fault"]["const"].as_str().unwrap());
        }
        assert_eq!(names, FAULT_KINDS);
        assert!(CRASH_KINDS.iter().all(|kind| FAULT_KINDS.contains(kind)));
    }

    #[test]
    fn only_a_boot_that_was_seen_to_begin_is_timed_and_only_once() {
        use GateName::{Engine, Serving};
        use GateState::{Failed, Passed};
        let serving = |at_ms| at(at_ms, gate(Serving, Passed));
        let cases = [
            (vec![at(1, started(true)), serving(90_000)], Some(90_000)),
            (vec![at(1, started(true)), serving(90_000), serving(95_000)], Some(90_000)),
            (vec![at(1, started(false)), serving(90_000)], None),
            (vec![at(1, started(true)), at(5, started(false)), serving(90_000)], Some(90_000)),
            (vec![at(1, started(true)), serving(9), at(1, started(true))], None),
            (vec![at(1, started(true)), at(9, gate(Serving, Failed))], None),
            (vec![at(1, started(true)), at(9, gate(Engine, Passed))], None),
        ];
        for (events, expected) in cases {
            assert_eq!(counted(events.clone()).boot_to_serving_ms, expected, "{events:?}");
        }
    }

    #[test]
    fn a_reboot_counts_once_under_the_cause_that_the_policy_writes() {
        let reboot = |phase: &str, cause: Option<String>| {
            at(0, What::Reboot { phase: phase.into(), cause, intent: None, proposer: None })
        };
        let told = |kind: &str| {
            let evidence = "412 GiB have no owner: leak".into();
            Some(Cause { kind: kind.into(), evidence }.told())
        };
        let mut events = vec![reboot("draining", told(cause::LEAK)), reboot("steady", None)];
        for kind in
            [cause::LEAK, cause::ORDERED, cause::RESTARTS, cause::FABRIC, "rdma-pairing-stale"]
        {
            events.push(reboot("committed", told(kind)));
            events.push(reboot("rebooting", told(kind)));
        }
        events.push(reboot("rebooting", Some("A WORD nobody knows".into())));
        events.push(reboot("rebooting", None));
        let expected = [
            (cause::LEAK, 1),
            (cause::ORDERED, 1),
            (cause::RESTARTS, 1),
            (cause::FABRIC, 1),
            (cause::SIGNATURE, 1),
            (cause::OTHER, 2),
        ];
        assert_eq!(counted(events).reboots, BTreeMap::from(expected));
    }

    #[test]
    fn an_epoch_counts_when_its_start_is_over() {
        let epoch = |from: &str, to: &str| {
            at(0, What::Epoch { epoch: 1, from: from.into(), to: to.into(), cause: None })
        };
        let counters = counted(vec![
            epoch("idle", "starting"),
            epoch("starting", "serving"),
            epoch("serving", "stopping"),
            epoch("stopping", "backoff"),
            epoch("starting", "stopping"),
            epoch("starting", "held"),
            epoch("starting", "drained"),
        ]);
        assert_eq!((counters.starts_served, counters.starts_failed), (1, 2));
    }

    #[test]
    fn drifts_and_crashes_count_by_name() {
        let fault = |kind| {
            let (evidence, remedy) = (String::new(), String::new());
            at(
                0,
                What::FaultRaised(Fault {
                    kind,
                    since_wall_ms: 0,
                    count: 1,
                    evidence,
                    rung: Rung::None,
                    remedy,
                }),
            )
        };
        let drift = What::Drift {
            invariant: Invariant::LinkMtu,
            found: "1500".into(),
            wanted: "9000".into(),
        };
        let counters = counted(vec![
            at(0, drift.clone()),
            at(1, drift),
            fault(Kind::Panic),
            fault(Kind::Signature("metal-oom".into())),
            fault(Kind::Signature("ring-recv".into())),
            fault(Kind::Config),
        ]);
        assert_eq!(counters.drifts, BTreeMap::from([(Invariant::LinkMtu, 2)]));
        assert_eq!(counters.crashes, BTreeMap::from([("panic", 1), ("signature", 2)]));
    }
}
