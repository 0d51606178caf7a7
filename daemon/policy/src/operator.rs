//! Operators' orders.

use crate::{Moment, Observation, State};

/// Obeys new orders.
pub(crate) fn step(_state: &mut State, _seen: &Observation, _now: Moment) {}

/// Whether the supervisor was asked to end and all is stopped.
pub(crate) fn has_ended(_state: &State, _seen: &Observation) -> bool {
    false
}
