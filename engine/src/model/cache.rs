//! The KV cache of one sequence in one layer.

use mlx_rs::{Array, ops};

use crate::EngineError;
use crate::budget::KV_GROWTH_TOKENS;
use crate::mlx::{slice, slice_update};

/// Positions added at a time.
const GROWTH_POSITIONS: i32 = KV_GROWTH_TOKENS as i32;

/// Keys and values of this rank's KV heads, `[1, heads, capacity, head_dim]` each.
#[derive(Default)]
pub struct LayerCache {
    store: Option<(Array, Array)>,
    len: i32,
}

impl LayerCache {
    /// Positions held.
    pub fn len(&self) -> i32 {
        self.len
    }

    /// Whether nothing is held yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends `[1, heads, n, head_dim]` keys and values; gives all of them so far, each
    /// `[1, heads, len, head_dim]`.
    pub fn append(&mut self, keys: &Array, values: &Array) -> Result<(Array, Array), EngineError> {
        let end = self.len + keys.dim(2);
        let (old_keys, old_values) = match self.store.take() {
            Some((k, v)) if k.dim(2) >= end => (k, v),
            Some((k, v)) => (grown(k, keys, end)?, grown(v, values, end)?),
            None => (blank(keys, capacity(end))?, blank(values, capacity(end))?),
        };
        let new_keys = self.written(old_keys, keys, end)?;
        let new_values = self.written(old_values, values, end)?;
        let all = (front(&new_keys, end)?, front(&new_values, end)?);
        self.store = Some((new_keys, new_values));
        self.len = end;
        Ok(all)
    }

    /// Takes the old array by value: MLX writes in place if nobody else holds it.
    fn written(&self, old: Array, new: &Array, end: i32) -> Result<Array, EngineError> {
        let [heads, width] = [old.dim(1), old.dim(3)];
        slice_update(&old, new, &[0, 0, self.len, 0], &[1, heads, end, width])
    }

    /// One number of the newest position: it is there once all that was appended is. It holds nothing
    /// of the cache once it is computed, so that the next step can write in place.
    pub fn proof(&self) -> Result<Option<Array>, EngineError> {
        let Some((keys, values)) = &self.store else { return Ok(None) };
        let newest = |store: &Array| -> Result<Array, EngineError> {
            let at = (self.len - 1).max(0);
            let one = slice(store, &[0, 0, at, 0], &[1, 1, at + 1, 1])?;
            Ok(one.sum(None)?)
        };
        Ok(Some(newest(keys)?.add(newest(values)?)?))
    }

    /// The arrays to evaluate so that the cache no longer depends on what computed it.
    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.store.iter().flat_map(|(k, v)| [k, v])
    }
}

fn capacity(positions: i32) -> i32 {
    (positions + GROWTH_POSITIONS - 1) / GROWTH_POSITIONS * GROWTH_POSITIONS
}

fn blank(like: &Array, positions: i32) -> Result<Array, EngineError> {
    Ok(ops::zeros_dtype(&[1, like.dim(1), positions, like.dim(3)], like.dtype())?)
}

fn grown(old: Array, like: &Array, end: i32) -> Result<Array, EngineError> {
    let more = blank(like, capacity(end) - old.dim(2))?;
    Ok(ops::concatenate(&[old, more], 2)?)
}

fn front(store: &Array, positions: i32) -> Result<Array, EngineError> {
    slice(store, &[0, 0, 0, 0], &[1, store.dim(1), positions, store.dim(3)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appended_positions_come_back_in_order_across_growth() {
        let mut cache = LayerCache::default();
        let mut expected = Vec::new();
        for (n, start) in [(200, 0), (100, 200), (1, 300)] {
            let ramp: Vec<f32> = (start..start + n).map(|p| p as f32).collect();
            expected.extend_from_slice(&ramp);
            let piece = Array::from_slice(&ramp, &[1, 1, n, 1]);
            let (keys, values) = cache.append(&piece, &piece).unwrap();
            assert_eq!(cache.len(), start + n);
            assert_eq!(keys.to_vec_cast::<f32>().unwrap(), expected);
            assert_eq!(values.to_vec_cast::<f32>().unwrap(), expected);
        }
    }
}
