//! The rotary embedding's stretching as GGUF has it, as a `rope_scaling` object.

use std::f32::consts::PI;

use serde_json::{Value, json};

use super::architecture::shortest;
use super::metadata::Metadata;

/// Tensor in which llama.cpp keeps Llama 3.1's stretching, worked out: a divisor per frequency.
pub(super) const FACTORS: &str = "rope_freqs.weight";

/// Contexts of the first training that published Llama-3-like models have.
const ORIGINAL_CONTEXTS: [usize; 6] = [8192, 4096, 16_384, 32_768, 65_536, 131_072];

/// `config.json`'s `rope_scaling`; `null` for none.
pub(super) fn scaling(
    meta: &Metadata,
    arch: &str,
    head_dim: usize,
    factors: Option<&[f32]>,
) -> Result<Value, String> {
    let key = |name: &str| format!("{arch}.rope.{name}");
    let linear = meta.float_or(&key("scale_linear"), 1.0)?;
    let kind = meta.text_opt(&key("scaling.type"))?.unwrap_or("none");
    let factor = meta.float_or(&key("scaling.factor"), linear)?;
    let scaling = match kind {
        "none" if factor == 1.0 => Value::Null,
        "linear" | "none" => json!({"rope_type": "linear", "factor": shortest(factor)}),
        "yarn" => {
            if meta.float_or(&key("scaling.attn_factor"), 1.0)? != 1.0
                || meta.get(&key("scaling.yarn_log_multiplier")).is_some()
            {
                return Err(format!("{arch}.rope.scaling: this form of YaRN is not supported"));
            }
            json!({
                "rope_type": "yarn",
                "factor": shortest(factor),
                // Absent, it is the model's own context, as llama.cpp takes it.
                "original_max_position_embeddings": match meta
                    .size_or(&key("scaling.original_context_length"), 0)?
                {
                    0 => meta.size(&format!("{arch}.context_length"))?,
                    original => original,
                },
                "beta_fast": shortest(meta.float_or(&key("scaling.yarn_beta_fast"), 32.0)?),
                "beta_slow": shortest(meta.float_or(&key("scaling.yarn_beta_slow"), 1.0)?),
            })
        }
        other => {
            return Err(format!(
                "{arch}.rope.scaling.type is {other:?}; none, linear and yarn are supported"
            ));
        }
    };
    let Some(factors) = factors else {
        return Ok(scaling);
    };
    if !scaling.is_null() {
        return Err(format!("has both {FACTORS} and {arch}.rope.scaling"));
    }
    let theta = meta.float_or(&key("freq_base"), 10_000.0)?;
    llama3(theta, head_dim, factors).ok_or_else(|| {
        format!("{FACTORS} follows no Llama 3 rule known here; import the original model instead")
    })
}

/// Finds the Llama 3 parameters that give these divisors: the factor is the greatest of them, the
/// others are tried.
fn llama3(theta: f32, head_dim: usize, factors: &[f32]) -> Option<Value> {
    if factors.len() != head_dim / 2 {
        return None;
    }
    let factor = factors.iter().copied().fold(1.0, f32::max);
    if factor == 1.0 && factors.iter().all(|f| *f == 1.0) {
        return Some(Value::Null);
    }
    let original = ORIGINAL_CONTEXTS.into_iter().find(|&original| {
        let expected = llama3_factors(theta, head_dim, factor, original as f32);
        // f32 arithmetic of another library: a few units in the last place, amplified by the ramp.
        expected.iter().zip(factors).all(|(e, f)| (e - f).abs() <= 1e-4 * e)
    })?;
    Some(json!({
        "rope_type": "llama3",
        "factor": shortest(factor),
        "low_freq_factor": LOW,
        "high_freq_factor": HIGH,
        "original_max_position_embeddings": original,
    }))
}

/// All published Llama 3 models have these two.
const LOW: f32 = 1.0;
const HIGH: f32 = 4.0;

/// As llama.cpp's `convert_hf_to_gguf.py` computes them.
pub(super) fn llama3_factors(theta: f32, head_dim: usize, factor: f32, original: f32) -> Vec<f32> {
    (0..head_dim / 2)
        .map(|i| {
            let wavelength = 2.0 * PI * theta.powf(2.0 * i as f32 / head_dim as f32);
            if wavelength < original / HIGH {
                1.0
            } else if wavelength > original / LOW {
                factor
            } else {
                let smooth = (original / wavelength - LOW) / (HIGH - LOW);
                1.0 / ((1.0 - smooth) / factor + smooth)
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama_3_parameters_are_found_again_from_their_divisors() {
        for (theta, head_dim, factor, original) in
            [(500_000.0, 128, 8.0, 8192), (500_000.0, 64, 32.0, 8192), (10_000.0, 64, 4.0, 4096)]
        {
            let factors = llama3_factors(theta, head_dim, factor, original as f32);
            let found = llama3(theta, head_dim, &factors).unwrap();
            assert_eq!(found["factor"], json!(f64::from(factor)));
            assert_eq!(found["original_max_position_embeddings"], json!(original));
        }
    }

    #[test]
    fn divisors_of_no_rule_are_not_guessed() {
        let mut factors = llama3_factors(500_000.0, 128, 8.0, 8192.0);
        factors[40] *= 1.01;
        assert_eq!(llama3(500_000.0, 128, &factors), None);
        assert_eq!(llama3(500_000.0, 128, &[1.0; 3]), None);
        assert_eq!(llama3(500_000.0, 128, &[1.0; 64]), Some(Value::Null));
    }
}
