//! How much memory a rank takes, computed from headers and settings before any weight is read.
//!
//! ```text
//!  weights ── exact: what load.rs keeps of this rank's part of every tensor
//!  KV cache ─ layers · 2 · own KV heads · head_dim · bytes of a value, for each token it may hold
//!  prefill ── the most that a step holds beside them (step.rs)
//!  fixed ──── the process, MLX, its buffers
//! ```
//!
//! A KV cache has no size of its own: each request's grows with it. What bounds all of them together
//! is the scheduler, which admits a request only while the positions that it may come to hold fit
//! into [`Fit::kv_tokens`]. Without that, the worst case is `max_active` requests of the full context,
//! which is more than most machines have. Less than one request of the full context is refused: the
//! model would promise a context that it can't serve.
//!
//! Pure: a model's headers, settings and a ceiling in, numbers and sentences out.

mod ceiling;
mod step;
mod table;
#[cfg(test)]
mod tests;
mod weights;

use crate::EngineError;
use crate::settings::{RankSetup, Settings};
use crate::shard::ShardPlan;
use crate::start::ModelFiles;

pub use ceiling::Ceiling;
pub use table::table;

/// Positions that a KV cache grows by ([`crate::model::cache`]): growing copies it, so not one by
/// one. 256, as in mlx-lm.
pub const KV_GROWTH_TOKENS: u32 = 256;

/// Memory of a rank that does not depend on the model, on a CPU: executable, libraries and stacks
/// (31 MiB beside the weights of a small model just loaded, by `VmHWM`), the 32 MiB of freed buffers
/// that MLX's allocator keeps there, OpenBLAS's buffers of 32 MiB a thread, partly touched.
const FIXED_CPU_BYTES: u64 = 128 << 20;

/// The same on Metal, with ten command buffers under way, which is the most that MLX's evaluation
/// runs ahead, of 50 MB each (its limit on the largest chips). An estimate with room.
const FIXED_METAL_BYTES: u64 = 1 << 30;

/// How a platform holds weights and computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As stored; half types compute as themselves.
    Metal,
    /// In f32, quantised weights expanded or not.
    Cpu {
        /// `engine.cpu_expand`.
        expand: bool,
    },
}

impl Form {
    /// This build's.
    pub fn here(settings: &Settings) -> Self {
        if crate::mlx::on_metal() { Self::Metal } else { Self::Cpu { expand: settings.cpu_expand } }
    }
}

/// A rank's memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Its part of the weights, in the form it computes with. Exact.
    pub weights_bytes: u64,
    /// All KV caches together at their largest.
    pub kv_cache_bytes: u64,
    /// What a step holds beside weights and caches, at most: its activations, attention's scores,
    /// logits, and copies of caches that grow.
    pub prefill_peak_bytes: u64,
    /// The process and MLX.
    pub fixed_bytes: u64,
    /// What loading holds beside the weights loaded so far, at most. Over before the first step.
    pub loading_bytes: u64,
}

impl Budget {
    /// The most that the rank holds at once.
    pub fn total(&self) -> u64 {
        let serving_bytes = self.kv_cache_bytes.saturating_add(self.prefill_peak_bytes);
        self.weights_bytes
            .saturating_add(self.fixed_bytes)
            .saturating_add(serving_bytes.max(self.loading_bytes))
    }
}

/// What one rank would take, before it is known how many tokens the KV caches may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    weights_bytes: u64,
    loading_bytes: u64,
    fixed_bytes: u64,
    /// Of all layers, for one position.
    kv_bytes_per_token: u64,
    step: step::StepBytes,
}

impl Demand {
    /// Of `plan`'s rank.
    ///
    /// # Errors
    /// A tensor that no rule splits, which [`ModelFiles::open`] has ruled out.
    pub fn new(
        files: &ModelFiles,
        plan: &ShardPlan,
        settings: &Settings,
        form: Form,
    ) -> Result<Self, EngineError> {
        let weights = weights::weights(files, plan, form)?;
        let shape = step::Shape::new(&files.config, plan, form, weights.value_bytes);
        let fixed_bytes = match form {
            Form::Metal => FIXED_METAL_BYTES,
            Form::Cpu { .. } => FIXED_CPU_BYTES,
        };
        Ok(Self {
            weights_bytes: weights.bytes,
            loading_bytes: weights.loading_bytes,
            fixed_bytes,
            kv_bytes_per_token: shape.kv_bytes_per_token(),
            step: step::step_bytes(&shape, settings),
        })
    }

    /// With KV caches of so many positions in all, none longer than the context.
    pub fn budget(&self, kv_tokens: u64, context_tokens: u32) -> Budget {
        Budget {
            weights_bytes: self.weights_bytes,
            kv_cache_bytes: kv_tokens.saturating_mul(self.kv_bytes_per_token),
            prefill_peak_bytes: self.step.bytes(kv_tokens, context_tokens),
            fixed_bytes: self.fixed_bytes,
            loading_bytes: self.loading_bytes,
        }
    }
}

/// What every rank of a gang would take, in order of rank.
///
/// # Errors
/// As [`Demand::new`], or a model that can't be split so.
pub fn demands(files: &ModelFiles, setup: &RankSetup) -> Result<Vec<Demand>, EngineError> {
    let weights: Vec<u32> = setup.ranks.iter().map(|place| place.weight).collect();
    let form = Form::here(&setup.settings);
    let demand = |rank| {
        let plan = ShardPlan::new(&files.config, &weights, rank)?;
        Demand::new(files, &plan, &setup.settings, form)
    };
    (0..weights.len()).map(demand).collect()
}

/// What requests may ask of the KV caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Most tokens of one request.
    pub context_tokens: u32,
    /// Most requests at once.
    pub max_active: u32,
    /// `engine.kv_cache_max_mib`; 0 takes what the ceiling leaves.
    pub kv_cache_max_mib: u64,
}

impl Terms {
    /// A model's, under these settings.
    pub fn new(files: &ModelFiles, settings: &Settings) -> Self {
        Self {
            context_tokens: files.context_tokens(settings),
            max_active: settings.max_active,
            kv_cache_max_mib: settings.kv_cache_max_mib,
        }
    }

    /// Positions that one request of the full context holds.
    fn one_request_tokens(&self) -> u64 {
        cache_tokens(self.context_tokens.into())
    }
}

/// Positions that the cache of a request of so many tokens takes up.
pub fn cache_tokens(tokens: u64) -> u64 {
    tokens.next_multiple_of(KV_GROWTH_TOKENS.into())
}

/// How ranks that share a machine's memory fit into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    /// Positions that the KV caches of a rank may hold together.
    pub kv_tokens: u64,
    /// Each rank's budget with caches that large.
    pub budgets: Vec<Budget>,
    /// The least that these ranks take together: with room for one request of the full context.
    pub need_bytes: u64,
}

/// Why ranks don't fit: needs, has, and which key to lower.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Shortfall {
    text: String,
    /// What is needed, each rank, with room for one request of the full context.
    pub budgets: Vec<Budget>,
}

impl From<Shortfall> for EngineError {
    fn from(shortfall: Shortfall) -> Self {
        Self::Usage(shortfall.to_string())
    }
}

/// Fits ranks that share a machine under its ceiling, with as large KV caches as requests can use.
/// Without a ceiling only `kv_cache_max_mib` bounds them.
///
/// # Errors
/// Not even one request of the full context fits.
pub fn fit(demands: &[Demand], terms: &Terms, ceiling: Option<&Ceiling>) -> Result<Fit, Shortfall> {
    let budgets = |tokens: u64, context_tokens: u32| -> Vec<Budget> {
        demands.iter().map(|demand| demand.budget(tokens, context_tokens)).collect()
    };
    let sum = |budgets: &[Budget]| budgets.iter().map(Budget::total).fold(0, u64::saturating_add);
    let one = terms.one_request_tokens();
    let least = budgets(one, terms.context_tokens);
    let need_bytes = sum(&least);
    let allowed = allowed_tokens(demands, terms);
    if allowed < one {
        return Err(Shortfall { text: cache_shortfall(demands, terms, allowed), budgets: least });
    }
    let fits = |tokens: u64, context_tokens: u32| {
        ceiling.is_none_or(|ceiling| sum(&budgets(tokens, context_tokens)) <= ceiling.bytes)
    };
    if let Some(ceiling) = ceiling
        && need_bytes > ceiling.bytes
    {
        // The longest context that fits, in steps of the caches' growth.
        let steps = largest(one / u64::from(KV_GROWTH_TOKENS), |steps| {
            let tokens = steps * u64::from(KV_GROWTH_TOKENS);
            fits(tokens, u32::try_from(tokens).unwrap_or(u32::MAX))
        });
        let text = shortfall(demands, terms, need_bytes, ceiling, steps);
        return Err(Shortfall { text, budgets: least });
    }
    let growth = u64::from(KV_GROWTH_TOKENS);
    let wanted = allowed.min(one.saturating_mul(terms.max_active.into())) / growth;
    let steps = largest(wanted, |steps| fits(steps * growth, terms.context_tokens));
    let kv_tokens = steps * growth;
    Ok(Fit { kv_tokens, budgets: budgets(kv_tokens, terms.context_tokens), need_bytes })
}

/// The largest of `0..=most` for which `fits` holds, given that it holds up to some point; 0 if for
/// none.
fn largest(most: u64, fits: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, most);
    // Halves the range: at most 64 rounds.
    while low < high {
        let middle = high - (high - low) / 2;
        if fits(middle) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
}

/// Positions that `kv_cache_max_mib` allows, which is a bound for each rank.
fn allowed_tokens(demands: &[Demand], terms: &Terms) -> u64 {
    if terms.kv_cache_max_mib == 0 {
        return u64::MAX;
    }
    let most_bytes = terms.kv_cache_max_mib << 20;
    let tokens = demands.iter().map(|demand| most_bytes / demand.kv_bytes_per_token.max(1)).min();
    tokens.map_or(u64::MAX, |tokens| {
        tokens / u64::from(KV_GROWTH_TOKENS) * u64::from(KV_GROWTH_TOKENS)
    })
}

/// In MiB, rounded up.
fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

fn cache_shortfall(demands: &[Demand], terms: &Terms, allowed: u64) -> String {
    let largest = demands.iter().map(|demand| demand.kv_bytes_per_token).max().unwrap_or(0);
    let need_mib = mib(largest.saturating_mul(terms.one_request_tokens()));
    let lower = if allowed == 0 {
        String::new()
    } else {
        format!(", or lower engine.context_tokens to {allowed} or less")
    };
    format!(
        "engine.kv_cache_max_mib is {}, but one request of the full context of {} tokens needs \
         {need_mib} MiB; raise it to {need_mib} or more{lower}",
        terms.kv_cache_max_mib, terms.context_tokens
    )
}

fn shortfall(
    demands: &[Demand],
    terms: &Terms,
    need_bytes: u64,
    ceiling: &Ceiling,
    steps: u64,
) -> String {
    let count = demands.len();
    let ranks = if count == 1 { "this rank".to_owned() } else { format!("these {count} ranks") };
    let base_bytes: u64 = demands.iter().map(|d| d.weights_bytes + d.fixed_bytes).sum();
    let smaller = "serve a smaller or more strongly quantised model, or give this machine a smaller \
                   share ([[rank]] weight)";
    let remedy = if steps > 0 {
        let tokens = steps * u64::from(KV_GROWTH_TOKENS);
        format!("lower engine.context_tokens to {tokens} or less")
    } else if base_bytes > ceiling.bytes {
        format!("the weights alone are too much: {smaller}")
    } else {
        format!("lower engine.prefill_step_tokens or engine.max_active, or {smaller}")
    };
    format!(
        "{ranks} would need {} MiB with room for one request of {} tokens, and this machine has {} \
         MiB for them ({}); {remedy}",
        mib(need_bytes),
        terms.context_tokens,
        ceiling.bytes >> 20,
        ceiling.origin
    )
}

/// How this rank, with those beside it on its machine, fits. Others are beside it if their address
/// is its own.
///
/// # Errors
/// [`EngineError::Usage`] with what is needed, what there is, and which key to lower.
pub fn fit_rank(files: &ModelFiles, setup: &RankSetup) -> Result<Fit, EngineError> {
    let own = usize::try_from(setup.rank).ok().and_then(|rank| setup.ranks.get(rank));
    let Some(own) = own else {
        let message = format!("rank {} is not one of {} [[rank]]s", setup.rank, setup.ranks.len());
        return Err(EngineError::Usage(message));
    };
    let demands = demands(files, setup)?;
    let places = setup.ranks.iter().zip(demands);
    let beside: Vec<Demand> = places
        .filter(|(place, _)| place.address == own.address)
        .map(|(_, demand)| demand)
        .collect();
    Ok(fit(&beside, &Terms::new(files, &setup.settings), setup.ceiling.as_ref())?)
}
