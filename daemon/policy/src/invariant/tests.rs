//! What the tests of judging and of drift begin with.

use std::collections::BTreeMap;

use crate::{Artifacts, GatewaySeen, Observation, Process, Reading};

/// A host of which nothing was read yet.
pub(crate) fn observation() -> Observation {
    Observation {
        ranks: Vec::new(),
        gateway: GatewaySeen { process: Process::Never, ready: Reading::Unknown },
        terminations: 0,
        invariants: BTreeMap::new(),
        thunderbolt: None,
        memory: None,
        artifacts: Artifacts::Unread,
        fallback_artifacts: Artifacts::Unread,
        manifest: None,
        peers: Vec::new(),
        evidence: Vec::new(),
        canary: None,
        requests: Default::default(),
        orders: Vec::new(),
        config_refused: None,
        ledger_trouble: None,
    }
}
