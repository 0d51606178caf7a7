//! The gated feed-forward network over this rank's columns.

use mlx_rs::{Array, ops};

use super::linear::Linear;
use crate::EngineError;

/// `down(silu(gate(x)) * up(x))` (SwiGLU). `down` is row-parallel: `forward` gives a partial sum.
pub struct Mlp {
    /// `[hidden]` to this rank's columns.
    pub gate: Linear,
    /// `[hidden]` to this rank's columns.
    pub up: Linear,
    /// This rank's columns to `[hidden]`.
    pub down: Linear,
}

impl Mlp {
    /// `x`: `[batch, positions, hidden]`, the same shape out.
    pub fn forward(&self, x: &Array) -> Result<Array, EngineError> {
        let gate = self.gate.forward(x)?;
        let gate = ops::sigmoid(&gate)?.multiply(&gate)?;
        self.down.forward(&gate.multiply(self.up.forward(x)?)?)
    }
}
