//! Grouped-query attention over this rank's heads.

use mlx_rs::fast::ScaledDotProductAttentionMask as Mask;
use mlx_rs::{Array, fast, ops};

use super::cache::LayerCache;
use super::cpu;
use super::linear::{Linear, Norm};
use super::rope::{Rope, Rotation};
use crate::EngineError;
use crate::mlx::{on_metal, slice};

/// One layer's attention. `output` is row-parallel: what `forward` gives is a partial sum.
pub struct Attention {
    /// `[hidden]` to this rank's query heads.
    pub query: Linear,
    /// `[hidden]` to this rank's KV heads.
    pub key: Linear,
    /// `[hidden]` to this rank's KV heads.
    pub value: Linear,
    /// This rank's query heads to `[hidden]`.
    pub output: Linear,
    /// Normalisation of each query head (Qwen3).
    pub query_norm: Option<Norm>,
    /// Normalisation of each key head (Qwen3).
    pub key_norm: Option<Norm>,
    /// Positions.
    pub rope: std::rc::Rc<Rope>,
    /// Query heads of this rank.
    pub query_heads: i32,
    /// KV heads of this rank.
    pub kv_heads: i32,
    /// Features of a head.
    pub head_dim: i32,
}

impl Attention {
    /// `x`: `[batch, positions, hidden]`, the same shape out. Row `b` of the batch goes on from
    /// `caches[b]`; more than one row has one position each.
    pub fn forward(
        &self,
        x: &Array,
        caches: &mut [&mut LayerCache],
        rotation: &Rotation,
    ) -> Result<Array, EngineError> {
        let [batch, positions] = [x.dim(0), x.dim(1)];
        let split = |y: Array, heads: i32, norm: &Option<Norm>| -> Result<Array, EngineError> {
            let y = y.reshape(&[batch, positions, heads, self.head_dim])?;
            match norm {
                Some(norm) => norm.forward(&y),
                None => Ok(y),
            }
        };
        let q = split(self.query.forward(x)?, self.query_heads, &self.query_norm)?;
        let k = split(self.key.forward(x)?, self.kv_heads, &self.key_norm)?;
        let v = split(self.value.forward(x)?, self.kv_heads, &None)?;
        let q = self.rope.forward(&q, rotation)?;
        let k = self.rope.forward(&k, rotation)?;
        let v = v.transpose_axes(&[0, 2, 1, 3])?;

        let mixed = match caches {
            [cache] => self.mix(&q, &k, &v, cache)?,
            _ => {
                let mut rows = Vec::with_capacity(caches.len());
                for (b, cache) in (0..).zip(caches.iter_mut()) {
                    rows.push(self.mix(&row(&q, b)?, &row(&k, b)?, &row(&v, b)?, cache)?);
                }
                ops::concatenate(&rows, 0)?
            }
        };
        let width = self.query_heads * self.head_dim;
        let joined = mixed.transpose_axes(&[0, 2, 1, 3])?.reshape(&[batch, positions, width])?;
        self.output.forward(&joined)
    }

    fn mix(
        &self,
        q: &Array,
        k: &Array,
        v: &Array,
        cache: &mut LayerCache,
    ) -> Result<Array, EngineError> {
        let (keys, values) = cache.append(k, v)?;
        let scale = (self.head_dim as f32).powf(-0.5);
        if !on_metal() {
            return cpu::attention(q, &keys, &values, scale);
        }
        let mask = (q.dim(2) > 1).then_some(Mask::Causal);
        Ok(fast::scaled_dot_product_attention(q, keys, values, scale, mask, None)?)
    }
}

fn row(x: &Array, b: i32) -> Result<Array, EngineError> {
    slice(x, &[b, 0, 0, 0], &[b + 1, x.dim(1), x.dim(2), x.dim(3)])
}
