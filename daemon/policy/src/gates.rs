//! The gates from boot to serving.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Moment, Observation, Setup, State};

/// A gate.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum GateName {
    /// The host and the supervisor can do their work.
    Preflight,
    /// The host's invariants hold.
    Invariants,
    /// The model's files are all there.
    Artifacts,
    /// All nodes have the same.
    Parity,
    /// The ranks' group is formed.
    Transport,
    /// All ranks are ready.
    Engine,
    /// A request through the gateway brought tokens.
    Canary,
    /// And it did so lately.
    Serving,
}

/// Where a gate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GateState {
    /// An earlier gate has not passed.
    Waiting,
    /// It is being tried.
    Checking,
    /// It passed.
    Passed,
    /// It did not, or not in its time.
    Failed,
}

/// One gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gate {
    /// Which.
    pub gate: GateName,
    /// Where it is.
    pub state: GateState,
    /// By what.
    pub evidence: String,
    /// What an operator can do; empty unless it failed.
    pub remedy: String,
}

/// One turn.
pub fn step(_setup: &Setup, _state: &mut State, _seen: &Observation, _now: Moment) {}
