//! All that must outlive a crash of the supervisor.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use std::collections::BTreeMap;

use crate::{
    Moment, canary,
    fault::{Fault, Kind, Rung},
    gang,
    gates::Gate,
    gateway,
    invariant::{Invariant, drift},
    leak,
    pair::{self, fabric::Carrier},
    reboot, retune, stall,
    watched::Watched,
};

/// Raised whenever the file's meaning changes; a file of another version is set aside.
pub const STATE_VERSION: u32 = 4;

/// Most suspected leaks remembered; the oldest go first. More than any restart budget allows.
const LEAKS_MAX: usize = 32;

/// What the supervisor remembers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// [`STATE_VERSION`].
    pub version: u32,
    /// The boot in which the times below were taken.
    pub boot: String,
    /// Number of the last epoch that was started or is being started.
    pub epoch: u64,
    /// Tokens of its prefill step, where the node with rank 0 told it; `None` where this node
    /// decides.
    pub told_step_tokens: Option<u32>,
    /// Whether all nodes serve together, or this one alone.
    pub mode: pair::Mode,
    /// Where the ranks are.
    pub gang: gang::Phase,
    /// When `gang` was entered, since boot.
    pub gang_since_ms: u64,
    /// Failures of the ranks in a row.
    pub gang_failures: u32,
    /// When the ranks were restarted after a failure, since boot, within the last window.
    pub restarts_ms: Vec<u64>,
    /// When they were restarted because they answered garbage: these have a bound of their own, since
    /// no reboot is ever to come of what a request met.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub garbage_restarts_ms: Vec<u64>,
    /// For how long the last epoch served, in milliseconds.
    pub last_served_ms: u64,
    /// Starts of the ranks in this boot.
    pub starts_in_boot: u32,
    /// How many of them initialised an RDMA fabric: neither the fallback nor a ring has one.
    pub fabric_starts: u32,
    /// What carries the last epoch that was started or is being started.
    pub carrier: Carrier,
    /// Failures of the RDMA fabric in this boot, since it last served or operators saw to it.
    pub fabric_failures: u32,
    /// The last of them, in words.
    pub last_fabric_failure: Option<String>,
    /// Why epochs are carried by the ring and not by the fabric that the config asks for; forgotten
    /// once the fabric serves.
    pub fabric_fallback: Option<String>,
    /// Whether a rank crashed or was killed in this boot.
    pub crashed_in_boot: bool,
    /// [`crate::Setup::rank_plan`] of the last start.
    pub rank_plan: String,
    /// Why the ranks last failed; forgotten once serving is proven again.
    pub last_failure: Option<Failure>,
    /// Ranks that were killed, and may have stranded memory.
    pub suspected_leaks: Vec<Leak>,
    /// Where the gateway is.
    pub gateway: gateway::Phase,
    /// Failures of the gateway in a row.
    pub gateway_failures: u32,
    /// [`crate::Setup::gateway_plan`] of the last start.
    pub gateway_plan: String,
    /// Since when all is to be stopped: by a signal, an operator or a reboot.
    pub draining_since_ms: Option<u64>,
    /// What drifted, and is not known to hold again or did so lately.
    pub drifts: BTreeMap<Invariant, drift::Drift>,
    /// Wired memory of this host without an engine.
    pub baseline: Option<leak::Baseline>,
    /// Whether wired memory has leaked.
    pub leak: leak::Verdict,
    /// The lowered prefill step.
    pub retune: Option<retune::Retune>,
    /// Where a reboot is.
    pub reboot: reboot::Phase,
    /// What else is remembered of reboots.
    pub reboot_memory: reboot::Memory,
    /// Automatic reboots, oldest first; at most [`reboot::HISTORY_MAX`].
    pub reboots: Vec<reboot::Past>,
    /// Running time over all boots, which no change of a clock touches.
    pub running: reboot::RunningTime,
    /// A cause that another reboot would not mend.
    pub latch: reboot::Latch,
    /// What operators decided.
    pub operator: Operator,
    /// Number of the last order that was obeyed.
    pub last_order: u64,
    /// Open faults.
    pub faults: Vec<Fault>,
    /// The gates as they last were.
    pub gates: Vec<Gate>,
    /// The last boots, this one last; at most [`BOOTS_MAX`]. A panic names the boot it ended.
    pub boots: Vec<String>,
    /// What a crash may forget: counting begins again.
    #[serde(skip)]
    pub scratch: Scratch,
}

/// Most boots remembered.
pub const BOOTS_MAX: usize = 16;

/// Why the ranks failed, and what mends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// In words.
    pub text: String,
    /// The smallest action that may mend it.
    pub rung: Rung,
    /// What it is, by the signature where one was found.
    pub kind: Kind,
    /// What an operator can do.
    pub remedy: String,
}

/// What operators decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operator {
    /// Nothing is to be done by itself.
    pub hold: Option<Hold>,
    /// Nothing is to be served.
    pub drained: bool,
}

impl Operator {
    /// Whether nothing is to be done by itself, or nothing served: then nothing is rebooted either.
    pub(crate) const fn stops_reboots(&self) -> bool {
        self.hold.is_some() || self.drained
    }
}

/// A hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// When it ends by itself, since 1970.
    pub until_wall_ms: Option<u64>,
}

/// What a crash may forget.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scratch {
    /// For how long this supervisor has looked.
    pub watched: Watched,
    /// Since when a rank of a serving gang has said nothing or is not ready, in time watched.
    pub silent_since_ms: Option<u64>,
    /// Since when the gateway has said nothing, in time watched.
    pub gateway_silent_since_ms: Option<u64>,
    /// Whether the last turn's state is not on disk: no epoch is begun and no reboot committed to then.
    pub is_unsaved: bool,
    /// The epoch that this supervisor itself decided to start.
    pub begun_epoch: Option<u64>,
    /// When it did, since boot.
    pub begun_ms: u64,
    /// When this supervisor first asked a process to unload, since boot, by its id.
    pub unload_asked_ms: BTreeMap<u32, u64>,
    /// Since when no rank has run, since boot.
    pub absent_since_ms: Option<u64>,
    /// What is tried to mend drifts.
    pub mends: BTreeMap<Invariant, drift::Mending>,
    /// Samples of unexplained memory.
    pub leak: leak::Samples,
    /// Proofs of serving.
    pub canary: canary::Proof,
    /// What each rank does, in their order.
    pub work: Vec<stall::Work>,
    /// Since when each gate is as it is, since boot.
    pub gate_since_ms: Vec<u64>,
    /// What the other nodes say of a reboot.
    pub reboot: reboot::Ears,
    /// What is remembered of the other nodes.
    pub peers: pair::watch::Watch,
    /// When the fallback is served, or unloaded for the others, if all stays as it is; since boot.
    pub mode_due_ms: Option<u64>,
    /// When the others must have started their ranks of a starting epoch, since boot.
    pub join_due_ms: Option<u64>,
    /// When the next epoch is carried by the ring if the fabric can't be used until then, since boot.
    pub fabric_due_ms: Option<u64>,
}

/// A rank that did not unload by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Leak {
    /// Its epoch.
    pub epoch: u64,
    /// Which rank.
    pub rank: u32,
    /// Its process id.
    pub pid: u32,
    /// When, since 1970.
    pub wall_ms: u64,
}

impl State {
    /// The memory of a supervisor that never ran.
    pub fn new(boot: &str) -> Self {
        Self {
            version: STATE_VERSION,
            boot: boot.to_owned(),
            epoch: 0,
            told_step_tokens: None,
            mode: pair::Mode::Pair,
            gang: gang::Phase::Idle,
            gang_since_ms: 0,
            gang_failures: 0,
            restarts_ms: Vec::new(),
            garbage_restarts_ms: Vec::new(),
            last_served_ms: 0,
            starts_in_boot: 0,
            fabric_starts: 0,
            carrier: Carrier::default(),
            fabric_failures: 0,
            last_fabric_failure: None,
            fabric_fallback: None,
            crashed_in_boot: false,
            rank_plan: String::new(),
            last_failure: None,
            suspected_leaks: Vec::new(),
            gateway: gateway::Phase::Down,
            gateway_failures: 0,
            gateway_plan: String::new(),
            draining_since_ms: None,
            drifts: BTreeMap::new(),
            baseline: None,
            leak: leak::Verdict::Clear,
            retune: None,
            reboot: reboot::Phase::Steady,
            reboot_memory: reboot::Memory::default(),
            reboots: Vec::new(),
            running: reboot::RunningTime::default(),
            latch: reboot::Latch::default(),
            operator: Operator::default(),
            last_order: 0,
            faults: Vec::new(),
            gates: Vec::new(),
            boots: vec![boot.to_owned()],
            scratch: Scratch::default(),
        }
    }

    /// What a new supervisor goes on with. Within one boot it takes up all where it was, so ranks
    /// and gateway that still run are adopted; after another boot only what outlives one is kept.
    pub fn resumed(self, boot: &str) -> Self {
        let scratch = Scratch::default();
        if self.boot == boot {
            // The signal that ended the last supervisor is not meant for this one.
            return Self { draining_since_ms: None, scratch, ..self }.undrained();
        }
        let mut boots = self.boots;
        boots.push(boot.to_owned());
        boots.drain(..boots.len().saturating_sub(BOOTS_MAX));
        Self {
            epoch: self.epoch,
            baseline: self.baseline,
            retune: self.retune,
            reboot: self.reboot.after_boot(),
            reboot_memory: self.reboot_memory.after_boot(),
            reboots: self.reboots,
            running: self.running.after_boot(),
            operator: self.operator,
            last_order: self.last_order,
            faults: self.faults,
            boots,
            ..Self::new(boot)
        }
    }

    /// Phases that only the end of the last supervisor had.
    fn undrained(mut self) -> Self {
        if self.gang == gang::Phase::Drained {
            self.gang = gang::Phase::Idle;
        }
        if self.gateway == gateway::Phase::Stopped {
            self.gateway = gateway::Phase::Down;
        }
        self
    }

    /// The memory of a supervisor whose memory was lost: what protects from doing too much is taken
    /// as used up.
    pub fn after_loss(boot: &str, now: Moment) -> Self {
        let mut state = Self::new(boot);
        state.reboots = vec![reboot::Past::unknown(now); reboot::PER_DAY_MAX];
        state.reboot_memory = reboot::Memory::after_loss(now);
        // An engine may have run in this boot, so what is wired now is no baseline.
        state.starts_in_boot = 1;
        state.fabric_starts = 1;
        state
    }

    /// Whether both would be the same file.
    pub fn is_same_on_disk(&self, other: &Self) -> bool {
        let bare = |state: &Self| Self { scratch: Scratch::default(), ..state.clone() };
        bare(self) == bare(other)
    }

    /// When something is to happen even if nothing is observed, since boot.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let ranks = match self.gang {
            gang::Phase::Backoff { until_ms } => Some(until_ms),
            gang::Phase::Starting { deadline_ms } | gang::Phase::Stopping { deadline_ms, .. } => {
                Some(deadline_ms)
            }
            _ => None,
        };
        let gateway = match self.gateway {
            gateway::Phase::Backoff { until_ms } => Some(until_ms),
            gateway::Phase::Stopping { deadline_ms } => Some(deadline_ms),
            _ => None,
        };
        let scratch = &self.scratch;
        let silent = scratch.peers.values().filter_map(|known| known.silent_at_ms).min();
        let pair = [scratch.mode_due_ms, scratch.join_due_ms, scratch.fabric_due_ms, silent];
        let own = [ranks, gateway, drift::next_deadline_ms(self)];
        own.into_iter().chain(pair).flatten().min()
    }

    /// The budgets of restarts begin anew.
    pub(crate) fn forget_restarts(&mut self) {
        self.restarts_ms.clear();
        self.garbage_restarts_ms.clear();
        self.gang_failures = 0;
    }

    /// Remembers a killed rank once.
    pub(crate) fn suspect(&mut self, leak: Leak) {
        let known = |l: &Leak| l.pid == leak.pid && l.epoch == leak.epoch && l.rank == leak.rank;
        if self.suspected_leaks.iter().any(known) {
            return;
        }
        if self.suspected_leaks.len() >= LEAKS_MAX {
            self.suspected_leaks.remove(0);
        }
        self.suspected_leaks.push(leak);
    }
}
