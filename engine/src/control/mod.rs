//! The control channel: rank 0's numbered log of decisions to every other rank, and their progress
//! back. It runs over TCP beside the data plane, so that a rank lost or hung in a collective is
//! noticed by what is not.
//!
//! ```text
//!  rank 0                                              rank N
//!    │ ◀──────────── Opening: rank, epoch, nonce ─────── │   plain, bounded in bytes and time
//!    │ ────────────── Challenge: nonce, proof ─────────▶ │   each proves that it holds the key
//!    │ ◀───────────────────── Proof ──────────────────── │
//!    │ ◀───── Terms: all that must be equal ─────────── │   sealed from here on
//!    │ ────── Welcome, once all ranks are there ───────▶ │
//!    │ ────── Step, Step, … Phase, Unload, Abort ──────▶ │
//!    │ ◀───── Loaded, Progress, Unload, Abort ────────── │
//!    │ ◀───────────────── Heartbeat ───────────────────▶ │   every tenth of silence_timeout_ms
//! ```
//!
//! A sealed frame is a `tandem_wire` frame and 16 bytes of HMAC-SHA256 over its number and itself,
//! under a key of that connection and direction: who does not hold the epoch's key can neither
//! forge, change, repeat nor drop one unnoticed. Contents are not encrypted; they are token ids on
//! a cable between two machines.

mod doorway;
pub mod form;
mod handshake;
pub mod ledger;
pub mod link;
pub mod parity;
pub mod ring;
mod seal;
pub mod silence;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use tandem_wire::{ModelCard, Phase};

pub use form::{Peer, Terms};
pub use seal::ControlKey;

use crate::step::Step;

/// Raised whenever a control message changes its meaning.
pub const CONTROL_VERSION: u32 = 3;

/// From rank 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Down {
    /// The next entry of the log.
    Step {
        /// What to execute.
        step: Box<Step>,
        /// Rank 0's own progress when it sent this; `None` before its first step.
        progress: Option<Progress>,
    },
    /// The gang's phase, for phases that rank 0 alone can tell: warming and ready.
    Phase {
        /// The phase from now on.
        phase: Phase,
    },
    /// Alive.
    Heartbeat,
    /// The log ends here: drop everything and exit 0.
    Unload,
    /// Rank 0 is ending; so must the others.
    Abort(Abort),
}

/// To rank 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Up {
    /// The shard is in memory and steps can be executed.
    Loaded {
        /// What this rank took the model to be.
        card: ModelCard,
        /// Positions that its KV caches have room for.
        kv_tokens: u64,
    },
    /// A step is finished.
    Progress(Progress),
    /// Alive.
    Heartbeat,
    /// This rank was asked to unload; rank 0 is to unload all.
    Unload,
    /// This rank is ending.
    Abort(Abort),
}

/// How far a rank is, and what it computed on the way there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The step just collected.
    pub seq: u64,
    /// [`ledger::Digest`] of all tokens up to there.
    pub digest: String,
}

/// Why a rank ends, told to the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abort {
    /// Its exit code, of `tandem_wire::exit`.
    pub code: i32,
    /// One sentence.
    pub reason: String,
}
