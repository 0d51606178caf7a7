//! How a config stretches its rotary embedding. Formulas: transformers `modeling_rope_utils.py`,
//! mlx-lm `rope_utils.py`; the two agree for everything accepted here.

use serde_json::Value;

use super::keys::Keys;
use super::{ConfigError, MAX_CONTEXT, ModelType};

/// Stretching of the rotary embedding beyond the context the model was first trained for.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// None: frequency `theta^(-2i/head_dim)`.
    Default,
    /// Positions divided by `factor`.
    Linear {
        /// Divisor of positions.
        factor: f32,
    },
    /// Llama 3.1: long wavelengths divided by `factor`, short ones kept, a ramp between.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f32,
        /// Wavelengths above `original / low_freq_factor` are divided.
        low_freq_factor: f32,
        /// Wavelengths below `original / high_freq_factor` are kept.
        high_freq_factor: f32,
        /// Context of the first training, in tokens.
        original_max_position_embeddings: usize,
    },
    /// YaRN: as Llama 3's idea with the ramp over dimensions, and q and k scaled.
    Yarn {
        /// Divisor of the low frequencies.
        factor: f32,
        /// Context of the first training, in tokens.
        original_max_position_embeddings: usize,
        /// Rotations over the first context above which a dimension is kept.
        beta_fast: f32,
        /// Rotations below which a dimension is divided by `factor`.
        beta_slow: f32,
        /// What q and k are each multiplied by, `mscale` and `mscale_all_dim` worked in.
        attention_factor: f32,
    },
}

/// Base and scaling, from `rope_theta` and `rope_scaling` or transformers 5's `rope_parameters`.
pub(super) fn parse(
    keys: &Keys<'_>,
    model_type: ModelType,
) -> Result<(f32, RopeScaling), ConfigError> {
    let new = object(keys, "rope_parameters")?;
    let old = object(keys, "rope_scaling")?;
    let theta = match &new {
        Some(new) if new.get("rope_theta").is_some() => new.positive("rope_theta")?,
        _ => match model_type {
            ModelType::Llama | ModelType::Mistral => keys.positive_or("rope_theta", 10_000.0)?,
            // transformers would take 10 000 and mlx-lm 1 000 000: better none than a wrong one.
            ModelType::Qwen2 | ModelType::Qwen3 => keys.positive("rope_theta")?,
        },
    };
    let scaling = match (old, new) {
        (Some(old), _) => scaling("rope_scaling", &old)?,
        (None, Some(new)) => scaling("rope_parameters", &new)?,
        (None, None) => RopeScaling::Default,
    };
    Ok((theta, scaling))
}

fn object<'a>(keys: &Keys<'a>, key: &str) -> Result<Option<Keys<'a>>, ConfigError> {
    match keys.get(key) {
        None => Ok(None),
        Some(Value::Object(map)) => Ok(Some(Keys(map))),
        Some(other) => Err(ConfigError::key(key, format!("{other} is not an object"))),
    }
}

fn scaling(name: &str, keys: &Keys<'_>) -> Result<RopeScaling, ConfigError> {
    if let Some(factor) = keys.get("partial_rotary_factor")
        && factor.as_f64() != Some(1.0)
    {
        let reason = format!("{factor} is not supported; heads are rotated whole");
        return Err(ConfigError::key(&format!("{name}.partial_rotary_factor"), reason));
    }
    let kind = keys.get("rope_type").or_else(|| keys.get("type"));
    let original = || keys.size("original_max_position_embeddings", MAX_CONTEXT);
    let scaling = match kind.map(|k| k.as_str().unwrap_or("")) {
        None | Some("default") => Ok(RopeScaling::Default),
        Some("linear") => keys.positive("factor").map(|factor| RopeScaling::Linear { factor }),
        Some("llama3") => llama3(keys, original),
        Some("yarn") => yarn(keys, original),
        Some(other) => Err(ConfigError::key(
            "rope_type",
            format!("{other:?} is not supported; these are: default, linear, llama3, yarn"),
        )),
    };
    scaling.map_err(|error| match error {
        ConfigError::Key { key, reason } => ConfigError::key(&format!("{name}.{key}"), reason),
        other => other,
    })
}

fn llama3(
    keys: &Keys<'_>,
    original: impl Fn() -> Result<usize, ConfigError>,
) -> Result<RopeScaling, ConfigError> {
    let low_freq_factor = keys.positive("low_freq_factor")?;
    let high_freq_factor = keys.positive("high_freq_factor")?;
    if high_freq_factor <= low_freq_factor {
        let reason = format!("{high_freq_factor} is not above low_freq_factor {low_freq_factor}");
        return Err(ConfigError::key("high_freq_factor", reason));
    }
    Ok(RopeScaling::Llama3 {
        factor: keys.positive("factor")?,
        low_freq_factor,
        high_freq_factor,
        original_max_position_embeddings: original()?,
    })
}

fn yarn(
    keys: &Keys<'_>,
    original: impl Fn() -> Result<usize, ConfigError>,
) -> Result<RopeScaling, ConfigError> {
    // gpt-oss's variant without rounding of the ramp's ends; none of our families uses it.
    if keys.get("truncate") == Some(&Value::Bool(false)) {
        return Err(ConfigError::key("truncate", "false is not supported"));
    }
    let factor = keys.positive("factor")?;
    let mscale = |weight: f32| {
        if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 }
    };
    let attention_factor = if keys.get("attention_factor").is_some() {
        keys.positive("attention_factor")?
    } else {
        // transformers takes the pair only if both are given and not zero.
        let given = |key| keys.get(key).and_then(Value::as_f64).filter(|n| *n != 0.0);
        match (given("mscale"), given("mscale_all_dim")) {
            (Some(top), Some(bottom)) => mscale(top as f32) / mscale(bottom as f32),
            _ => mscale(1.0),
        }
    };
    if !(attention_factor.is_finite() && attention_factor > 0.0) {
        return Err(ConfigError::key("mscale", format!("gives the factor {attention_factor}")));
    }
    Ok(RopeScaling::Yarn {
        factor,
        original_max_position_embeddings: original()?,
        beta_fast: keys.positive_or("beta_fast", 32.0)?,
        beta_slow: keys.positive_or("beta_slow", 1.0)?,
        attention_factor,
    })
}
