//! Attention and SwiGLU for MLX's CPU back end.
//!
//! Its build for x86-64 computes `exp`, and so `softmax` and `sigmoid`, one element at a time: 11 to
//! 17 ns each, more than a long prompt's matrix products together. `expm1` takes 3 ns. Here every
//! exponential is an `expm1`, hidden scores are not computed, and query heads that share a KV head
//! are rows of one product. Metal has fused kernels for all of this and does not come here.

use mlx_rs::{Array, ops};

use crate::EngineError;
use crate::mlx::slice;

/// Queries computed together: few enough to leave out most hidden scores, many enough for BLAS.
const BLOCK_POSITIONS: i32 = 128;

/// Scores up to which one scalar softmax is quicker than the five operations that replace it.
const SOFTMAX_SCORES_MAX: i32 = 4_000;

/// Causal attention of `q`, `[1, heads, positions, head_dim]`, over `keys` and `values`, `[1,
/// kv_heads, all, head_dim]`, whose last `positions` are the queries' own. Gives `q`'s shape.
pub(super) fn attention(
    q: &Array,
    keys: &Array,
    values: &Array,
    scale: f32,
) -> Result<Array, EngineError> {
    let [heads, positions, width] = [q.dim(1), q.dim(2), q.dim(3)];
    let (kv_heads, all) = (keys.dim(1), keys.dim(2));
    let sharing = heads / kv_heads;
    let q = q.multiply(Array::from_f32(scale))?;
    if positions == 1 && heads * all < SOFTMAX_SCORES_MAX {
        let rows = q.reshape(&[1, kv_heads, sharing, width])?;
        let scores = rows.matmul(keys.swap_axes(-1, -2)?)?;
        let mixed = ops::softmax_axis(&scores, -1, true)?.matmul(values)?;
        return Ok(mixed.reshape(q.shape())?);
    }
    let part =
        |x: &Array, from: i32, to: i32| slice(x, &[0, 0, from, 0], &[1, x.dim(1), to, width]);
    let mut blocks = Vec::new();
    for start in (0..positions).step_by(BLOCK_POSITIONS as usize) {
        let end = positions.min(start + BLOCK_POSITIONS);
        let (len, own) = (end - start, all - positions + start);
        let rows = part(&q, start, end)?.reshape(&[1, kv_heads, sharing * len, width])?;
        let mut pieces = Vec::with_capacity(2);
        if own > 0 {
            pieces.push((part(keys, 0, own)?, part(values, 0, own)?, false));
        }
        let until = own + len;
        pieces.push((part(keys, own, until)?, part(values, own, until)?, len > 1));
        blocks.push(mix(&rows, &pieces, len)?.reshape(&[1, heads, len, width])?);
    }
    match blocks.as_slice() {
        [block] => Ok(block.clone()),
        _ => Ok(ops::concatenate(&blocks, 2)?),
    }
}

/// Softmax attention over keys and values in pieces. A piece that is marked is square in its last
/// `len` positions and causal: a query sees its own position and those before.
fn mix(q: &Array, pieces: &[(Array, Array, bool)], len: i32) -> Result<Array, EngineError> {
    let mut all_scores = Vec::with_capacity(pieces.len());
    let mut peak: Option<Array> = None;
    for (keys, _, causal) in pieces {
        let mut scores = q.matmul(keys.swap_axes(-1, -2)?)?;
        if *causal {
            let shape = scores.shape().to_vec();
            scores =
                scores.reshape(&[shape[1], -1, len, len])?.add(hidden(len)?)?.reshape(&shape)?;
        }
        let top = scores.max_axis(-1, true)?;
        peak = Some(match peak {
            Some(peak) => ops::maximum(&peak, &top)?,
            None => top,
        });
        all_scores.push(scores);
    }
    let peak = peak.ok_or_else(|| EngineError::Software("attention over nothing".to_owned()))?;
    let mut total: Option<(Array, Array)> = None;
    for (scores, (_, values, _)) in all_scores.iter().zip(pieces) {
        let weights = exponential(&scores.subtract(&peak)?)?;
        let (mass, mixed) = (weights.sum_axis(-1, true)?, weights.matmul(values)?);
        total = Some(match total {
            Some((m, x)) => (m.add(&mass)?, x.add(&mixed)?),
            None => (mass, mixed),
        });
    }
    let (mass, mixed) =
        total.ok_or_else(|| EngineError::Software("attention over nothing".to_owned()))?;
    Ok(mixed.divide(&mass)?)
}

/// `[len, len]`: minus infinity where the key comes after the query, else 0.
fn hidden(len: i32) -> Result<Array, EngineError> {
    let positions = ops::arange::<i32, i32>(0, len, 1)?;
    let after = positions.reshape(&[1, len])?.gt(positions.reshape(&[len, 1])?)?;
    Ok(ops::select(&after, Array::from_f32(f32::NEG_INFINITY), Array::from_f32(0.0))?)
}

/// `exp(x)` for `x <= 0`, to an absolute error of one rounding of 1.
fn exponential(x: &Array) -> Result<Array, EngineError> {
    Ok(ops::expm1(x)?.add(Array::from_f32(1.0))?)
}

/// `silu(gate) * up`, as `gate * up / (1 + exp(-gate))`.
pub(super) fn swiglu(gate: &Array, up: &Array) -> Result<Array, EngineError> {
    let denominator = ops::expm1(gate.negative()?)?.add(Array::from_f32(2.0))?;
    Ok(gate.multiply(up)?.divide(&denominator)?)
}

#[cfg(test)]
mod tests {
    use mlx_rs::fast::{ScaledDotProductAttentionMask as Mask, scaled_dot_product_attention};

    use super::*;

    fn random(shape: &[i32], seed: u64) -> Array {
        let key = mlx_rs::random::key(seed).unwrap();
        mlx_rs::random::normal::<f32>(shape, None, None, &key).unwrap()
    }

    fn assert_near(ours: &Array, theirs: &Array) {
        assert_eq!(ours.shape(), theirs.shape());
        let gap = ours.subtract(theirs).unwrap().abs().unwrap().max(None).unwrap();
        assert!(gap.item_exact::<f32>() < 2e-6, "{gap:?}");
    }

    #[test]
    fn attention_is_mlx_own_at_every_border_of_a_block() {
        for (heads, kv_heads, positions, before) in [
            (6, 3, 1, 0),
            (6, 3, 1, 300),
            (6, 3, 1, 900),
            (4, 4, 2, 7),
            (9, 3, 128, 0),
            (6, 2, 129, 64),
            (2, 1, 300, 5),
        ] {
            let q = random(&[1, heads, positions, 32], 1);
            let keys = random(&[1, kv_heads, positions + before, 32], 2);
            let values = random(&[1, kv_heads, positions + before, 32], 3);
            let ours = attention(&q, &keys, &values, 0.25).unwrap();
            let mask = Mask::Causal;
            let theirs = scaled_dot_product_attention(&q, &keys, &values, 0.25, mask, None);
            assert_near(&ours, &theirs.unwrap());
        }
    }

    #[test]
    fn swiglu_is_silu_times_up_far_into_both_tails() {
        let gate = Array::from_slice(&[-200.0f32, -20.0, -1.0, 0.0, 1.0, 20.0, 200.0], &[7]);
        let up = Array::from_slice(&[2.0f32, -1.0, 3.0, 5.0, 0.5, -0.25, 0.125], &[7]);
        let theirs = ops::sigmoid(&gate).unwrap().multiply(&gate).unwrap().multiply(&up).unwrap();
        assert_near(&swiglu(&gate, &up).unwrap(), &theirs);
    }
}
