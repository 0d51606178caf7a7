//! What to do, decided in pure code: no clock, I/O, randomness or tokio in here.
//!
//! ```text
//!  Setup ──┐
//!  State ──┤            ┌─▶ state    saved before anything is done
//!  Observation ─ decide ┼─▶ actions  done in order; each can be repeated without harm
//!  now ────┘            ├─▶ events   told to the ledger
//!                       └─▶ status   published
//! ```
//!
//! Level-triggered: every turn looks at what *is*. An action whose effect is not seen is asked for
//! again; an effect is believed only when it is observed.

#![deny(clippy::disallowed_methods)]

pub mod admission;
pub mod canary;
pub mod event;
pub mod fault;
mod files;
pub mod gang;
pub mod gates;
pub mod gateway;
pub mod invariant;
pub mod leak;
mod observation;
mod operator;
pub mod pair;
pub mod reboot;
mod repair;
pub mod retune;
pub mod settings;
mod setup;
pub mod stall;
mod state;
mod status;
mod thunderbolt;
mod turn;
mod watched;

pub use event::{Event, What};
pub use fault::{Fault, Rung};
pub use observation::{
    Artifacts, CanaryOutcome, CanarySeen, EVIDENCE_MAX, Ended, Evidence, EvidenceSource,
    GatewaySeen, KILLED_FOR_MEMORY, ManifestSeen, Memory, Need, Observation, Order, OrderKind,
    Owner, Process, RankSeen, Reading, RequestsSeen,
};
pub use repair::Repair;
pub use setup::{Fallback, Setup};
pub use state::{BOOTS_MAX, Failure, Hold, Leak, Operator, STATE_VERSION, Scratch, State};
pub use status::{
    GatewayStatus, Health, InvariantStatus, MemoryStatus, RankStatus, RebootStatus, SCHEMA, Status,
};
pub use thunderbolt::{PORTS_MAX, ThunderboltPort};
pub use turn::{SaveError, Turn, Turns, World};

use serde::{Deserialize, Serialize};

use crate::{
    pair::{alone::View, fabric::Carrier},
    settings::Supervise,
};

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since this boot, counting through sleep. All deadlines use it.
    pub boot_ms: u64,
    /// Milliseconds since 1970, for people and for what is counted over boots: it jumps.
    pub wall_ms: u64,
}

/// Something for the world to do. All may be asked for again while their effect is not seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Set something on the host.
    Mend(Repair),
    /// Start every rank of this node, as this epoch, with a new control key.
    StartGang {
        /// Number of the epoch.
        epoch: u64,
        /// Tokens of a prefill step.
        prefill_step_tokens: u32,
        /// Whether it is the fallback: one rank, number 0 of a gang of one, in the place of this
        /// node's first rank.
        alone: bool,
        /// What carries its activations.
        carrier: Carrier,
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
    StartGateway {
        /// What it does with requests.
        mode: gateway::Mode,
    },
    /// Ask the gateway to end its running requests and exit.
    StopGateway,
    /// SIGKILL the gateway.
    KillGateway,
    /// Send a small request through the gateway.
    Canary {
        /// In this epoch.
        epoch: u64,
        /// Its number within the epoch.
        number: u32,
    },
    /// Remember the model's files as those with which serving was proven.
    KeepManifest {
        /// Digest of their manifest.
        digest: String,
    },
    /// Reboot the machine.
    Reboot {
        /// How often it was asked for before: higher takes a harder way.
        attempt: u32,
    },
    /// All is stopped: end the supervisor with exit code 0.
    Exit,
}

impl Action {
    /// Whether it must not be done unless the state that led to it is on disk: a start counts
    /// against a budget and takes an epoch's number, a kill may leak, a reboot has a budget. A gateway of the fallback
    /// must not be taken for the pair's by a supervisor that does not know of it.
    pub const fn is_risky(&self) -> bool {
        matches!(self, Self::StartGang { .. } | Self::KillRank { .. } | Self::Reboot { .. })
            || matches!(self, Self::StartGateway { mode: gateway::Mode::Alone })
    }
}

/// The outcome of one turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// To be remembered.
    pub state: State,
    /// To be done, in order.
    pub actions: Vec<Action>,
    /// To be told.
    pub events: Vec<Event>,
    /// To be shown.
    pub status: Status,
}

/// One turn: from what was remembered and what is seen to what is done.
pub fn decide(setup: &Setup, state: &State, seen: &Observation, now: Moment) -> Decision {
    let mut next = state.clone();
    let mut actions = Vec::new();
    next.scratch.watched.pass(now);
    operator::step(&mut next, seen, now);
    pair::watch::step(setup, &mut next, seen, now);
    pair::alone::step(setup, &mut next, seen, now);
    // What is served may be the fallback; the host and its reboots are what they are.
    let View { setup: served, seen: shown } = View::of(setup, &next, seen);
    invariant::drift::step(setup, &mut next, seen, now, &mut actions);
    leak::step(setup, &mut next, seen, now);
    canary::step(&served, &mut next, &shown, now, &mut actions);
    files::step(setup, &next, seen, &mut actions);
    reboot::step(setup, &mut next, seen, now, &mut actions);
    let of_gateway = View::of_gateway(setup, &next, seen);
    gateway::step(&of_gateway.setup, &mut next, &of_gateway.seen, now, &mut actions);
    gang::step(&served, &mut next, &shown, now, &mut actions);
    gates::step(&served, &mut next, &shown, now);
    let view = View { setup: served, seen: shown };
    fault::step(setup, &mut next, seen, &view, now);
    if operator::has_ended(&next, seen, now) {
        // An orderly stop forgets what only a run of failures needs; the epoch's number stays.
        next.gang = gang::Phase::Drained;
        next.gateway = gateway::Phase::Stopped;
        next.forget_restarts();
        actions.push(Action::Exit);
    }
    let events = event::between(state, &next, &actions, now);
    let status = Status::of(setup, &next, seen, &view, now);
    Decision { state: next, actions, events, status }
}

/// Pause after the given number of failures in a row (1 is the first).
fn backoff_ms(supervise: &Supervise, failures: u32) -> u64 {
    let doublings = failures.saturating_sub(1).min(32);
    supervise.backoff_min_ms.saturating_mul(1 << doublings).min(supervise.backoff_max_ms)
}

#[cfg(test)]
mod tests;
