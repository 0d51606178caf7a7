//! Grouped-query attention over this rank's heads.

use mlx_rs::fast::ScaledDotProductAttentionMask as Mask;
use mlx_rs::{Array, fast, ops};

use super::cache::LayerCache;
use super::linear::{Linear, Norm};
use super::rope::{Rope, Rotation};
use crate::EngineError;
use crate::mlx::{on_metal, slice};

/// Queries that a CPU computes together in prefill: few enough to leave out most hidden scores, many
/// enough for BLAS.
const CPU_BLOCK_POSITIONS: usize = 128;

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
        let joined = mixed
            .transpose_axes(&[0, 2, 1, 3])?
            .reshape(&[batch, positions, width])?;
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
        let positions = q.dim(2);
        if on_metal() {
            let mask = (positions > 1).then_some(Mask::Causal);
            return Ok(fast::scaled_dot_product_attention(
                q, keys, values, scale, mask, None,
            )?);
        }
        if positions == 1 {
            // Query heads that share a KV head, as if they were positions: one product for each KV
            // head instead of one for each query head.
            let sharing = [
                1,
                self.kv_heads,
                self.query_heads / self.kv_heads,
                self.head_dim,
            ];
            let q = q.reshape(&sharing)?;
            let mixed = fast::scaled_dot_product_attention(q, keys, values, scale, None, None)?;
            return Ok(mixed.reshape(&[1, self.query_heads, 1, self.head_dim])?);
        }
        self.mix_blocks(q, &keys, &values, scale)
    }

    /// Causal attention in blocks of queries, each over the keys up to its own end. MLX's CPU back
    /// end computes all scores, those that the mask then hides too, and its exponential is the
    /// larger part of a long prefill.
    fn mix_blocks(
        &self,
        q: &Array,
        keys: &Array,
        values: &Array,
        scale: f32,
    ) -> Result<Array, EngineError> {
        let (positions, all) = (q.dim(2), keys.dim(2));
        let mut blocks = Vec::new();
        for start in (0..positions).step_by(CPU_BLOCK_POSITIONS) {
            let end = positions.min(start + CPU_BLOCK_POSITIONS as i32);
            let until = all - positions + end;
            let part =
                |x: &Array, from, to| slice(x, &[0, 0, from, 0], &[1, x.dim(1), to, x.dim(3)]);
            blocks.push(fast::scaled_dot_product_attention(
                part(q, start, end)?,
                part(keys, 0, until)?,
                part(values, 0, until)?,
                scale,
                Mask::Causal,
                None,
            )?);
        }
        Ok(ops::concatenate(&blocks, 2)?)
    }
}

fn row(x: &Array, b: i32) -> Result<Array, EngineError> {
    slice(x, &[b, 0, 0, 0], &[b + 1, x.dim(1), x.dim(2), x.dim(3)])
}
