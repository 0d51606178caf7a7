//! The canary: a small request through the gateway. Serving is proven by tokens, never by a port.

use crate::{Action, Moment, Observation, Setup, State, fault::Condition};

/// Proofs of serving, of one epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// The epoch they are of.
    pub epoch: u64,
    /// Number of the last canary asked for.
    pub number: u32,
    /// Whether a canary of this epoch passed.
    pub passed: bool,
    /// When tokens last came, of a canary or of any request, since boot.
    pub proven_ms: Option<u64>,
    /// Tokens that rank 0 had generated then.
    pub tokens: u64,
    /// Canaries that failed in a row.
    pub failures: u32,
    /// Why the last one failed.
    pub reason: Option<String>,
    /// Whether it failed by garbage.
    pub is_garbage: bool,
    /// Number of the last canary whose outcome was counted.
    pub counted: u32,
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

/// Why the ranks should be started again, if canaries say so.
pub fn verdict(_setup: &Setup, _state: &State) -> Option<Condition> {
    None
}

/// Whether tokens came lately: what readiness means.
pub fn is_proven(_setup: &Setup, _state: &State, _now: Moment) -> bool {
    false
}
