//! Retuning: a model that runs out of memory gets a smaller prefill step, remembered per model and
//! raised again slowly.
//!
//! One lowered step is remembered: that of the model that last ran out of memory. Another model in
//! the config starts with its own configured step and leaves the memory alone until it runs out
//! itself; going back to the first model finds its lowered step.

#[cfg(test)]
mod tests;

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

/// The step to start the next epoch with, in tokens: the lowered one of this model, never above the
/// configured one, which may have been lowered since by hand.
pub fn step_tokens(setup: &Setup, state: &State) -> u32 {
    let configured = setup.prefill_step_tokens;
    let least = STEP_TOKENS_MIN.min(configured);
    remembered(setup, state).map_or(configured, |r| r.prefill_step_tokens.clamp(least, configured))
}

/// Lowers the step after an epoch ran out of memory: halves it, once for one epoch however often it
/// is called. Returns whether the next epoch starts with a smaller step than that one had; `false`
/// means that it was the least already, and starting again can't help.
pub fn lower(setup: &Setup, state: &mut State, epoch: u64) -> bool {
    if remembered(setup, state).is_some_and(|retune| retune.epoch == epoch) {
        return true;
    }
    let current = step_tokens(setup, state);
    let prefill_step_tokens = (current / 2).max(STEP_TOKENS_MIN);
    if prefill_step_tokens >= current {
        return false;
    }
    state.retune = Some(Retune { model: setup.model.clone(), prefill_step_tokens, epoch });
    true
}

/// Doubles a lowered step, towards the configured one, if the last epoch served for
/// `supervise.retune_raise_after_ms` and did not run out of memory; at the configured one the
/// lowering is forgotten. Called once for a start, when `state.epoch` is already the new epoch's
/// number. `served_ms` is how long the epoch before it served, in milliseconds.
pub fn raise(setup: &Setup, state: &mut State, served_ms: u64, _now: Moment) {
    let Some(retune) = remembered(setup, state) else { return };
    let ran_out_last = retune.epoch.saturating_add(1) >= state.epoch;
    if ran_out_last || served_ms < setup.supervise.retune_raise_after_ms {
        return;
    }
    let epoch = retune.epoch;
    let doubled = step_tokens(setup, state).saturating_mul(2);
    state.retune = (doubled < setup.prefill_step_tokens).then(|| Retune {
        model: setup.model.clone(),
        prefill_step_tokens: doubled,
        epoch,
    });
}

/// What is remembered of the model that is served.
fn remembered<'a>(setup: &Setup, state: &'a State) -> Option<&'a Retune> {
    state.retune.as_ref().filter(|retune| retune.model == setup.model)
}
