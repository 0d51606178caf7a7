//! Leaked wired memory.

use serde::{Deserialize, Serialize};

use crate::{Moment, Observation, Setup, State, fault::Condition};

/// Wired memory of this host without an engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// The boot it was learned in.
    pub boot: String,
    /// All memory of the host then, in bytes: another host's baseline means nothing.
    pub total_bytes: u64,
    /// In bytes.
    pub wired_bytes: u64,
}

/// Whether wired memory has leaked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing is unexplained.
    Clear,
    /// Too much is unexplained; it is being watched.
    Watching {
        /// Since when, since boot.
        since_ms: u64,
        /// Bytes that nobody alive owns.
        unexplained_bytes: u64,
    },
    /// The rule holds, without evidence of a crash.
    Suspect {
        /// Since when, since boot.
        since_ms: u64,
        /// Bytes that nobody alive owns.
        unexplained_bytes: u64,
    },
    /// The rule holds, and a crash or time confirms it.
    Confirmed {
        /// Since when, since boot.
        since_ms: u64,
        /// Bytes that nobody alive owns.
        unexplained_bytes: u64,
    },
}

/// Samples of unexplained memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Samples {
    /// Unexplained bytes of the last samples, oldest first.
    pub unexplained_bytes: Vec<u64>,
    /// When the last sample was taken, since boot.
    pub last_ms: Option<u64>,
}

impl Verdict {
    /// One word.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::Watching { .. } => "watching",
            Self::Suspect { .. } => "suspect",
            Self::Confirmed { .. } => "confirmed",
        }
    }

    /// Bytes that nobody alive owns; 0 when clear.
    pub const fn unexplained_bytes(&self) -> u64 {
        match self {
            Self::Clear => 0,
            Self::Watching { unexplained_bytes, .. }
            | Self::Suspect { unexplained_bytes, .. }
            | Self::Confirmed { unexplained_bytes, .. } => *unexplained_bytes,
        }
    }
}

/// One turn.
pub fn step(_setup: &Setup, _state: &mut State, _seen: &Observation, _now: Moment) {}

/// What is wrong.
pub fn conditions(_setup: &Setup, _state: &State, _seen: &Observation) -> Vec<Condition> {
    Vec::new()
}
