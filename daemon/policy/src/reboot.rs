//! The reboot of this machine: the last rung before an operator.
//!
//! ```text
//!   Steady ──needed, allowed──▶ Draining ──all stopped──▶ Rebooting ──new boot id──▶ Steady
//!     ▲                            │                          │
//!     └──── cause gone ────────────┘        held, if it does not happen
//! ```

use serde::{Deserialize, Serialize};

use crate::{Action, Moment, Observation, RebootStatus, Setup, State};

/// Most past reboots remembered: more than any budget of a day.
pub const HISTORY_MAX: usize = 32;

/// Where a reboot is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// None is wanted.
    Steady,
    /// Gateway and ranks are being stopped.
    Draining {
        /// Why.
        cause: Cause,
        /// When it is done whatever still runs, since boot.
        deadline_ms: u64,
    },
    /// The system was asked to reboot.
    Rebooting {
        /// Why.
        cause: Cause,
        /// When it was first asked, since boot.
        since_ms: u64,
        /// How often.
        attempts: u32,
    },
}

/// Why a reboot is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cause {
    /// One word: the same cause again soon after a reboot is not mended by another.
    pub kind: String,
    /// The evidence.
    pub evidence: String,
}

/// An automatic reboot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Past {
    /// When, since 1970.
    pub wall_ms: u64,
    /// The boot that it ended.
    pub boot: String,
    /// Why.
    pub cause: String,
}

impl Phase {
    /// One word.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Draining { .. } => "draining",
            Self::Rebooting { .. } => "rebooting",
        }
    }

    /// After another boot nothing is pending: that boot is what was wanted.
    pub fn after_boot(self) -> Self {
        Self::Steady
    }
}

impl Past {
    /// Stands for all that was forgotten.
    pub fn unknown(now: Moment) -> Self {
        Self { wall_ms: now.wall_ms, boot: String::new(), cause: String::new() }
    }
}

/// One turn.
pub fn step(
    _setup: &Setup,
    _state: &mut State,
    _seen: &Observation,
    _now: Moment,
    _actions: &mut Vec<Action>,
) {
}

/// What the status shows.
pub fn status(_setup: &Setup, _state: &State, _seen: &Observation, _now: Moment) -> RebootStatus {
    RebootStatus {
        phase: String::new(),
        cause: None,
        budget_left: 0,
        refused: None,
        past_wall_ms: Vec::new(),
    }
}
