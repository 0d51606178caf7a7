//! A host for tests: quiet, with all of its memory readable and no rank that ever ran.

use std::collections::BTreeMap;

use crate::{
    Artifacts, GatewaySeen, Memory, Moment, Need, Observation, Owner, Process, RankSeen, Reading,
};

pub(crate) const GIB: u64 = 1 << 30;

/// Memory of the larger Mac Studio, in GiB.
pub(crate) const TOTAL_GIB: u64 = 512;

pub(crate) const fn at(boot_ms: u64) -> Moment {
    Moment { boot_ms, wall_ms: 1_700_000_000_000 + boot_ms }
}

pub(crate) fn owner(pid: u32, name: &str, gib: u64) -> Owner {
    Owner { pid, name: name.into(), footprint_bytes: gib * GIB }
}

pub(crate) fn memory(at_ms: u64, wired_gib: u64, owners: Vec<Owner>) -> Memory {
    Memory {
        at_ms,
        total_bytes: TOTAL_GIB * GIB,
        wired_bytes: wired_gib * GIB,
        available_bytes: (TOTAL_GIB - wired_gib) * GIB,
        owners,
    }
}

pub(crate) fn never() -> RankSeen {
    RankSeen { process: Process::Never, phase: None, vitals: None }
}

pub(crate) fn running(epoch: u64) -> RankSeen {
    let process = Process::Running { pid: 100, epoch };
    RankSeen { process, phase: Some(tandem_wire::Phase::Ready), vitals: None }
}

/// Two ranks that never ran, a gateway that is ready, and 5 GiB wired.
pub(crate) fn quiet(at_ms: u64) -> Observation {
    let process = Process::Running { pid: 200, epoch: 0 };
    Observation {
        ranks: vec![never(), never()],
        gateway: GatewaySeen { process, ready: Reading::Known { value: true, age_ms: 10 } },
        terminations: 0,
        invariants: BTreeMap::new(),
        thunderbolt: None,
        memory: Some(memory(at_ms, 5, Vec::new())),
        artifacts: Artifacts::Complete { weights_bytes: 400 * GIB, need: Need::Estimated },
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
