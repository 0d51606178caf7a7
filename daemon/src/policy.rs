//! What to do, decided in pure code: no clock, I/O, randomness or tokio in here.
//!
//! ```text
//!  Config ─┐
//!  State ──┤            ┌─▶ state    saved before anything is done
//!  Observation ─ decide ┼─▶ actions  done in order; each can be repeated without harm
//!  now ────┘            └─▶ status   published
//! ```
//!
//! Level-triggered: every turn looks at what *is*. An action whose effect is not seen is asked for
//! again; an effect is believed only when it is observed.

pub mod gang;
pub mod gateway;
mod observation;
mod state;
mod status;

pub use observation::{Ended, GatewaySeen, Observation, Process, RankSeen, Reading};
pub use state::{Leak, STATE_VERSION, State};
pub use status::{GatewayStatus, Health, RankStatus, SCHEMA, Status};

use serde::{Deserialize, Serialize};

use crate::config::{Config, Supervise};

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since this boot, counting through sleep. All deadlines use it.
    pub boot_ms: u64,
    /// Milliseconds since 1970, for people only: it jumps.
    pub wall_ms: u64,
}

/// Something for the world to do. All may be asked for again while their effect is not seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Start every rank, as this epoch, with a new control key.
    StartGang {
        /// Number of the epoch.
        epoch: u64,
    },
    /// Ask a rank to unload and exit.
    UnloadRank {
        /// Which.
        rank: u32,
    },
    /// SIGKILL: the last rung, since it may strand the rank's wired memory.
    KillRank {
        /// Which.
        rank: u32,
    },
    /// Start the gateway.
    StartGateway,
    /// Ask the gateway to end its running requests and exit.
    StopGateway,
    /// SIGKILL the gateway.
    KillGateway,
    /// All is stopped: end the supervisor with exit code 0.
    Exit,
}

impl Action {
    /// Whether it must not be done unless the state that led to it is on disk: a start counts
    /// against a budget and takes an epoch's number, a kill may leak.
    pub const fn is_risky(&self) -> bool {
        matches!(self, Self::StartGang { .. } | Self::KillRank { .. })
    }
}

/// The outcome of one turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// To be remembered.
    pub state: State,
    /// To be done, in order.
    pub actions: Vec<Action>,
    /// To be shown.
    pub status: Status,
}

/// One turn: from what was remembered and what is seen to what is done.
pub fn decide(config: &Config, state: &State, seen: &Observation, now: Moment) -> Decision {
    let mut next = state.clone();
    let mut actions = Vec::new();
    if seen.terminations > 0 {
        next.draining_since_ms.get_or_insert(now.boot_ms);
    }
    gateway::step(config, &mut next, seen, now, &mut actions);
    gang::step(config, &mut next, seen, now, &mut actions);
    if next.gang == gang::Phase::Drained && next.gateway == gateway::Phase::Stopped {
        // An orderly stop forgets what only a run of failures needs; the epoch's number stays.
        next.restarts_ms.clear();
        next.gang_failures = 0;
        actions.push(Action::Exit);
    }
    let status = Status::of(config, &next, seen, now);
    Decision { state: next, actions, status }
}

/// Pause after the given number of failures in a row (1 is the first).
fn backoff_ms(supervise: &Supervise, failures: u32) -> u64 {
    let doublings = failures.saturating_sub(1).min(32);
    supervise.backoff_min_ms.saturating_mul(1 << doublings).min(supervise.backoff_max_ms)
}

#[cfg(test)]
mod tests;
