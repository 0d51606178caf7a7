//! Faults: what is wrong, since when, by what evidence, and what is done about it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Moment, Observation, Setup, State, invariant::Invariant};

/// The smallest action that may mend a fault; smallest first.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// Nothing: it is only told.
    None,
    /// Set again what drifted.
    Reassert,
    /// Lower the prefill step and start the ranks again.
    Retune,
    /// Stop all ranks in order and start the next epoch.
    Restart,
    /// Reboot.
    Reboot,
    /// Nothing more by itself: an operator is asked.
    Hold,
}

/// What is wrong.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(tag = "fault", content = "of", rename_all = "snake_case")]
pub enum Kind {
    /// An invariant does not hold and could not be mended.
    Broken(Invariant),
    /// An invariant is broken again and again, so it is left alone for a while.
    Flapping(Invariant),
    /// The ranks failed.
    Engine,
    /// A rank works but finishes no step.
    Stall,
    /// A request through the gateway brought no tokens.
    Canary,
    /// A request through the gateway brought garbage.
    Garbage,
    /// The gateway failed or does not answer.
    Gateway,
    /// Wired memory has no owner, so far without evidence of a crash.
    LeakSuspected,
    /// Wired memory has leaked.
    LeakConfirmed,
    /// There is not enough memory to start the engine.
    Memory,
    /// A signature of the catalogue was found; its id.
    Signature(String),
    /// The kernel panicked in a boot of ours.
    Panic,
    /// A reboot is needed and not allowed.
    RebootRefused,
    /// The ranks are held until an operator releases them.
    Held,
    /// A changed config was refused; the old one is in force.
    Config,
    /// The supervisor's memory was lost or can't be written.
    Ledger,
}

impl Kind {
    /// One word, for labels and `tandem explain`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Broken(_) => "broken",
            Self::Flapping(_) => "flapping",
            Self::Engine => "engine",
            Self::Stall => "stall",
            Self::Canary => "canary",
            Self::Garbage => "garbage",
            Self::Gateway => "gateway",
            Self::LeakSuspected => "leak_suspected",
            Self::LeakConfirmed => "leak_confirmed",
            Self::Memory => "memory",
            Self::Signature(_) => "signature",
            Self::Panic => "panic",
            Self::RebootRefused => "reboot_refused",
            Self::Held => "held",
            Self::Config => "config",
            Self::Ledger => "ledger",
        }
    }
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fault {
    /// What.
    #[serde(flatten)]
    pub kind: Kind,
    /// Since when, since 1970.
    pub since_wall_ms: u64,
    /// How often it was met since then.
    pub count: u32,
    /// What it is known by.
    pub evidence: String,
    /// The smallest action that may mend it, taken or being taken.
    pub rung: Rung,
    /// What an operator can do.
    pub remedy: String,
}

/// Something that is wrong now: the level from which faults are raised and cleared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What.
    pub kind: Kind,
    /// What it is known by.
    pub evidence: String,
    /// The smallest action that may mend it.
    pub rung: Rung,
    /// What an operator can do.
    pub remedy: String,
}

/// One turn: raises what is wrong now and clears what is not any more.
pub fn step(_setup: &Setup, _state: &mut State, _seen: &Observation, _now: Moment) {}
