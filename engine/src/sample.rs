//! Choosing a token when no rank has all the logits.
//!
//! Each rank has the logits of its own part of the vocabulary. It reduces them to a short *message*
//! (its best token, or its candidates), all messages cross in one collective a step, and then every
//! rank makes the same choice from the same numbers. At 128k tokens of vocabulary that is 12 bytes
//! a rank instead of 256 kB.
//!
//! Draws are counter-based: the noise for token `v` at absolute position `p` is a function of
//! `(seed, p, v)` and nothing else, added to the logits by the Gumbel-max trick (the argmax of
//! `logit / T + Gumbel noise` is a draw from the softmax; Maddison et al., A* Sampling, 2014). So
//! batch, layout of ranks and a restart in mid-stream do not change a draw.

use mlx_rs::{Array, Dtype, ops};
use tandem_wire::Sampling;

use crate::EngineError;
use crate::mlx::{Group, slice};

/// Most candidates that a rank offers when `top_p` or `min_p` cut the distribution, and that are
/// kept after all ranks' are merged: the same cut whatever the layout. A nucleus wider than this is
/// narrowed to it.
pub const CANDIDATES_MAX: i32 = 1024;

/// How the vocabulary is split, and the group to choose with.
pub struct Vocabulary {
    /// Tokens in all.
    pub size: i32,
    /// First id and number of ids of every rank.
    pub parts: Vec<(i32, i32)>,
    /// Which part is this rank's.
    pub rank: usize,
    /// This rank's ids, `[part]` of f32: ids below 2^24 are exact.
    ids: Array,
}

impl Vocabulary {
    /// `parts` in order of rank, together `0..size`.
    pub fn new(parts: Vec<(i32, i32)>, rank: usize) -> Result<Self, EngineError> {
        let size = parts.iter().map(|(_, len)| len).sum();
        let (start, len) = parts.get(rank).copied().unwrap_or((0, 0));
        if size >= 1 << 24 {
            return Err(EngineError::Model(format!("vocabulary of {size} tokens is over 2^24")));
        }
        let ids = ops::arange::<i32, f32>(start, start + len, None)?;
        Ok(Self { size, parts, rank, ids })
    }

    fn part(&self) -> (i32, i32) {
        self.parts[self.rank]
    }
}

/// A chosen token, still on the device.
pub struct Choice {
    /// `[1]` of u32.
    pub token: Array,
    /// `[1]`: its log-probability, if asked for.
    pub logprob: Option<Array>,
    /// Ids and log-probabilities of the likeliest tokens, likeliest first, if asked for.
    pub top: Option<(Array, Array)>,
}

impl Choice {
    /// The arrays to evaluate.
    pub fn arrays(&self) -> impl Iterator<Item = &Array> {
        let top = self.top.iter().flat_map(|(ids, logprobs)| [ids, logprobs]);
        std::iter::once(&self.token).chain(&self.logprob).chain(top)
    }
}

/// How one sequence's tokens are chosen, with what it has seen.
pub struct Sampler {
    sampling: Sampling,
    logprobs: Option<u8>,
    /// `[part]`: `logit_bias` spread over this rank's ids.
    bias: Option<Array>,
    /// `[part]`: occurrences in prompt and completion, and in the completion alone.
    seen: Option<(Array, Array)>,
}

impl Sampler {
    /// `tokens` are the prompt (its first `prompt_len`) and what is generated already.
    pub fn new(
        sampling: Sampling,
        logprobs: Option<u8>,
        tokens: &[u32],
        prompt_len: usize,
        vocabulary: &Vocabulary,
    ) -> Self {
        let (start, len) = vocabulary.part();
        let place = |id: u32| -> Option<usize> {
            let local = i64::from(id) - i64::from(start);
            (0..i64::from(len)).contains(&local).then_some(local as usize)
        };
        let spread = |pairs: &mut dyn Iterator<Item = (u32, f32)>| {
            let mut values = vec![0.0f32; len as usize];
            for (id, value) in pairs {
                if let Some(value_at) = place(id).and_then(|i| values.get_mut(i)) {
                    *value_at += value;
                }
            }
            Array::from_slice(&values, &[len])
        };
        let bias = (!sampling.logit_bias.is_empty())
            .then(|| spread(&mut sampling.logit_bias.iter().copied()));
        let penalised = sampling.repetition_penalty != 1.0
            || sampling.presence_penalty != 0.0
            || sampling.frequency_penalty != 0.0;
        let seen = penalised.then(|| {
            let completion = tokens.get(prompt_len..).unwrap_or_default();
            let ones = |ids: &[u32]| spread(&mut ids.iter().map(|&id| (id, 1.0)));
            (ones(tokens), ones(completion))
        });
        Self { sampling, logprobs, bias, seen }
    }

    /// Counts a token chosen for this sequence.
    fn note(&mut self, token: &Array, vocabulary: &Vocabulary) -> Result<(), EngineError> {
        if let Some((any, completion)) = &mut self.seen {
            let hit = vocabulary.ids.eq(token.as_dtype(Dtype::Float32)?)?;
            let hit = hit.as_dtype(Dtype::Float32)?;
            *any = any.add(&hit)?;
            *completion = completion.add(&hit)?;
        }
        Ok(())
    }

    /// Bias and penalties: `[part]` to `[part]`.
    fn adjusted(&self, logits: &Array) -> Result<Array, EngineError> {
        let mut logits = match &self.bias {
            Some(bias) => logits.add(bias)?,
            None => logits.clone(),
        };
        if let Some((any, completion)) = &self.seen {
            let none = Array::from_f32(0.0);
            let penalty = Array::from_f32(self.sampling.repetition_penalty);
            let penalised =
                ops::select(&logits.gt(&none)?, logits.divide(&penalty)?, &logits * &penalty)?;
            logits = ops::select(&any.gt(&none)?, &penalised, &logits)?;
            let present = completion.gt(&none)?.as_dtype(Dtype::Float32)?;
            logits = logits
                .subtract(present * Array::from_f32(self.sampling.presence_penalty))?
                .subtract(completion * Array::from_f32(self.sampling.frequency_penalty))?;
        }
        Ok(logits)
    }

    fn is_greedy(&self) -> bool {
        self.sampling.temperature <= 0.0
    }

    /// Candidates a rank with `part` ids offers; 0 where its one best token is enough.
    fn candidates(&self, part: i32) -> i32 {
        let s = &self.sampling;
        let wanted = if self.is_greedy() {
            0
        } else if s.top_k > 0 {
            (s.top_k.min(CANDIDATES_MAX as u32)) as i32
        } else if s.top_p < 1.0 || s.min_p > 0.0 {
            CANDIDATES_MAX
        } else {
            0
        };
        wanted.min(part)
    }

    /// Floats in the message of a rank with `part` ids.
    fn message_len(&self, part: i32) -> i32 {
        let choice = match self.candidates(part) {
            0 => 3,
            k => 2 * k + 1,
        };
        choice + self.logprobs.map_or(0, |n| 1 + 2 * i32::from(n).min(part))
    }

    /// What this rank knows of one row: `[message_len]`. `logits` is `[part]`.
    fn message(
        &self,
        logits: &Array,
        position: u32,
        vocabulary: &Vocabulary,
    ) -> Result<Array, EngineError> {
        let (start, part) = vocabulary.part();
        let temperature = Array::from_f32(self.sampling.temperature);
        let mut fields = Vec::with_capacity(6);
        match self.candidates(part) {
            0 => {
                let score = if self.is_greedy() {
                    logits.clone()
                } else {
                    let noise = self.noise(position, vocabulary)?;
                    logits.divide(&temperature)?.add(slice(&noise, &[start], &[start + part])?)?
                };
                let best = ops::indexing::argmax_axis(&score, 0, true)?;
                fields.push(score.take_axis(&best, 0)?);
                fields.push(vocabulary.ids.take_axis(&best, 0)?);
                fields.push(logits.take_axis(&best, 0)?);
            }
            k => {
                let (values, ids) = best_of(logits, &vocabulary.ids, k)?;
                fields.extend([values, ids]);
                fields.push(logits.divide(&temperature)?.logsumexp_axis(0, true)?);
            }
        }
        if let Some(n) = self.logprobs {
            fields.push(logits.logsumexp_axis(0, true)?);
            let n = i32::from(n).min(part);
            if n > 0 {
                let (values, ids) = best_of(logits, &vocabulary.ids, n)?;
                fields.extend([values, ids]);
            }
        }
        Ok(ops::concatenate(&fields, 0)?)
    }

    /// The choice that all ranks make of all ranks' messages for one row.
    fn choose(
        &self,
        messages: &[Array],
        position: u32,
        vocabulary: &Vocabulary,
    ) -> Result<Choice, EngineError> {
        let parts: Vec<i32> = vocabulary.parts.iter().map(|&(_, part)| part).collect();
        let field = |width: &dyn Fn(i32) -> i32, skip: &dyn Fn(i32) -> i32| {
            let pieces = messages
                .iter()
                .zip(&parts)
                .map(|(message, &part)| slice(message, &[skip(part)], &[skip(part) + width(part)]));
            let pieces = pieces.collect::<Result<Vec<_>, EngineError>>()?;
            Ok::<_, EngineError>(ops::concatenate(&pieces, 0)?)
        };
        let (token, raw) = if self.candidates(i32::MAX) == 0 {
            let scores = field(&|_| 1, &|_| 0)?;
            let ids = field(&|_| 1, &|_| 1)?;
            let best = ops::indexing::argmax_axis(&scores, 0, true)?;
            (ids.take_axis(&best, 0)?, field(&|_| 1, &|_| 2)?.take_axis(&best, 0)?)
        } else {
            let values = field(&|part| self.candidates(part), &|_| 0)?;
            let ids = field(&|part| self.candidates(part), &|part| self.candidates(part))?;
            let mass = field(&|_| 1, &|part| 2 * self.candidates(part))?;
            self.draw(&values, &ids, &mass.logsumexp_axis(0, true)?, position, vocabulary)?
        };
        let mut choice = Choice { token: token.as_dtype(Dtype::Uint32)?, logprob: None, top: None };
        if let Some(n) = self.logprobs {
            let n = i32::from(n);
            let lse_at = |part: i32| self.message_len(part) - 1 - 2 * n.min(part);
            let total = field(&|_| 1, &lse_at)?.logsumexp_axis(0, true)?;
            choice.logprob = Some(raw.subtract(&total)?);
            if n > 0 {
                let width = |part: i32| n.min(part);
                let values = field(&width, &|part| lse_at(part) + 1)?;
                let ids = field(&width, &|part| lse_at(part) + 1 + width(part))?;
                let (values, ids) = best_of(&values, &ids, n.min(values.dim(0)))?;
                choice.top = Some((ids.as_dtype(Dtype::Uint32)?, values.subtract(&total)?));
            }
        }
        Ok(choice)
    }

    /// Draws from the merged candidates after top-k, top-p and min-p; gives id and logit, `[1]`
    /// each. `log_mass` is the log of the whole vocabulary's mass at this temperature.
    fn draw(
        &self,
        values: &Array,
        ids: &Array,
        log_mass: &Array,
        position: u32,
        vocabulary: &Vocabulary,
    ) -> Result<(Array, Array), EngineError> {
        let s = &self.sampling;
        let keep =
            if s.top_k > 0 { s.top_k.min(CANDIDATES_MAX as u32) as i32 } else { CANDIDATES_MAX };
        let (values, ids) = best_of(values, ids, keep.min(values.dim(0)))?;
        let scaled = values.divide(Array::from_f32(s.temperature))?;
        let mut score = scaled
            .add(self.noise(position, vocabulary)?.take_axis(ids.as_dtype(Dtype::Uint32)?, 0)?)?;
        let excluded = Array::from_f32(f32::NEG_INFINITY);
        if s.top_p < 1.0 {
            // After top-k, what is left is a distribution of its own; else it is a part of the
            // vocabulary's.
            let mass = if s.top_k > 0 { scaled.logsumexp_axis(0, true)? } else { log_mass.clone() };
            let probability = scaled.subtract(&mass)?.exp()?;
            let before = probability.cumsum(0, false, false)?;
            score = ops::select(&before.lt(Array::from_f32(s.top_p))?, &score, &excluded)?;
        }
        if s.min_p > 0.0 {
            let floor = slice(&scaled, &[0], &[1])?.add(Array::from_f32(s.min_p.ln()))?;
            score = ops::select(&scaled.ge(&floor)?, &score, &excluded)?;
        }
        let best = ops::indexing::argmax_axis(&score, 0, true)?;
        Ok((ids.take_axis(&best, 0)?, values.take_axis(&best, 0)?))
    }

    /// Gumbel noise of every token at this position, `[vocabulary]`.
    fn noise(&self, position: u32, vocabulary: &Vocabulary) -> Result<Array, EngineError> {
        let [high, low] = key(self.sampling.seed, position);
        let key = Array::from_slice(&[high, low], &[2]);
        Ok(mlx_rs::random::gumbel::<f32>(&[vocabulary.size], &key)?)
    }
}

/// The key of MLX's counter-based generator (Threefry) for one position of one seed: two rounds of
/// SplitMix64's finaliser, so that neighbouring seeds and positions have unrelated keys.
fn key(seed: u64, position: u32) -> [u32; 2] {
    let mix = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    let step = 0x9E37_79B9_7F4A_7C15u64;
    let z = mix(mix(seed.wrapping_add(step)) ^ u64::from(position).wrapping_mul(step));
    [(z >> 32) as u32, z as u32]
}

/// The `k` largest values with their ids, largest first.
fn best_of(values: &Array, ids: &Array, k: i32) -> Result<(Array, Array), EngineError> {
    let negated = values.negative()?;
    let chosen = if k < values.dim(0) {
        let order = ops::argpartition_axis(&negated, k - 1, 0)?;
        let chosen = slice(&order, &[0], &[k])?;
        let order = ops::argsort_axis(negated.take_axis(&chosen, 0)?, 0)?;
        chosen.take_axis(&order, 0)?
    } else {
        ops::argsort_axis(&negated, 0)?
    };
    Ok((values.take_axis(&chosen, 0)?, ids.take_axis(&chosen, 0)?))
}

/// One row to choose for: its sampler, its logits `[part]`, and the position of the token chosen.
pub struct Row<'a> {
    /// How to choose.
    pub sampler: &'a mut Sampler,
    /// This rank's logits.
    pub logits: Array,
    /// Absolute position of the token to be chosen.
    pub position: u32,
}

/// Chooses a token for every row, with one collective for all of them.
pub fn sample(
    rows: &mut [Row<'_>],
    vocabulary: &Vocabulary,
    group: Option<&Group>,
) -> Result<Vec<Choice>, EngineError> {
    let mut own = Vec::with_capacity(rows.len());
    for row in rows.iter() {
        let logits = row.sampler.adjusted(&row.logits)?;
        own.push(row.sampler.message(&logits, row.position, vocabulary)?);
    }
    let by_rank = exchange(rows, own, vocabulary, group)?;
    let mut choices = Vec::with_capacity(rows.len());
    for (n, row) in rows.iter_mut().enumerate() {
        let messages: Vec<Array> = by_rank.iter().filter_map(|m| m.get(n)).cloned().collect();
        let choice = row.sampler.choose(&messages, row.position, vocabulary)?;
        row.sampler.note(&choice.token, vocabulary)?;
        choices.push(choice);
    }
    Ok(choices)
}

/// Every rank's messages, a row each. Ranks' messages differ in length where their parts of the
/// vocabulary do, so each is put at its own place in a vector of zeros and the vectors are summed.
fn exchange(
    rows: &[Row<'_>],
    own: Vec<Array>,
    vocabulary: &Vocabulary,
    group: Option<&Group>,
) -> Result<Vec<Vec<Array>>, EngineError> {
    let Some(group) = group else {
        return Ok(vec![own]);
    };
    let lengths = |part: i32| rows.iter().map(move |row| row.sampler.message_len(part));
    let total = |part: i32| lengths(part).sum::<i32>();
    let before: i32 = vocabulary.parts.iter().take(vocabulary.rank).map(|p| total(p.1)).sum();
    let after: i32 = vocabulary.parts.iter().skip(vocabulary.rank + 1).map(|p| total(p.1)).sum();
    let mut pieces = own;
    if before > 0 {
        pieces.insert(0, ops::zeros::<f32>(&[before])?);
    }
    if after > 0 {
        pieces.push(ops::zeros::<f32>(&[after])?);
    }
    let all = group.all_sum(&ops::concatenate(&pieces, 0)?)?;
    let mut at = 0;
    let mut by_rank = Vec::with_capacity(vocabulary.parts.len());
    for &(_, part) in &vocabulary.parts {
        let mut messages = Vec::with_capacity(rows.len());
        for length in lengths(part) {
            messages.push(slice(&all, &[at], &[at + length])?);
            at += length;
        }
        by_rank.push(messages);
    }
    Ok(by_rank)
}

#[cfg(test)]
mod tests;
