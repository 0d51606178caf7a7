//! The gated feed-forward network over this rank's columns.

use mlx_rs::{Array, ops};

use super::cpu;
use super::linear::Linear;
use crate::EngineError;
use crate::mlx::on_metal;

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
        let (gate, up) = (self.gate.forward(x)?, self.up.forward(x)?);
        let gated = if on_metal() {
            ops::sigmoid(&gate)?.multiply(&gate)?.multiply(&up)?
        } else {
            cpu::swiglu(&gate, &up)?
        };
        self.down.forward(&gated)
    }
}
