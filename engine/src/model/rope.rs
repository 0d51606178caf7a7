//! Rotary position embedding, in the four forms that configs name.

use mlx_rs::{Array, fast, ops};

use crate::EngineError;
use crate::model_config::{ModelConfig, RopeScaling};

/// Rotates queries and keys by their positions.
pub struct Rope {
    dims: i32,
    traditional: bool,
    base: Option<f32>,
    scale: f32,
    /// Periods over 2π of each pair of dimensions, where they are not a plain power series.
    periods: Option<Array>,
    /// YaRN's factor for queries and keys alike.
    amplitude: f32,
}

/// First positions of the rows of a batch.
pub enum Offset<'a> {
    /// The same for all rows.
    Same(i32),
    /// `[batch]` of i32.
    Each(&'a Array),
}

impl Rope {
    /// As the model's config says.
    pub fn new(config: &ModelConfig) -> Self {
        let dims = config.head_dim;
        let base = config.rope_theta as f64;
        let mut rope = Self {
            dims: dims as i32,
            traditional: config.rope_traditional,
            base: Some(base as f32),
            scale: 1.0,
            periods: None,
            amplitude: 1.0,
        };
        let periods = match &config.rope_scaling {
            RopeScaling::Default => return rope,
            RopeScaling::Linear { factor } => {
                rope.scale = 1.0 / factor;
                return rope;
            }
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            } => llama3_periods(
                &plain_periods(dims, base),
                (*factor).into(),
                (*low_freq_factor).into(),
                (*high_freq_factor).into(),
                *original_max_position_embeddings as f64,
            ),
            RopeScaling::Yarn {
                factor,
                original_max_position_embeddings,
                beta_fast,
                beta_slow,
                attention_factor,
            } => {
                rope.amplitude = *attention_factor;
                let original = *original_max_position_embeddings as f64;
                let betas = (f64::from(*beta_fast), f64::from(*beta_slow));
                yarn_periods(dims, base, (*factor).into(), original, betas)
            }
        };
        let periods: Vec<f32> = periods.iter().map(|&p| p as f32).collect();
        rope.periods = Some(Array::from_slice(&periods, &[periods.len() as i32]));
        rope.base = None;
        rope
    }

    /// `x`: `[batch, heads, positions, head_dim]`; the same shape.
    pub fn forward(&self, x: &Array, offset: &Offset<'_>) -> Result<Array, EngineError> {
        let scaled;
        let x = if self.amplitude == 1.0 {
            x
        } else {
            let amplitude = Array::from_f32(self.amplitude).as_dtype(x.dtype())?;
            scaled = ops::multiply(x, amplitude)?;
            &scaled
        };
        let Self {
            dims,
            traditional,
            base,
            scale,
            periods,
            ..
        } = self;
        Ok(match offset {
            Offset::Same(first) => fast::rope(
                x,
                *dims,
                *traditional,
                *base,
                *scale,
                *first,
                periods.as_ref(),
            )?,
            Offset::Each(first) => fast::rope_dynamic(
                x,
                *dims,
                *traditional,
                *base,
                *scale,
                first,
                periods.as_ref(),
            )?,
        })
    }
}

/// `base^(2i/dims)`: the period over 2π of pair `i` (Su et al., RoFormer, equation 15).
fn plain_periods(dims: usize, base: f64) -> Vec<f64> {
    (0..dims / 2)
        .map(|i| base.powf(2.0 * i as f64 / dims as f64))
        .collect()
}

/// Llama 3.1's scaling: long periods stretched by `factor`, short ones kept, a ramp between
/// (`apply_scaling` in meta-llama/llama-models; `Llama3RoPE` in mlx-lm).
fn llama3_periods(
    plain: &[f64],
    factor: f64,
    low_freq_factor: f64,
    high_freq_factor: f64,
    original_context: f64,
) -> Vec<f64> {
    let stretch = |&period: &f64| {
        let wavelength = 2.0 * std::f64::consts::PI * period;
        if wavelength > original_context / low_freq_factor {
            period * factor
        } else if wavelength > original_context / high_freq_factor {
            let smooth = (original_context / wavelength - low_freq_factor)
                / (high_freq_factor - low_freq_factor);
            period / ((1.0 - smooth) / factor + smooth)
        } else {
            period
        }
    };
    plain.iter().map(stretch).collect()
}

/// YaRN's interpolation by parts (Peng et al., YaRN, section 3.2).
fn yarn_periods(
    dims: usize,
    base: f64,
    factor: f64,
    original_context: f64,
    (beta_fast, beta_slow): (f64, f64),
) -> Vec<f64> {
    let pair_that_turns = |rotations: f64| {
        dims as f64 * (original_context / (rotations * 2.0 * std::f64::consts::PI)).ln()
            / (2.0 * base.ln())
    };
    let low = pair_that_turns(beta_fast).floor().max(0.0);
    let high = pair_that_turns(beta_slow).ceil().min(dims as f64 - 1.0);
    let width = if high == low { 0.001 } else { high - low };
    let interpolate = |(pair, &period): (usize, &f64)| {
        let keep = 1.0 - ((pair as f64 - low) / width).clamp(0.0, 1.0);
        // A weighted harmonic mean: frequencies, not periods, are what is mixed.
        (factor * period * period) / (factor * period * keep + period * (1.0 - keep))
    };
    plain_periods(dims, base)
        .iter()
        .enumerate()
        .map(interpolate)
        .collect()
}
