//! Executes steps on MLX: this rank's shard, its KV caches, its samplers.

use std::collections::HashMap;
use std::rc::Rc;

use mlx_rs::{Array, ops, transforms};
use tandem_wire::Candidate;

use crate::EngineError;
use crate::mlx::{During, Group, memory_bytes, slice};
use crate::model::{Decoder, SequenceCache};
use crate::sample::{self, Choice, Row, Sampler, Vocabulary};
use crate::step::{Admit, Execute, Loaded, Prefill, Sampled, Step};

/// Steps between two emptyings of MLX's buffer cache, as mlx-lm does it: shapes change as caches
/// grow, and buffers of old shapes would pile up.
const STEPS_PER_CLEAR: u64 = 256;

/// A step on the device.
pub struct Pending {
    choices: Vec<(u32, Choice)>,
    /// What shows that a piece of a prompt is computed that ends in no token.
    piece: Option<Array>,
}

/// The executor of a rank. Lives on the engine thread.
pub struct MlxExecutor {
    model: Decoder,
    vocabulary: Vocabulary,
    group: Option<Rc<Group>>,
    sequences: HashMap<u32, Sequence>,
    loaded: Loaded,
    steps: u64,
}

/// One request's state on this rank.
struct Sequence {
    /// Prompt, then what an earlier epoch generated; what is generated now is known to the device
    /// before it is known here.
    tokens: Vec<u32>,
    cache: SequenceCache,
    sampler: Sampler,
    /// Absolute position of the next token to be chosen.
    position: u32,
    /// `[1]` of u32: the last chosen token.
    last: Option<Array>,
}

impl MlxExecutor {
    /// Puts a loaded model to work.
    pub fn new(model: Decoder, vocabulary: Vocabulary, loaded: Loaded) -> Self {
        let group = model.group.clone();
        Self { model, vocabulary, group, sequences: HashMap::new(), loaded, steps: 0 }
    }

    /// The model, for tests of its numbers.
    pub fn model(&self) -> &Decoder {
        &self.model
    }

    fn admit(&mut self, admit: &Admit) -> Result<(), EngineError> {
        let sampler = Sampler::new(
            admit.sampling.clone(),
            admit.logprobs,
            &admit.tokens,
            admit.prompt_len as usize,
            &self.vocabulary,
        );
        let sequence = Sequence {
            tokens: admit.tokens.clone(),
            cache: self.model.new_cache(),
            sampler,
            position: admit.tokens.len() as u32,
            last: None,
        };
        match self.sequences.insert(admit.slot, sequence) {
            None => Ok(()),
            Some(_) => Err(EngineError::Integrity(format!("slot {} is taken", admit.slot))),
        }
    }

    /// Takes the named sequences out, so that several can be borrowed at once.
    fn take(&mut self, slots: &[u32]) -> Result<Vec<(u32, Sequence)>, EngineError> {
        let take = |&slot: &u32| match self.sequences.remove(&slot) {
            Some(sequence) => Ok((slot, sequence)),
            None => Err(EngineError::Integrity(format!("slot {slot} is empty"))),
        };
        slots.iter().map(take).collect()
    }

    /// One more position for each sequence: `[batch, part]` logits.
    fn decode(&self, batch: &mut [(u32, Sequence)]) -> Result<Array, EngineError> {
        let mut last = Vec::with_capacity(batch.len());
        for (slot, sequence) in batch.iter() {
            last.push(sequence.last.as_ref().ok_or_else(|| {
                EngineError::Integrity(format!("slot {slot} decodes before its prompt is computed"))
            })?);
        }
        let ids = ops::concatenate(&last, 0)?.reshape(&[batch.len() as i32, 1])?;
        let mut caches: Vec<&mut SequenceCache> =
            batch.iter_mut().map(|(_, sequence)| &mut sequence.cache).collect();
        let hidden = self.model.hidden(&ids, &mut caches)?;
        self.model.logits(&hidden)
    }

    /// A piece of a prompt: logits `[1, part]` if it reaches the end.
    fn prefill(
        &self,
        piece: &Prefill,
        sequence: &mut Sequence,
    ) -> Result<Option<Array>, EngineError> {
        let (start, end) = (piece.start as usize, (piece.start + piece.len) as usize);
        let held = sequence.cache.first().map_or(0, |layer| layer.len());
        let ids = match sequence.tokens.get(start..end) {
            Some(ids) if held == piece.start as i32 && !ids.is_empty() => ids,
            _ => {
                return Err(EngineError::Integrity(format!(
                    "prefill of {start}..{end} of a prompt of {} with {held} in the cache",
                    sequence.tokens.len()
                )));
            }
        };
        let ids = Array::from_slice(ids, &[1, ids.len() as i32]);
        let hidden = self.model.hidden(&ids, &mut [&mut sequence.cache])?;
        if end < sequence.tokens.len() {
            return Ok(None);
        }
        self.model.logits(&hidden).map(Some)
    }

    fn compute(&mut self, step: &Step) -> Result<Pending, EngineError> {
        let mut batch = self.take(&step.decode)?;
        let mut logits = Vec::with_capacity(2);
        if !batch.is_empty() {
            let block = self.decode(&mut batch)?;
            // All ranks must issue the same collectives in the same order. In one forward pass each
            // needs the one before it, but MLX may order two independent passes of one evaluation
            // differently on each rank: so each pass is handed over before the next is built.
            transforms::async_eval([&block])?;
            logits.push(block);
        }
        let mut unfinished = None;
        if let Some(piece) = &step.prefill {
            let mut taken = self.take(&[piece.slot])?;
            for (slot, mut sequence) in taken.drain(..) {
                match self.prefill(piece, &mut sequence)? {
                    Some(last) => {
                        logits.push(last);
                        batch.push((slot, sequence));
                    }
                    None => unfinished = Some((slot, sequence)),
                }
            }
        }
        let choices = self.choose(&mut batch, &logits)?;
        let mut results = Vec::with_capacity(choices.len());
        for ((slot, mut sequence), choice) in batch.into_iter().zip(choices) {
            sequence.last = Some(choice.token.clone());
            sequence.position += 1;
            self.sequences.insert(slot, sequence);
            results.push((slot, choice));
        }
        let mut outputs: Vec<&Array> = results.iter().flat_map(|(_, c)| c.arrays()).collect();
        let mut piece = None;
        if let Some((_, sequence)) = &unfinished {
            outputs.extend(sequence.cache.iter().flat_map(|layer| layer.arrays()));
            piece = sequence.cache.last().map(|layer| layer.proof()).transpose()?.flatten();
            outputs.extend(&piece);
        }
        transforms::async_eval(outputs)?;
        self.sequences.extend(unfinished);
        Ok(Pending { choices: results, piece })
    }

    fn choose(
        &self,
        batch: &mut [(u32, Sequence)],
        logits: &[Array],
    ) -> Result<Vec<Choice>, EngineError> {
        let mut rows = Vec::with_capacity(batch.len());
        let mut sequences = batch.iter_mut();
        for block in logits {
            for b in 0..block.dim(0) {
                let Some((_, sequence)) = sequences.next() else {
                    break;
                };
                let row = slice(block, &[b, 0], &[b + 1, block.dim(1)])?.reshape(&[-1])?;
                let position = sequence.position;
                rows.push(Row { sampler: &mut sequence.sampler, logits: row, position });
            }
        }
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        sample::sample(&mut rows, &self.vocabulary, self.group.as_deref())
    }
}

impl Execute for MlxExecutor {
    type Pending = Pending;

    fn dispatch(&mut self, step: &Step) -> Result<Self::Pending, EngineError> {
        for slot in &step.release {
            self.sequences.remove(slot);
        }
        for admit in &step.admit {
            self.admit(admit)?;
        }
        self.steps += 1;
        if self.steps.is_multiple_of(STEPS_PER_CLEAR) {
            mlx_rs::memory::clear_cache().during("emptying the buffer cache")?;
        }
        self.compute(step)
    }

    fn collect(&mut self, pending: Self::Pending) -> Result<Vec<Sampled>, EngineError> {
        if let Some(piece) = &pending.piece {
            piece.eval().during("computing a piece of a prompt")?;
        }
        pending.choices.into_iter().map(|(slot, choice)| read(slot, &choice)).collect()
    }

    fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    fn memory_bytes(&self) -> (u64, u64) {
        memory_bytes()
    }
}

/// Waits for a choice and reads it.
fn read(slot: u32, choice: &Choice) -> Result<Sampled, EngineError> {
    let what = "reading a token";
    let logprob = match &choice.logprob {
        Some(logprob) => Some(logprob.try_item_exact::<f32>().during(what)?),
        None => None,
    };
    let mut top = Vec::new();
    if let Some((ids, logprobs)) = &choice.top {
        let ids = ids.to_vec_cast::<u32>().during(what)?;
        let logprobs = logprobs.to_vec_cast::<f32>().during(what)?;
        let pairs = ids.into_iter().zip(logprobs);
        top.extend(pairs.map(|(token, logprob)| Candidate { token, logprob }));
    }
    let token = choice.token.try_item_exact::<u32>().during(what)?;
    Ok(Sampled { slot, token, logprob, top })
}

#[cfg(test)]
mod tests;
