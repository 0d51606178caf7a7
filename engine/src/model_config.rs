//! `config.json` of a dense decoder model, typed, with every default as its family has it.
//!
//! Defaults are those of transformers 5 and mlx-lm 0.32; where the two differ and a guess would
//! change the numbers, a missing key is refused by name or settled from the weights.

mod keys;
mod quantization;
mod rope;
mod tensors;
#[cfg(test)]
mod tests;

use serde_json::Value;

pub use quantization::{Group, Quantization};
pub use rope::RopeScaling;
pub(crate) use tensors::{EMBEDDING, HEAD};

use crate::EngineError;
use crate::checkpoint::{Checkpoint, CheckpointError};
use keys::Keys;

/// Bounds of the sizes a config may state. They are an order of magnitude above any published model
/// and keep every product of two or three of them inside 64 bits.
const MAX_WIDTH: u64 = 1 << 20;
const MAX_LAYERS: u64 = 1 << 12;
const MAX_VOCAB: u64 = 1 << 24;
const MAX_CONTEXT: u64 = 1 << 28;

/// Why a `config.json` can't be served. The texts name the key.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A key is missing, of the wrong kind or out of its range.
    #[error("config.json: {key}: {reason}")]
    Key {
        /// The key, dotted when nested.
        key: String,
        /// What is wrong and what was expected.
        reason: String,
    },
    /// The config asks for something this engine does not do.
    #[error("config.json: {0}")]
    Unsupported(String),
    /// The weights are not those the config describes.
    #[error(transparent)]
    Weights(#[from] CheckpointError),
}

impl ConfigError {
    pub(crate) fn key(key: &str, reason: impl Into<String>) -> Self {
        Self::Key { key: key.to_owned(), reason: reason.into() }
    }
}

impl From<ConfigError> for EngineError {
    fn from(error: ConfigError) -> Self {
        match error {
            ConfigError::Weights(source) => source.into(),
            other => EngineError::Model(other.to_string()),
        }
    }
}

/// The architectures this engine has, as `model_type` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelType {
    /// Llama and what shares its shape, e.g. SmolLM2.
    Llama,
    /// Mistral: Llama with an optional sliding window.
    Mistral,
    /// Qwen2 and Qwen2.5: Llama with biases on q, k and v.
    Qwen2,
    /// Qwen3 dense: Llama with RMS norms on q and k of each head.
    Qwen3,
}

impl ModelType {
    const ALL: [(ModelType, &str); 4] = [
        (ModelType::Llama, "llama"),
        (ModelType::Mistral, "mistral"),
        (ModelType::Qwen2, "qwen2"),
        (ModelType::Qwen3, "qwen3"),
    ];

    /// The name in `config.json`.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(t, _)| *t == self).map_or("", |(_, name)| name)
    }

    fn parse(name: &str) -> Result<Self, ConfigError> {
        Self::ALL.iter().find(|(_, n)| *n == name).map(|(t, _)| *t).ok_or_else(|| {
            let known = Self::ALL.map(|(_, name)| name).join(", ");
            ConfigError::key("model_type", format!("{name:?} is not supported; these are: {known}"))
        })
    }
}

/// A model's shape and constants.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// Architecture.
    pub model_type: ModelType,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Number of decoder blocks.
    pub num_hidden_layers: usize,
    /// Width of the feed-forward network.
    pub intermediate_size: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key/value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of one head; even.
    pub head_dim: usize,
    /// Epsilon of every RMS norm.
    pub rms_norm_eps: f32,
    /// Rows of the embedding and of the head.
    pub vocab_size: usize,
    /// Context the model was made for, in tokens.
    pub max_position_embeddings: usize,
    /// Base of the rotary embedding.
    pub rope_theta: f32,
    /// Rotate neighbours (true) or halves (false, the usual).
    pub rope_traditional: bool,
    /// How the rotary embedding is stretched.
    pub rope_scaling: RopeScaling,
    /// The head is the embedding.
    pub tie_word_embeddings: bool,
    /// q, k and v projections have biases.
    pub attention_bias: bool,
    /// The o projection has a bias. It is whole on every rank: add it once, after the sum.
    pub attention_output_bias: bool,
    /// gate, up and down projections have biases; down's is whole on every rank, as o's.
    pub mlp_bias: bool,
    /// q and k pass an RMS norm per head before the rotary embedding.
    pub qk_norm: bool,
    /// Attention reaches back this many tokens in some layer; it bounds
    /// [`context_limit`](Self::context_limit).
    pub sliding_window: Option<usize>,
    /// How the linear layers and embeddings are stored, if quantised.
    pub quantization: Option<Quantization>,
    /// End-of-text ids the config states; the generation config may state more.
    pub eos_token_ids: Vec<u32>,
    /// Whether the config itself says if the head is tied; if not, the weights decide.
    tie_stated: bool,
}

impl ModelConfig {
    /// Types a `config.json`. Where it does not say whether the head is tied, takes transformers'
    /// default (not tied); [`load`](Self::load) looks at the weights instead.
    ///
    /// # Errors
    /// A key is missing, malformed, out of range, or asks for something not supported.
    pub fn parse(json: &Value) -> Result<Self, ConfigError> {
        let root = json
            .as_object()
            .ok_or_else(|| ConfigError::Unsupported("is not a JSON object".to_owned()))?;
        let keys = Keys(root);
        let model_type = ModelType::parse(keys.text("model_type")?)?;
        refuse_unsupported(&keys)?;
        let heads = keys.size("num_attention_heads", MAX_WIDTH)?;
        let hidden_size = keys.size("hidden_size", MAX_WIDTH)?;
        let kv_heads = keys.size_or("num_key_value_heads", heads, MAX_WIDTH)?;
        if heads % kv_heads != 0 {
            return Err(ConfigError::key(
                "num_key_value_heads",
                format!("{kv_heads} does not divide num_attention_heads {heads}"),
            ));
        }
        let num_hidden_layers = keys.size("num_hidden_layers", MAX_LAYERS)?;
        let max_position_embeddings =
            keys.size_or("max_position_embeddings", default_context(model_type), MAX_CONTEXT)?;
        let (rope_theta, rope_scaling) = rope::parse(&keys, model_type)?;
        // Qwen2 has biases on q, k, v whatever its config says; Mistral never has any.
        let bias_key = keys.flag_or("attention_bias", false)?;
        let llama_like = matches!(model_type, ModelType::Llama | ModelType::Qwen3);
        let tie = keys.get("tie_word_embeddings");
        Ok(Self {
            model_type,
            hidden_size,
            num_hidden_layers,
            intermediate_size: keys.size("intermediate_size", MAX_WIDTH)?,
            num_attention_heads: heads,
            num_key_value_heads: kv_heads,
            head_dim: head_dim(&keys, model_type, hidden_size, heads)?,
            rms_norm_eps: keys.positive_or("rms_norm_eps", 1e-6)?,
            vocab_size: keys.size("vocab_size", MAX_VOCAB)?,
            max_position_embeddings,
            rope_theta,
            rope_traditional: keys.flag_or("rope_traditional", false)?,
            rope_scaling,
            tie_word_embeddings: keys.flag_or("tie_word_embeddings", false)?,
            attention_bias: model_type == ModelType::Qwen2 || (llama_like && bias_key),
            attention_output_bias: llama_like && bias_key,
            mlp_bias: model_type == ModelType::Llama && keys.flag_or("mlp_bias", false)?,
            qk_norm: model_type == ModelType::Qwen3,
            sliding_window: sliding_window(&keys, model_type, num_hidden_layers)?,
            quantization: Quantization::parse(&keys)?,
            eos_token_ids: eos_token_ids(&keys)?,
            tie_stated: tie.is_some(),
        })
    }

    /// Types the checkpoint's config and checks that its tensors are those the config describes:
    /// all there, none unknown, shapes and types right. Settles what only the weights tell: a head
    /// whose tying is not stated, and which modules are quantised.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), or the first tensor that is missing, unknown or of a wrong shape.
    pub fn load(checkpoint: &Checkpoint) -> Result<Self, ConfigError> {
        let mut config = Self::parse(checkpoint.config())?;
        if !config.tie_stated {
            config.tie_word_embeddings = checkpoint.tensor("lm_head.weight").is_none();
        }
        tensors::settle_quantization(&mut config, checkpoint)?;
        tensors::check(&config, checkpoint)?;
        Ok(config)
    }

    /// Longest context in tokens (prompt and answer) for which this engine's full attention gives
    /// the model's own numbers: its stated context, or a smaller sliding window.
    pub fn context_limit(&self) -> usize {
        let window = self.sliding_window.unwrap_or(usize::MAX);
        self.max_position_embeddings.min(window)
    }

    /// Query heads that share one key/value head.
    pub fn heads_per_kv_head(&self) -> usize {
        self.num_attention_heads / self.num_key_value_heads
    }

    /// How module `name` (e.g. `model.layers.0.mlp.up_proj`) is quantised, if it is.
    pub fn group(&self, name: &str) -> Option<Group> {
        self.quantization.as_ref().and_then(|q| q.group(name))
    }
}

/// transformers' defaults; all published configs state it.
fn default_context(model_type: ModelType) -> usize {
    match model_type {
        ModelType::Llama => 2048,
        ModelType::Mistral => 131_072,
        ModelType::Qwen2 | ModelType::Qwen3 => 32_768,
    }
}

fn head_dim(
    keys: &Keys<'_>,
    model_type: ModelType,
    hidden_size: usize,
    heads: usize,
) -> Result<usize, ConfigError> {
    let head_dim = if keys.get("head_dim").is_some() {
        keys.size("head_dim", MAX_WIDTH)?
    } else if model_type == ModelType::Qwen3 {
        // transformers: 128, whatever the hidden size; mlx-lm insists on the key.
        128
    } else if hidden_size.is_multiple_of(heads) {
        hidden_size / heads
    } else {
        let reason = format!("{hidden_size} is no multiple of num_attention_heads {heads}");
        return Err(ConfigError::key("hidden_size", reason));
    };
    if !head_dim.is_multiple_of(2) {
        return Err(ConfigError::key("head_dim", format!("{head_dim} is odd; RoPE needs pairs")));
    }
    if heads * head_dim > MAX_WIDTH as usize {
        let reason = format!("{heads} heads of {head_dim} are more than {MAX_WIDTH} wide");
        return Err(ConfigError::key("head_dim", reason));
    }
    Ok(head_dim)
}

/// The window, only if some layer really uses it.
fn sliding_window(
    keys: &Keys<'_>,
    model_type: ModelType,
    layers: usize,
) -> Result<Option<usize>, ConfigError> {
    if keys.get("sliding_window").is_none() {
        return Ok(None);
    }
    let window = || keys.size("sliding_window", MAX_CONTEXT).map(Some);
    if let Some(types) = keys.get("layer_types") {
        let types = types.as_array().map(Vec::as_slice).unwrap_or_default();
        let sliding = Value::from("sliding_attention");
        let full = Value::from("full_attention");
        if let Some(other) = types.iter().find(|t| **t != sliding && **t != full) {
            return Err(ConfigError::key("layer_types", format!("{other} is not supported")));
        }
        return if types.contains(&sliding) { window() } else { Ok(None) };
    }
    match model_type {
        ModelType::Llama => Ok(None),
        ModelType::Mistral => window(),
        ModelType::Qwen2 | ModelType::Qwen3 => {
            // Layers from max_window_layers on slide, and only if the switch is on.
            let first = keys.size_or("max_window_layers", 28, MAX_LAYERS)?;
            let used = keys.flag_or("use_sliding_window", false)? && first < layers;
            if used { window() } else { Ok(None) }
        }
    }
}

fn refuse_unsupported(keys: &Keys<'_>) -> Result<(), ConfigError> {
    for key in ["hidden_act", "hidden_activation"] {
        match keys.get(key).map(|v| v.as_str().unwrap_or("")) {
            None | Some("silu" | "swish") => {}
            Some(other) => {
                return Err(ConfigError::key(key, format!("{other:?} is not supported; silu is")));
            }
        }
    }
    if let Some(factor) = keys.get("partial_rotary_factor")
        && factor.as_f64() != Some(1.0)
    {
        let reason = format!("{factor} is not supported; heads are rotated whole");
        return Err(ConfigError::key("partial_rotary_factor", reason));
    }
    for key in ["quantize_activations", "rope_interleaved"] {
        if keys.flag_or(key, false)? {
            return Err(ConfigError::key(key, "is not supported"));
        }
    }
    Ok(())
}

fn eos_token_ids(keys: &Keys<'_>) -> Result<Vec<u32>, ConfigError> {
    let one = |v: &Value| {
        v.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| {
            ConfigError::key("eos_token_id", format!("{v} is no token id or list of them"))
        })
    };
    match keys.get("eos_token_id") {
        None => Ok(Vec::new()),
        Some(Value::Array(ids)) => ids.iter().map(one).collect(),
        Some(id) => Ok(vec![one(id)?]),
    }
}
