//! Stalls: a rank that has work and finishes no step.

use crate::{Observation, Setup, State};

/// Why the ranks should be started again, if one stalls.
pub fn look(_setup: &Setup, _state: &State, _seen: &Observation) -> Option<String> {
    None
}
