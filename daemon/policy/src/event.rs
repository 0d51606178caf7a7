//! What happened, as the ledger, `tandem events` and the log tell it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Action, Fault, Moment, State, gates::Gate, invariant::Invariant};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Milliseconds since 1970, for people.
    pub wall_ms: u64,
    /// Milliseconds since boot.
    pub boot_ms: u64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// The kinds of events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// A supervisor took up its work.
    Started {
        /// The boot it runs in.
        boot: String,
        /// Whether an earlier boot's supervisor is the one it goes on from.
        is_new_boot: bool,
        /// Tandem's version.
        version: String,
    },
    /// A gate changed.
    Gate(Gate),
    /// A fault was raised.
    FaultRaised(Fault),
    /// A fault is over.
    FaultCleared(Fault),
    /// An invariant stopped to hold.
    Drift {
        /// Which.
        invariant: Invariant,
        /// What was found.
        found: String,
        /// What was wanted.
        wanted: String,
    },
    /// It holds again.
    Held {
        /// Which.
        invariant: Invariant,
        /// After so many milliseconds.
        after_ms: u64,
    },
    /// Something was done.
    Action {
        /// In the form of [`crate::Action`].
        action: String,
    },
    /// The ranks changed their phase.
    Epoch {
        /// The number.
        epoch: u64,
        /// The phase left.
        from: String,
        /// The phase entered.
        to: String,
        /// Why, where there is a reason.
        cause: Option<String>,
    },
    /// The gateway changed its phase.
    Gateway {
        /// The phase left.
        from: String,
        /// The phase entered.
        to: String,
        /// Why, where there is a reason.
        cause: Option<String>,
    },
    /// Leaked memory was suspected, confirmed or is gone.
    Leak {
        /// The verdict: `clear`, `watching`, `suspect`, `confirmed`.
        verdict: String,
        /// Bytes that nobody alive owns.
        unexplained_bytes: u64,
    },
    /// The canary passed or failed.
    Canary {
        /// Whether it passed.
        passed: bool,
        /// What came back or why nothing did.
        detail: String,
    },
    /// The prefill step was changed.
    Retune {
        /// The model.
        model: String,
        /// Tokens a step from now on.
        prefill_step_tokens: u32,
    },
    /// A reboot moved on.
    Reboot {
        /// The phase entered.
        phase: String,
        /// Why.
        cause: Option<String>,
    },
    /// An operator's order was obeyed.
    Order {
        /// In words.
        order: String,
    },
    /// The config file was taken or refused.
    Config {
        /// Whether it was taken.
        taken: bool,
        /// What was wrong, if not.
        detail: String,
    },
}

/// What a turn changed.
pub fn between(_before: &State, _after: &State, _actions: &[Action], _now: Moment) -> Vec<Event> {
    Vec::new()
}
