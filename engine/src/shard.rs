//! Which part of every tensor a rank takes. Pure: config, weights and rank in, ranges out.
//!
//! ```text
//!  q, k, v, gate, up   rows          whole KV heads with their query heads; FFN columns
//!  o, down             columns       the same ranges on the input axis; outputs are summed
//!  embedding, head     rows          vocabulary
//!  norms, o/down bias  whole         on every rank
//! ```
//!
//! Ranges fall on quantisation groups of the matrices cut along their input axis, so a packed word
//! and its scale are never torn. Ranks need not be equal: shares follow integer weights.

#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::EngineError;
use crate::checkpoint::Part;
use crate::model_config::{EMBEDDING, Group, HEAD, ModelConfig};

/// Most ranks of one model. MLX's ring has no bound of its own; ours is far above any real cluster.
pub const MAX_RANKS: usize = 64;

/// Ranges of FFN columns begin at multiples of this where there is enough to share: matrix kernels
/// work in tiles of 32.
const FFN_ALIGNMENT: usize = 32;

/// As [`FFN_ALIGNMENT`], for rows of the vocabulary.
const VOCAB_ALIGNMENT: usize = 64;

/// Why a model can't be split so. The texts name the part and give the numbers.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShardError {
    /// The weights are not usable at all.
    #[error("rank weights {weights:?}: {reason}")]
    Weights {
        /// One weight a rank.
        weights: Vec<u32>,
        /// What is wrong with them.
        reason: String,
    },
    /// Some part of the model has fewer pieces than there are ranks.
    #[error("{part} can't be split over {ranks} ranks: {reason}")]
    Indivisible {
        /// Which part, as the checkpoint names it.
        part: &'static str,
        /// How many ranks.
        ranks: usize,
        /// The sizes that forbid it.
        reason: String,
    },
    /// A tensor of a name that no supported model has.
    #[error("tensor {0} is unknown: no rule says how to split it")]
    Unknown(String),
}

impl From<ShardError> for EngineError {
    fn from(error: ShardError) -> Self {
        match error {
            ShardError::Weights { .. } => EngineError::Usage(error.to_string()),
            _ => EngineError::Model(error.to_string()),
        }
    }
}

/// One rank's ranges. Those of all ranks follow each other without gap or overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardPlan {
    /// This rank.
    pub rank: usize,
    /// Number of ranks.
    pub world: usize,
    /// Key/value heads.
    pub kv_heads: Range<usize>,
    /// Query heads: those of `kv_heads`.
    pub heads: Range<usize>,
    /// Columns of the feed-forward network.
    pub ffn: Range<usize>,
    /// Rows of the vocabulary.
    pub vocab: Range<usize>,
}

impl ShardPlan {
    /// The plan of `rank`, one of `weights.len()`; a rank of weight 2 takes twice the share of one
    /// of weight 1, as near as whole pieces allow.
    ///
    /// # Errors
    /// Unusable weights, or a part of the model with too few pieces for every rank to get one.
    pub fn new(config: &ModelConfig, weights: &[u32], rank: usize) -> Result<Self, ShardError> {
        check_weights(weights, rank)?;
        let per_kv = config.heads_per_kv_head();
        let kv_heads = split_heads(config, weights)?[rank].clone();
        Ok(Self {
            rank,
            world: weights.len(),
            heads: kv_heads.start * per_kv..kv_heads.end * per_kv,
            kv_heads,
            ffn: split_ffn(config, weights)?[rank].clone(),
            vocab: split_vocab(config, weights)?[rank].clone(),
        })
    }

    /// Number of key/value heads here.
    pub fn kv_head_count(&self) -> usize {
        self.kv_heads.len()
    }

    /// Number of query heads here.
    pub fn head_count(&self) -> usize {
        self.heads.len()
    }
}

fn check_weights(weights: &[u32], rank: usize) -> Result<(), ShardError> {
    let bad = |reason: String| Err(ShardError::Weights { weights: weights.to_vec(), reason });
    if weights.is_empty() || weights.len() > MAX_RANKS {
        return bad(format!("there must be 1 to {MAX_RANKS} of them"));
    }
    if weights.contains(&0) {
        return bad("each must be at least 1".to_owned());
    }
    if rank >= weights.len() {
        return bad(format!("there is no rank {rank}"));
    }
    Ok(())
}

/// KV heads in the smallest pieces whose query heads fill whole groups of every layer's o_proj.
fn split_heads(config: &ModelConfig, weights: &[u32]) -> Result<Vec<Range<usize>>, ShardError> {
    let kv_heads = config.num_key_value_heads;
    // Input columns of o_proj that belong to one KV head.
    let width = config.heads_per_kv_head() * config.head_dim;
    let group = coarsest_group(config, "self_attn.o_proj");
    let unit = lcm(width, group) / width;
    share(kv_heads, unit, weights).ok_or_else(|| {
        let reason = if unit == 1 {
            format!("it has {}", count(kv_heads, "KV head"))
        } else {
            format!(
                "it has {}, which can be parted only by {unit}: o_proj takes {width} columns of \
                 each and is quantised in groups of {group}",
                count(kv_heads, "KV head")
            )
        };
        ShardError::Indivisible { part: "model.layers.*.self_attn", ranks: weights.len(), reason }
    })
}

fn split_ffn(config: &ModelConfig, weights: &[u32]) -> Result<Vec<Range<usize>>, ShardError> {
    let columns = config.intermediate_size;
    let group = coarsest_group(config, "mlp.down_proj");
    let wide = share(columns, lcm(group, FFN_ALIGNMENT), weights);
    wide.or_else(|| share(columns, group, weights)).ok_or_else(|| {
        let reason = format!("its {columns} columns come in groups of {group}");
        ShardError::Indivisible { part: "model.layers.*.mlp", ranks: weights.len(), reason }
    })
}

fn split_vocab(config: &ModelConfig, weights: &[u32]) -> Result<Vec<Range<usize>>, ShardError> {
    let rows = config.vocab_size;
    let wide = share(rows, VOCAB_ALIGNMENT, weights);
    wide.or_else(|| share(rows, 1, weights)).ok_or_else(|| ShardError::Indivisible {
        part: "the vocabulary",
        ranks: weights.len(),
        reason: format!("it has {}", count(rows, "token")),
    })
}

/// The least size in which every layer's module of this name can be cut along its input axis.
fn coarsest_group(config: &ModelConfig, module: &str) -> usize {
    (0..config.num_hidden_layers)
        .map(|layer| {
            let group = config.group(&format!("model.layers.{layer}.{module}"));
            group.map_or(1, |g| g.group_size)
        })
        .fold(1, lcm)
}

/// Cuts `total` items into one range a rank, at multiples of `unit` (the last piece may be short).
/// `None` if there are fewer pieces than ranks.
///
/// Pieces go by largest remainder: every rank first gets the whole part of its exact share, at
/// least one piece; what is over goes to the rank furthest below its share, the lower on a tie.
fn share(total: usize, unit: usize, weights: &[u32]) -> Option<Vec<Range<usize>>> {
    let pieces = total.div_ceil(unit) as u64;
    if pieces < weights.len() as u64 {
        return None;
    }
    let sum: u64 = weights.iter().map(|&w| u64::from(w)).sum();
    // Pieces are at most 2^24 and weights below 2^32: no product below overflows.
    let mut given: Vec<u64> =
        weights.iter().map(|&w| (pieces * u64::from(w) / sum).max(1)).collect();
    // How far above its exact share a rank is, times `sum`.
    let excess = |given: &[u64], rank: usize| {
        i128::from(given[rank]) * i128::from(sum) - i128::from(pieces) * i128::from(weights[rank])
    };
    loop {
        // At most one round a rank: floors miss `pieces` by less than the number of ranks, and
        // raising shares to one piece overshoots by less too.
        let dealt: u64 = given.iter().sum();
        let ranks = 0..weights.len();
        if dealt < pieces {
            let neediest = ranks.min_by_key(|&r| (excess(&given, r), r))?;
            given[neediest] += 1;
        } else if dealt > pieces {
            let richest =
                ranks.filter(|&r| given[r] > 1).max_by_key(|&r| (excess(&given, r), r))?;
            given[richest] -= 1;
        } else {
            break;
        }
    }
    let mut start = 0;
    let ranges = given.iter().map(|&pieces| {
        let end = (start + pieces as usize * unit).min(total);
        let range = start..end;
        start = end;
        range
    });
    Some(ranges.collect())
}

/// The part of tensor `name` that belongs to this plan's rank, in stored elements.
///
/// # Errors
/// [`ShardError::Unknown`] for a tensor of no rule.
pub fn tensor_part(plan: &ShardPlan, config: &ModelConfig, name: &str) -> Result<Part, ShardError> {
    let unknown = || ShardError::Unknown(name.to_owned());
    let (module, kind) = name.rsplit_once('.').ok_or_else(unknown)?;
    if plan.world == 1 {
        return Ok(Part::All);
    }
    let scaled = |range: &Range<usize>| range.start * config.head_dim..range.end * config.head_dim;
    let rows = |range: Range<usize>| Ok(Part::Rows(vec![range]));
    if module == EMBEDDING || module == HEAD {
        return rows(plan.vocab.clone());
    }
    let inputs =
        |range: Range<usize>| stored_columns(config.group(module), kind, range).ok_or_else(unknown);
    match module.rsplit('.').next().unwrap_or(module) {
        "q_proj" => rows(scaled(&plan.heads)),
        "k_proj" | "v_proj" => rows(scaled(&plan.kv_heads)),
        "gate_proj" | "up_proj" => rows(plan.ffn.clone()),
        "o_proj" => inputs(scaled(&plan.heads)),
        "down_proj" => inputs(plan.ffn.clone()),
        "norm" | "input_layernorm" | "post_attention_layernorm" | "q_norm" | "k_norm" => {
            Ok(Part::All)
        }
        _ => Err(unknown()),
    }
}

/// A range of a matrix's dense input columns, as columns of the tensor of this kind.
fn stored_columns(group: Option<Group>, kind: &str, range: Range<usize>) -> Option<Part> {
    let columns = match (kind, group) {
        // Added once, after the sum over ranks.
        ("bias", _) => return Some(Part::All),
        ("weight", None) => range,
        ("weight", Some(group)) => group.words(range.start)..group.words(range.end),
        ("scales" | "biases", Some(Group { group_size, .. })) => {
            range.start / group_size..range.end / group_size
        }
        _ => return None,
    };
    Some(Part::Columns(columns))
}

fn lcm(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    a / x * b
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
