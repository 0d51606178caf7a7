//! Rotary position embedding, in the four forms that configs name.

use mlx_rs::{Array, Dtype, fast, ops};

use crate::EngineError;
use crate::mlx::on_metal;
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
    /// Turns of each pair of dimensions per position, in radians; for [`Rotation::Matrix`].
    frequencies: Array,
    identity: Array,
    quarter_turn: Array,
}

/// What a step's positions turn queries and keys by; made once a step, used in every layer.
pub enum Rotation {
    /// Rows of the batch start at this position.
    From(i32),
    /// `[batch]` of i32: row `b` has the one position `b`.
    At(Array),
    /// `[batch, 1, head_dim, head_dim]`: the rotation of each row's one position as a matrix.
    Matrix(Array),
}

impl Rope {
    /// As the model's config says.
    pub fn new(config: &ModelConfig) -> Result<Self, EngineError> {
        let dims = config.head_dim;
        let base = config.rope_theta as f64;
        let mut rope = Self {
            dims: dims as i32,
            traditional: config.rope_traditional,
            base: Some(base as f32),
            scale: 1.0,
            periods: None,
            amplitude: 1.0,
            frequencies: plain_frequencies(dims as i32 / 2, base as f32)?,
            identity: Array::eye::<f32>(dims as i32, None, None)?,
            quarter_turn: quarter_turn(dims, config.rope_traditional),
        };
        let periods = match &config.rope_scaling {
            RopeScaling::Default => return Ok(rope),
            RopeScaling::Linear { factor } => {
                rope.scale = 1.0 / factor;
                return Ok(rope);
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
        let periods = Array::from_slice(&periods, &[periods.len() as i32]);
        rope.frequencies = periods.reciprocal()?;
        rope.periods = Some(periods);
        rope.base = None;
        Ok(rope)
    }

    /// The rotation for rows that start at `firsts` and have `positions` positions each; more than
    /// one row have one position each.
    pub fn rotation(&self, firsts: &[i32], positions: i32) -> Result<Rotation, EngineError> {
        match firsts {
            _ if positions == 1 && !on_metal() => self.matrix(firsts).map(Rotation::Matrix),
            [first] => Ok(Rotation::From(*first)),
            _ => Ok(Rotation::At(Array::from_slice(firsts, &[firsts.len() as i32]))),
        }
    }

    /// `x`: `[batch, positions, heads, head_dim]` to `[batch, heads, positions, head_dim]`, turned.
    pub fn forward(&self, x: &Array, rotation: &Rotation) -> Result<Array, EngineError> {
        let Self { dims, traditional, base, scale, periods, .. } = self;
        let (dims, traditional, base, periods) = (*dims, *traditional, *base, periods.as_ref());
        if let Rotation::Matrix(matrix) = rotation {
            let turned = x.matmul(matrix)?;
            return Ok(turned.reshape(&[x.dim(0), x.dim(2), 1, x.dim(3)])?);
        }
        let mut x = x.transpose_axes(&[0, 2, 1, 3])?;
        if self.amplitude != 1.0 {
            x = x.multiply(Array::from_f32(self.amplitude).as_dtype(x.dtype())?)?;
        }
        Ok(match rotation {
            Rotation::From(first) => {
                fast::rope(&x, dims, traditional, base, *scale, *first, periods)?
            }
            Rotation::At(firsts) => {
                fast::rope_dynamic(&x, dims, traditional, base, *scale, firsts, periods)?
            }
            Rotation::Matrix(_) => x,
        })
    }

    /// Rotations as matrices. On a CPU, MLX composes `fast::rope` of twenty operations; at one
    /// position they cost more than the attention they are for, sixty times a token. Angles are
    /// computed as MLX computes them, in f32, so that prefill and decode turn alike.
    fn matrix(&self, firsts: &[i32]) -> Result<Array, EngineError> {
        let batch = firsts.len() as i32;
        let positions = Array::from_slice(firsts, &[batch, 1, 1, 1]).as_dtype(Dtype::Float32)?;
        let angles =
            positions.multiply(Array::from_f32(self.scale))?.multiply(&self.frequencies)?;
        let amplitude = Array::from_f32(self.amplitude);
        let [cos, sin] = [angles.cos()?, angles.sin()?].map(|x| x.multiply(&amplitude));
        let (cos, sin) = (self.both(cos?)?, self.both(sin?)?);
        let turned = self.quarter_turn.multiply(&sin)?;
        Ok(self.identity.multiply(&cos)?.add(&turned)?)
    }

    /// A value per pair, `[batch, 1, 1, dims / 2]`, for both members of each pair.
    fn both(&self, x: Array) -> Result<Array, EngineError> {
        let joined = if self.traditional {
            ops::stack(&[&x, &x], -1)?
        } else {
            ops::concatenate(&[&x, &x], -1)?
        };
        Ok(joined.reshape(&[x.dim(0), 1, 1, self.dims])?)
    }
}

/// `x @ quarter_turn` turns every pair of `x` by 90 degrees: `(a, b)` to `(-b, a)`.
fn quarter_turn(dims: usize, traditional: bool) -> Array {
    let mut matrix = vec![0.0f32; dims * dims];
    for pair in 0..dims / 2 {
        let (a, b) = if traditional { (2 * pair, 2 * pair + 1) } else { (pair, pair + dims / 2) };
        matrix[b * dims + a] = -1.0;
        matrix[a * dims + b] = 1.0;
    }
    Array::from_slice(&matrix, &[dims as i32, dims as i32])
}

/// `base^(-i/half)` of pair `i`, by the operations and in the precision of MLX's own `rope`.
fn plain_frequencies(half: i32, base: f32) -> Result<Array, EngineError> {
    let step = Array::from_f32(base.ln() / half as f32);
    Ok(ops::arange::<i32, f32>(0, -half, -1)?.multiply(&step)?.exp()?)
}

/// `base^(2i/dims)`: the period over 2π of pair `i` (Su et al., RoFormer, equation 15).
fn plain_periods(dims: usize, base: f64) -> Vec<f64> {
    (0..dims / 2).map(|i| base.powf(2.0 * i as f64 / dims as f64)).collect()
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
    plain_periods(dims, base).iter().enumerate().map(interpolate).collect()
}
