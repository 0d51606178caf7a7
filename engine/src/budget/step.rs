//! What one step holds beside weights and KV caches, at most.
//!
//! MLX allocates an operation's output when it hands the operation to the device and frees its
//! inputs when the device has done it, so what a step holds depends on how far handing over runs
//! ahead. MLX's own bound is ten tasks, on a CPU of ten dispatches each with two for an operation
//! (`DISPATCHES_PER_TASK` of its CPU back end, `MAX_ACTIVE_TASKS` of its evaluation): about
//! [`OPERATIONS_AHEAD`] operations. Within those nothing is counted on to be freed or written in
//! place. So a bound is the sum of what [`LAYERS_AHEAD`] layers allocate; what is really held at once is
//! less, about a half (`engine/tests/budget.rs`).

use super::{Form, KV_GROWTH_TOKENS};
use crate::model_config::ModelConfig;
use crate::settings::Settings;
use crate::shard::ShardPlan;

/// Operations handed over and not done, at most.
const OPERATIONS_AHEAD: u64 = 60;

/// Layers that these span: a layer of any architecture here is at least 30 operations.
const LAYERS_AHEAD: u64 = OPERATIONS_AHEAD / 30;

/// Queries that the CPU's attention computes together, and how many such blocks of 20 operations or
/// more are under way (`model::cpu`).
const CPU_BLOCK_POSITIONS: u64 = 128;
const CPU_BLOCKS_AHEAD: u64 = OPERATIONS_AHEAD / 20 + 1;

/// Arrays of scores alive for one block: the scores, and less their row's maximum (`model::cpu`).
const CPU_SCORE_ARRAYS: u64 = 2;

/// Arrays as long as the residual stream in one layer of `model::decoder`: two norms, the outputs of o
/// and down, their biases, two sums over ranks, two additions.
const HIDDEN_ARRAYS: u64 = 10;

/// As wide as the query heads, in `model::attention` and `model::cpu`: projection, bias, norm,
/// rotation by MLX's composed operations (6), amplitude, scale, the block's rows, two pieces mixed,
/// their sum, the quotient, all blocks, and joined heads.
const QUERY_ARRAYS: u64 = 18;

/// As wide as the KV heads: keys (projection, bias, norm, rotation, amplitude) and values.
const KEY_VALUE_ARRAYS: u64 = 12;

/// As wide as the feed-forward network, in `model::mlp`: gate and up with biases, and five of the
/// activation.
const FFN_ARRAYS: u64 = 9;

/// For each sampled row as long as the vocabulary's part: logits as computed and in f32, `logit_bias`,
/// and two counts of what was seen (`sample`).
const LOGIT_ARRAYS: u64 = 5;

/// For the rows being sampled: penalties, order of candidates, sums of exponentials over the part;
/// noise over the whole vocabulary (`sample`).
const SAMPLE_PART_ARRAYS: u64 = 24;
const SAMPLE_NOISE_ARRAYS: u64 = 8;

/// Rows under way at once: sampling one takes 20 operations or more.
const SAMPLE_ROWS_AHEAD: u64 = OPERATIONS_AHEAD / 20 + 1;

/// Copies of a layer's KV cache beside it: one that grew, one that could not be written in place
/// because the step before still reads it (`model::cache`).
const CACHE_COPIES: u64 = 2;

/// Head widths for which MLX's Metal kernels compute attention without holding scores, for many
/// queries and for one (`ScaledDotProductAttention::use_fallback`); for others it composes them.
const FUSED_PREFILL_WIDTHS: [u64; 3] = [64, 80, 128];
const FUSED_DECODE_WIDTHS: [u64; 4] = [64, 96, 128, 256];

/// A rank's sizes.
pub(super) struct Shape {
    form: Form,
    layers: u64,
    hidden: u64,
    heads: u64,
    kv_heads: u64,
    head_dim: u64,
    ffn: u64,
    vocab: u64,
    vocab_part: u64,
    /// Bytes of an activation.
    value_bytes: u64,
}

impl Shape {
    pub(super) fn new(
        config: &ModelConfig,
        plan: &ShardPlan,
        form: Form,
        value_bytes: u64,
    ) -> Self {
        Self {
            form,
            layers: config.num_hidden_layers as u64,
            hidden: config.hidden_size as u64,
            heads: plan.head_count() as u64,
            kv_heads: plan.kv_head_count() as u64,
            head_dim: config.head_dim as u64,
            ffn: plan.ffn.len() as u64,
            vocab: config.vocab_size as u64,
            vocab_part: plan.vocab.len() as u64,
            value_bytes,
        }
    }

    /// Keys and values of all layers for one position (`model::cache`).
    pub(super) fn kv_bytes_per_token(&self) -> u64 {
        self.layers * self.kv_bytes_per_layer_token()
    }

    fn kv_bytes_per_layer_token(&self) -> u64 {
        2 * self.kv_heads * self.head_dim * self.value_bytes
    }

    /// What one layer allocates for one position, scores and caches aside.
    fn layer_bytes_per_position(&self) -> u64 {
        let values = HIDDEN_ARRAYS * self.hidden
            + QUERY_ARRAYS * self.heads * self.head_dim
            + KEY_VALUE_ARRAYS * self.kv_heads * self.head_dim
            + FFN_ARRAYS * self.ffn;
        values * self.value_bytes
    }

    /// Scores of a prefill, for each position it looks at.
    fn prefill_score_bytes(&self, step_tokens: u64) -> u64 {
        match self.form {
            Form::Cpu { .. } => {
                let positions = (LAYERS_AHEAD * step_tokens.next_multiple_of(CPU_BLOCK_POSITIONS))
                    .min(CPU_BLOCKS_AHEAD * CPU_BLOCK_POSITIONS);
                CPU_SCORE_ARRAYS * self.heads * positions * 4
            }
            Form::Metal if FUSED_PREFILL_WIDTHS.contains(&self.head_dim) => 0,
            Form::Metal => LAYERS_AHEAD * self.heads * step_tokens * self.composed_score_bytes(),
        }
    }

    /// Scores of decoding, for each position of any cache.
    fn decode_score_bytes(&self) -> u64 {
        match self.form {
            Form::Cpu { .. } => LAYERS_AHEAD * CPU_SCORE_ARRAYS * self.heads * 4,
            Form::Metal if FUSED_DECODE_WIDTHS.contains(&self.head_dim) => 0,
            Form::Metal => LAYERS_AHEAD * self.heads * self.composed_score_bytes(),
        }
    }

    /// MLX's composed attention: scores, masked, and their softmax in f32.
    fn composed_score_bytes(&self) -> u64 {
        2 * self.value_bytes + 4
    }
}

/// A step's bytes, by what they grow with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StepBytes {
    /// With nothing.
    base: u64,
    /// With the positions that a prefill looks at.
    per_context_token: u64,
    /// With the positions of all caches.
    per_kv_token: u64,
    /// Activations for each position of a prefill, and the most such positions.
    per_prefill_token: u64,
    prefill_step_tokens: u64,
}

impl StepBytes {
    pub(super) fn bytes(&self, kv_tokens: u64, context_tokens: u32) -> u64 {
        let context = u64::from(context_tokens);
        let prefill = self.per_prefill_token.saturating_mul(self.prefill_step_tokens.min(context));
        let prefill = prefill.saturating_add(self.per_context_token.saturating_mul(context));
        self.base
            .saturating_add(prefill)
            .saturating_add(self.per_kv_token.saturating_mul(kv_tokens))
    }
}

/// A step that decodes `max_active` sequences and computes `prefill_step_tokens` of a prompt, as the
/// scheduler may ask of it at once.
pub(super) fn step_bytes(shape: &Shape, settings: &Settings) -> StepBytes {
    let step_tokens = u64::from(settings.prefill_step_tokens);
    let rows = u64::from(settings.max_active);
    let position_bytes = LAYERS_AHEAD * shape.layer_bytes_per_position();
    let sampling = 4
        * (rows * LOGIT_ARRAYS * shape.vocab_part
            + rows.min(SAMPLE_ROWS_AHEAD)
                * (SAMPLE_PART_ARRAYS * shape.vocab_part + SAMPLE_NOISE_ARRAYS * shape.vocab));
    // A new cache's first piece, before an older request's is let go of.
    let turnover = u64::from(KV_GROWTH_TOKENS).max(step_tokens) * shape.kv_bytes_per_token();
    let cache_copies = LAYERS_AHEAD * CACHE_COPIES * shape.kv_bytes_per_layer_token();
    StepBytes {
        base: rows * position_bytes + sampling + turnover,
        per_context_token: shape.prefill_score_bytes(step_tokens),
        per_kv_token: shape.decode_score_bytes() + cache_copies,
        per_prefill_token: position_bytes,
        prefill_step_tokens: step_tokens,
    }
}
