//! Whether the engine may start: not onto a host that is not right, nor into memory it will not
//! find.

use crate::{Moment, Observation, Setup, State};

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// In words.
    pub text: String,
    /// What an operator can do.
    pub remedy: String,
}

/// Whether the engine may start now.
pub fn check(
    _setup: &Setup,
    _state: &State,
    _seen: &Observation,
    _now: Moment,
) -> Result<(), Refusal> {
    Ok(())
}

/// What is wrong.
pub fn conditions(
    _s: &Setup,
    _st: &State,
    _o: &Observation,
    _n: Moment,
) -> Vec<crate::fault::Condition> {
    Vec::new()
}
