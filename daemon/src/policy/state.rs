//! All that must outlive a crash of the supervisor.

use serde::{Deserialize, Serialize};

use super::{gang, gateway};

/// Raised whenever the file's meaning changes; a file of another version is set aside.
pub const STATE_VERSION: u32 = 1;

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
    /// Where the ranks are.
    pub gang: gang::Phase,
    /// When `gang` was entered, since boot.
    pub gang_since_ms: u64,
    /// Since when a rank of a serving gang has said nothing, since boot.
    pub silent_since_ms: Option<u64>,
    /// Failures of the ranks in a row.
    pub gang_failures: u32,
    /// When the ranks were restarted after a failure, since boot, within the last window.
    pub restarts_ms: Vec<u64>,
    /// Why the ranks last failed.
    pub last_failure: Option<String>,
    /// Ranks that were killed, and may have stranded memory.
    pub suspected_leaks: Vec<Leak>,
    /// Where the gateway is.
    pub gateway: gateway::Phase,
    /// Failures of the gateway in a row.
    pub gateway_failures: u32,
    /// Since when this supervisor has been asked to end.
    pub draining_since_ms: Option<u64>,
}

/// A rank that did not unload by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
            gang: gang::Phase::Idle,
            gang_since_ms: 0,
            silent_since_ms: None,
            gang_failures: 0,
            restarts_ms: Vec::new(),
            last_failure: None,
            suspected_leaks: Vec::new(),
            gateway: gateway::Phase::Down,
            gateway_failures: 0,
            draining_since_ms: None,
        }
    }

    /// What a new supervisor goes on with. Held ranks stay held within one boot, unless the last
    /// supervisor ended in order; whatever was being done is done again from what is seen.
    pub fn resumed(self, boot: &str) -> Self {
        let epoch = self.epoch;
        if self.boot != boot {
            return Self { epoch, ..Self::new(boot) };
        }
        let gang = match self.gang {
            held @ gang::Phase::Held { .. } => held,
            _ => gang::Phase::Idle,
        };
        Self {
            gang,
            silent_since_ms: None,
            gateway: gateway::Phase::Down,
            gateway_failures: 0,
            draining_since_ms: None,
            ..self
        }
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
        ranks.into_iter().chain(gateway).min()
    }

    /// Remembers a killed rank once.
    pub(super) fn suspect(&mut self, leak: Leak) {
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
