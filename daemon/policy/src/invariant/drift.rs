//! Meeting drift: when an invariant is mended, and when it is left alone.

use serde::{Deserialize, Serialize};

use super::Invariant;
use crate::{Action, InvariantStatus, Moment, Observation, Setup, State, fault::Condition};

/// One that stopped to hold, or did so lately.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drift {
    /// When it last stopped to hold, since boot.
    pub since_ms: u64,
    /// The same since 1970.
    pub since_wall_ms: u64,
    /// What was found then.
    pub found: String,
    /// What was wanted.
    pub wanted: String,
    /// When it held again, since boot; `None` while it does not.
    pub held_ms: Option<u64>,
    /// How often it drifted in this boot.
    pub count: u32,
    /// When, since boot, within the last flap window.
    pub recent_ms: Vec<u64>,
    /// Left alone until then, since boot, because it flapped.
    pub paused_until_ms: Option<u64>,
}

/// What is tried to mend one. Lost in a crash, it is tried anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mending {
    /// How often it was tried since it last held.
    pub tries: u32,
    /// Not tried again before, since boot.
    pub next_try_ms: u64,
}

/// One turn over all invariants.
pub fn step(
    _setup: &Setup,
    _state: &mut State,
    _seen: &Observation,
    _now: Moment,
    _actions: &mut Vec<Action>,
) {
}

/// Those that keep the engine from starting, with the reason in words.
pub fn blocking(_setup: &Setup, _seen: &Observation, _now: Moment) -> Vec<(Invariant, String)> {
    Vec::new()
}

/// What is wrong.
pub fn conditions(
    _setup: &Setup,
    _state: &State,
    _seen: &Observation,
    _now: Moment,
) -> Vec<Condition> {
    Vec::new()
}

/// What the status shows.
pub fn status(
    _setup: &Setup,
    _state: &State,
    _seen: &Observation,
    _now: Moment,
) -> Vec<InvariantStatus> {
    Vec::new()
}

/// When something is to happen even if nothing is observed, since boot.
pub const fn next_deadline_ms(_state: &State) -> Option<u64> {
    None
}
