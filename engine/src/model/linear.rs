//! A matrix as the checkpoint stores it: dense, or quantised by MLX's affine scheme.

use mlx_rs::{Array, Dtype, ops};

use crate::EngineError;
use crate::mlx::slice;

/// Rows of a weight matrix `[out, in]`, this rank's part of them.
pub enum Matrix {
    /// `[out, in]` as it is used.
    Dense {
        /// The weight.
        weight: Array,
        /// `weight` seen as `[in, out]`, which is what matmul takes: kept, to build one operation
        /// less in every step.
        transposed: Array,
    },
    /// `out` rows of `in * bits / 32` packed words, with a scale and a bias per group of columns:
    /// `w = scale * q + bias`.
    Quantized {
        /// Packed `u32` words.
        weight: Array,
        /// `[out, in / group_size]`.
        scales: Array,
        /// `[out, in / group_size]`.
        biases: Array,
        /// Columns that share a scale.
        group_size: i32,
        /// Bits of a value.
        bits: i32,
    },
}

impl Matrix {
    /// From a dense `[out, in]`.
    pub fn dense(weight: Array) -> Result<Self, EngineError> {
        let transposed = weight.transpose_axes(&[1, 0])?;
        Ok(Self::Dense { weight, transposed })
    }

    /// `x @ w.T`: `[..., in]` to `[..., out]`.
    pub fn product(&self, x: &Array) -> Result<Array, EngineError> {
        Ok(match self {
            Self::Dense { transposed, .. } => x.matmul(transposed)?,
            Self::Quantized { weight, scales, biases, group_size, bits } => {
                ops::quantized_matmul(x, weight, scales, biases, true, *group_size, *bits)?
            }
        })
    }

    /// Rows by index: `[...]` of row numbers to `[..., in]`, in the dtype of the scales if
    /// quantised.
    pub fn rows(&self, index: &Array) -> Result<Array, EngineError> {
        Ok(match self {
            Self::Dense { weight, .. } => weight.take_axis(index, 0)?,
            Self::Quantized { weight, scales, biases, group_size, bits } => ops::dequantize(
                weight.take_axis(index, 0)?,
                scales.take_axis(index, 0)?,
                &biases.take_axis(index, 0)?,
                *group_size,
                *bits,
            )?,
        })
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> u64 {
        let bytes = match self {
            Self::Dense { weight, .. } => weight.nbytes(),
            Self::Quantized { weight, scales, biases, .. } => {
                weight.nbytes() + scales.nbytes() + biases.nbytes()
            }
        };
        bytes as u64
    }
}

/// A projection: a matrix and, in some architectures, a bias.
pub struct Linear {
    /// This rank's rows (column-parallel) or columns (row-parallel).
    pub matrix: Matrix,
    /// `[out]`. In a row-parallel projection only rank 0 has it, so that the sum over ranks holds
    /// it once.
    pub bias: Option<Array>,
}

impl Linear {
    /// `[..., in]` to `[..., out]`.
    pub fn forward(&self, x: &Array) -> Result<Array, EngineError> {
        let y = self.matrix.product(x)?;
        Ok(match &self.bias {
            Some(bias) => y.add(bias)?,
            None => y,
        })
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> u64 {
        self.matrix.bytes() + self.bias.as_ref().map_or(0, |b| b.nbytes() as u64)
    }
}

/// Root mean square normalisation with a weight.
pub struct Norm {
    /// `[features]`.
    pub weight: Array,
    /// Added to the mean square.
    pub eps: f32,
}

impl Norm {
    /// Same shape as `x`; over its last axis.
    pub fn forward(&self, x: &Array) -> Result<Array, EngineError> {
        Ok(mlx_rs::fast::rms_norm(x, Some(&self.weight), self.eps)?)
    }
}

/// The last position of `[batch, positions, features]`, as `[batch, features]`.
pub fn last_position(x: &Array) -> Result<Array, EngineError> {
    let [batch, positions, features] = [x.dim(0), x.dim(1), x.dim(2)];
    let last = slice(x, &[0, positions - 1, 0], &[batch, positions, features])?;
    Ok(last.reshape(&[batch, features])?)
}

/// Half types compute as themselves; everything else as f32.
pub fn compute_dtype(stored: Dtype, on_metal: bool) -> Dtype {
    match stored {
        Dtype::Float16 | Dtype::Bfloat16 if on_metal => stored,
        _ => Dtype::Float32,
    }
}
