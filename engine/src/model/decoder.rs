//! A decoder-only transformer, split over the ranks of a group.
//!
//! ```text
//!  ids ─ embedding ─Σ─▶ h ─┬─ norm ─ attention ─Σ─ + ─┬─ norm ─ mlp ─Σ─ + ─▶ … ─ norm ─ head
//!      (vocabulary rows)   └──────────────────────┘   └──────────────────┘  (vocabulary rows)
//! ```
//! Σ is a sum over ranks. The logits stay where they are computed: each rank has those of its own
//! part of the vocabulary, and [`crate::sample`] lets only candidates cross.

use std::rc::Rc;

use mlx_rs::{Array, ops};

use super::attention::Attention;
use super::cache::LayerCache;
use super::linear::{Matrix, Norm, last_position};
use super::mlp::Mlp;
use super::rope::Rope;
use crate::EngineError;
use crate::mlx::Group;

/// One layer.
pub struct Block {
    /// Before attention.
    pub attention_norm: Norm,
    /// Mixes positions.
    pub attention: Attention,
    /// Before the feed-forward network.
    pub mlp_norm: Norm,
    /// Mixes features.
    pub mlp: Mlp,
}

/// This rank's shard of a model.
pub struct Decoder {
    /// `None` if this rank is alone.
    pub group: Option<Rc<Group>>,
    /// Rows of the embedding that are this rank's.
    pub embedding: Rc<Matrix>,
    /// Its first row's token id.
    pub vocab_start: i32,
    /// How many rows.
    pub vocab_len: i32,
    /// The layers.
    pub blocks: Vec<Block>,
    /// Before the head.
    pub norm: Norm,
    /// Rows of the output head that are this rank's: the same rows as of the embedding, and the
    /// same matrix if the model ties them.
    pub head: Rc<Matrix>,
    /// Positions, the same for all layers.
    pub rope: Rc<Rope>,
}

/// The KV caches of one sequence, a layer each.
pub type SequenceCache = Vec<LayerCache>;

impl Decoder {
    /// An empty cache for one sequence.
    pub fn new_cache(&self) -> SequenceCache {
        self.blocks.iter().map(|_| LayerCache::default()).collect()
    }

    /// Runs `ids`, `[batch, positions]` of u32, through all layers. Row `b` goes on from
    /// `caches[b]`. Gives `[batch, positions, hidden]`.
    pub fn hidden(
        &self,
        ids: &Array,
        caches: &mut [&mut SequenceCache],
    ) -> Result<Array, EngineError> {
        let firsts: Vec<i32> =
            caches.iter().map(|c| c.first().map_or(0, LayerCache::len)).collect();
        let rotation = self.rope.rotation(&firsts, ids.dim(1))?;
        let mut h = self.embed(ids)?;
        for (layer, block) in self.blocks.iter().enumerate() {
            let mut layer_caches: Vec<&mut LayerCache> =
                caches.iter_mut().filter_map(|c| c.get_mut(layer)).collect();
            let x = block.attention_norm.forward(&h)?;
            h = h.add(self.sum(block.attention.forward(&x, &mut layer_caches, &rotation)?)?)?;
            let x = block.mlp_norm.forward(&h)?;
            h = h.add(self.sum(block.mlp.forward(&x)?)?)?;
        }
        Ok(h)
    }

    /// Logits of the last position over this rank's vocabulary: `[batch, vocab_len]` of f32.
    pub fn logits(&self, hidden: &Array) -> Result<Array, EngineError> {
        let last = self.norm.forward(&last_position(hidden)?)?;
        Ok(self.head.product(&last)?.as_dtype(mlx_rs::Dtype::Float32)?)
    }

    /// Bytes of weights held, a matrix that is used twice counted once.
    pub fn weights_bytes(&self) -> u64 {
        let head = if Rc::ptr_eq(&self.head, &self.embedding) { 0 } else { self.head.bytes() };
        let blocks = self.blocks.iter().map(|block| {
            let Block { attention, mlp, attention_norm, mlp_norm } = block;
            let linears = [
                &attention.query,
                &attention.key,
                &attention.value,
                &attention.output,
                &mlp.gate,
                &mlp.up,
                &mlp.down,
            ];
            let of_heads = attention.query_norm.iter().chain(&attention.key_norm);
            let norms = [attention_norm, mlp_norm].into_iter().chain(of_heads);
            linears.iter().map(|l| l.bytes()).sum::<u64>()
                + norms.map(|n| n.weight.nbytes() as u64).sum::<u64>()
        });
        self.embedding.bytes() + head + blocks.sum::<u64>() + self.norm.weight.nbytes() as u64
    }

    fn embed(&self, ids: &Array) -> Result<Array, EngineError> {
        if self.group.is_none() {
            return self.embedding.rows(ids);
        }
        // Ids of other ranks' rows read row 0 and count as nothing; the sum puts them together.
        let local =
            ids.as_dtype(mlx_rs::Dtype::Int32)?.subtract(Array::from_int(self.vocab_start))?;
        let mine = local
            .ge(Array::from_int(0))?
            .logical_and(local.lt(Array::from_int(self.vocab_len))?)?;
        let rows = self.embedding.rows(&ops::select(&mine, &local, Array::from_int(0))?)?;
        let none = Array::from_f32(0.0).as_dtype(rows.dtype())?;
        self.sum(ops::select(mine.expand_dims(-1)?, &rows, &none)?)
    }

    fn sum(&self, partial: Array) -> Result<Array, EngineError> {
        match &self.group {
            Some(group) => group.all_sum(&partial),
            None => Ok(partial),
        }
    }
}
