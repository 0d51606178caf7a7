//! What was met, so that a simulator that simulates nothing shows.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    run,
    trouble::{FabricTrouble, Kind, PairTrouble, Trouble},
};

/// What one life met.
#[derive(Clone, Debug, Default)]
pub struct Met(BTreeSet<String>);

impl Met {
    /// Met this.
    pub fn mark(&mut self, what: &str) {
        if !self.0.contains(what) {
            self.0.insert(what.to_owned());
        }
    }

    /// And what another met.
    pub fn add(&mut self, other: &Self) {
        self.0.extend(other.0.iter().cloned());
    }

    /// Whether it was met.
    pub fn has(&self, what: &str) -> bool {
        self.0.contains(what)
    }
}

/// How many lives met what.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    lives: u64,
    counts: BTreeMap<String, u64>,
}

/// What else than troubles must be met in enough lives: what policy can do and say.
const MUST_MEET: &[&str] = &[
    "status healthy",
    "status degraded",
    "status not_serving",
    "action mend",
    "action start_gang",
    "action unload_rank",
    "action kill_rank",
    "action start_gateway",
    "action stop_gateway",
    "action kill_gateway",
    "action canary",
    "files remembered",
    "action reboot",
    "action exit",
    "ranks adopted",
    "ranks of another epoch cleared",
    "memory stranded",
    "rebooted automatically",
    "held",
    "released from held",
    "order drain",
    "order resume",
    "order hold",
    "order release",
    "prefill step lowered",
    "healed without help",
    "fault broken",
    "fault flapping",
    "fault engine",
    "fault canary",
    "fault canary_refused",
    "fault unanswered",
    "fault garbage",
    "fault model_changed",
    "fault gateway",
    "fault leak_suspected",
    "fault leak_confirmed",
    "fault memory",
    "fault signature",
    "fault panic",
    "fault reboot_refused",
    "fault held",
    "fault config",
    "fault ledger",
];

/// The same in lives of several nodes.
const MUST_MEET_IN_PAIR: &[&str] = &[
    "2 nodes",
    "3 nodes",
    "4 nodes",
    "status healthy",
    "ranks adopted",
    "memory stranded",
    "rebooted automatically",
    "held",
    "released from held",
    "healed without help",
    "order reboot",
    "reboot Draining",
    "reboot Ready",
    "reboot Committed",
    "reboot Rebooting",
    "reboot Verifying",
    "reboot of all",
    "reboot alone",
    "reboot ordered",
    "followed a proposer that was already gone",
    "veto NotAllowed",
    "the fabric failed",
    "the ring in the fabric's place",
    "served by the ring in the fabric's place",
    "fault fabric",
];

impl Coverage {
    /// One more life.
    pub fn add(&mut self, met: &Met) {
        self.lives += 1;
        for what in &met.0 {
            *self.counts.entry(what.clone()).or_insert(0) += 1;
        }
    }

    /// And those of another.
    pub fn merge(&mut self, other: &Self) {
        self.lives += other.lives;
        for (what, count) in &other.counts {
            *self.counts.entry(what.clone()).or_insert(0) += count;
        }
    }

    /// What many lives of this kind should have met and did not.
    pub fn missing(&self, kind: run::Kind) -> Vec<String> {
        let name = |name: &str| format!("trouble {name}");
        let mut wanted: Vec<String> = match kind {
            run::Kind::Alone => Trouble::ALL.iter().map(|t| name(t.name())).collect(),
            run::Kind::Pair => {
                let of_fabric = FabricTrouble::ALL.iter().map(|t| name(t.name()));
                PairTrouble::ALL.iter().map(|t| name(t.name())).chain(of_fabric).collect()
            }
        };
        let others = match kind {
            run::Kind::Alone => MUST_MEET,
            run::Kind::Pair => MUST_MEET_IN_PAIR,
        };
        wanted.extend(others.iter().map(|what| (*what).to_owned()));
        wanted.retain(|what| !self.counts.contains_key(what));
        wanted
    }
}

impl std::fmt::Display for Coverage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} lives. Of these had or did:", self.lives)?;
        let lines: Vec<_> = self.counts.iter().collect();
        for row in lines.chunks(3) {
            for (what, count) in row {
                write!(f, "  {count:>7} {what:<30}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
