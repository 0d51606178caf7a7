//! What a request must be before it may wait for a slot. Whatever passes here can't fail later.

use tandem_wire::{FinishReason, Sampling, Submit};

use super::Limits;
use crate::budget::cache_tokens;

/// Most entries of `logit_bias`; the wire contract's number.
const LOGIT_BIAS_MAX: usize = 300;
/// Most candidates whose log-probabilities may be asked for; the wire contract's number.
const LOGPROBS_MAX: u8 = 20;

/// Checks a request; the error is one sentence for the client.
pub(super) fn check(submit: &Submit, limits: &Limits) -> Result<(), String> {
    if submit.prompt.is_empty() {
        return Err("the prompt is empty".to_owned());
    }
    if submit.prompt.len() >= limits.context_tokens as usize {
        return Err(format!(
            "the prompt has {} tokens; with room for one more, {} fit into the context of {}",
            submit.prompt.len(),
            limits.context_tokens.saturating_sub(1),
            limits.context_tokens
        ));
    }
    if submit.max_tokens == 0 {
        return Err("max_tokens is 0; it must be at least 1".to_owned());
    }
    let known = |id: &u32| *id < limits.vocab_size;
    if let Some(id) = submit.prompt.iter().chain(&submit.generated).find(|id| !known(id)) {
        return Err(format!("token id {id} is beyond the vocabulary of {}", limits.vocab_size));
    }
    if let Some(n) = submit.logprobs.filter(|n| *n > LOGPROBS_MAX) {
        return Err(format!("logprobs is {n}; at most {LOGPROBS_MAX} can be had"));
    }
    // Can't be while one request of the full context fits, which is checked at start.
    let kv_tokens = kv_tokens(submit, limits);
    if kv_tokens > limits.kv_tokens {
        return Err(format!(
            "its KV cache may come to hold {kv_tokens} positions, and there is room for {}",
            limits.kv_tokens
        ));
    }
    check_sampling(&submit.sampling, limits)
}

fn check_sampling(sampling: &Sampling, limits: &Limits) -> Result<(), String> {
    let within = |name: &str, value: f32, low: f32, high: f32| {
        // NaN is within nothing.
        if (low..=high).contains(&value) {
            Ok(())
        } else {
            Err(format!("{name} is {value}; it must be from {low} to {high}"))
        }
    };
    // Beyond these the logits of f16 models overflow; the API's own ranges are narrower.
    within("temperature", sampling.temperature, 0.0, 100.0)?;
    within("top_p", sampling.top_p, f32::MIN_POSITIVE, 1.0)?;
    within("min_p", sampling.min_p, 0.0, 1.0)?;
    within("repetition_penalty", sampling.repetition_penalty, 0.001, 1000.0)?;
    within("presence_penalty", sampling.presence_penalty, -1000.0, 1000.0)?;
    within("frequency_penalty", sampling.frequency_penalty, -1000.0, 1000.0)?;
    if sampling.logit_bias.len() > LOGIT_BIAS_MAX {
        return Err(format!(
            "logit_bias has {} entries; at most {LOGIT_BIAS_MAX} are taken",
            sampling.logit_bias.len()
        ));
    }
    for (id, bias) in &sampling.logit_bias {
        if *id >= limits.vocab_size {
            return Err(format!(
                "logit_bias names token id {id}, beyond the vocabulary of {}",
                limits.vocab_size
            ));
        }
        within("logit_bias", *bias, -1000.0, 1000.0)?;
    }
    Ok(())
}

/// Completion tokens at which a checked request ends.
pub(super) fn completion_max(submit: &Submit, limits: &Limits) -> u32 {
    submit.max_tokens.min(limits.context_tokens - submit.prompt.len() as u32)
}

/// Positions that the KV cache of a checked request may come to hold. The last token of a completion
/// enters none, which the rounding up hides.
pub(super) fn kv_tokens(submit: &Submit, limits: &Limits) -> u64 {
    cache_tokens(submit.prompt.len() as u64 + u64::from(completion_max(submit, limits)))
}

/// Why a checked request needs no more tokens: an earlier epoch generated the last one but died
/// before it could say so.
pub(super) fn already_done(submit: &Submit, limits: &Limits) -> Option<FinishReason> {
    let last = submit.generated.last()?;
    if submit.stop_tokens.contains(last) {
        return Some(FinishReason::Stop);
    }
    let full = submit.generated.len() >= completion_max(submit, limits) as usize;
    full.then_some(FinishReason::Length)
}
