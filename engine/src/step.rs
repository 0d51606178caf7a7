//! One step of the gang: what rank 0 decides and every rank executes in the same order.
//!
//! Steps are the entries of rank 0's numbered log. A rank that executes the same steps from the
//! same start holds the same KV caches and computes the same tokens; nothing else about scheduling
//! ever crosses the wire, and MLX's collectives carry activations only.

use serde::{Deserialize, Serialize};
use tandem_wire::{Candidate, Sampling};

use crate::EngineError;

/// One entry of the log. Executed in this order: release, admit, decode, prefill. Decode and
/// prefill of one step share no slot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Number in the log; consecutive, from 1.
    pub seq: u64,
    /// Slots whose sequences end here; their KV caches are dropped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub release: Vec<u32>,
    /// New sequences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub admit: Vec<Admit>,
    /// Slots that compute one more token from their last one, together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decode: Vec<u32>,
    /// A piece of one prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefill: Option<Prefill>,
}

/// A sequence enters a free slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Admit {
    /// Below `max_active`.
    pub slot: u32,
    /// Prompt, then what an earlier epoch already generated.
    pub tokens: Vec<u32>,
    /// How many of `tokens` are the prompt: penalties tell the two apart.
    pub prompt_len: u32,
    /// How its tokens are chosen.
    pub sampling: Sampling,
    /// As in [`tandem_wire::Submit::logprobs`].
    pub logprobs: Option<u8>,
}

/// Compute `tokens[start..start + len]` of a slot. The piece that reaches the end of `tokens` also
/// samples the next token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefill {
    /// The slot.
    pub slot: u32,
    /// First position; the length of the slot's KV cache so far.
    pub start: u32,
    /// How many, at least 1.
    pub len: u32,
}

/// A token that a step chose: one for each slot of `decode`, in order, then one for a prefill that
/// reached the end of its prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// The slot.
    pub slot: u32,
    /// Token id.
    pub token: u32,
    /// As in [`tandem_wire::Token::logprob`].
    pub logprob: Option<f32>,
    /// As in [`tandem_wire::Token::top`].
    pub top: Vec<Candidate>,
}

/// What executes steps: MLX in a rank, three lines of arithmetic in the scheduler's tests.
///
/// `dispatch` may be called once more before the step before it is collected, so that the device
/// has its next work while the host reads the last tokens; a decode in the newer step then goes on
/// from tokens that only the device knows yet.
pub trait Execute {
    /// A dispatched step's results, not yet waited for.
    type Pending;

    /// Queues a step's work on the device and returns without waiting for it.
    fn dispatch(&mut self, step: &Step) -> Result<Self::Pending, EngineError>;

    /// Waits until a dispatched step is computed, whether or not it chose a token: what is dropped
    /// after the last one has no work under way. Steps are collected in the order they were
    /// dispatched.
    fn collect(&mut self, pending: Self::Pending) -> Result<Vec<Sampled>, EngineError>;

    /// What the model is and what loading it took.
    fn loaded(&self) -> &Loaded;

    /// Bytes the device's allocator holds now, and the most it ever held.
    fn memory_bytes(&self) -> (u64, u64);
}

/// The outcome of loading a shard.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What rank 0 tells the gateway.
    pub card: tandem_wire::ModelCard,
    /// Bytes of weights read from disk.
    pub bytes_read: u64,
    /// Bytes of this rank's weights in memory.
    pub weights_bytes: u64,
    /// Positions that its KV caches have room for ([`crate::budget::Fit::kv_tokens`]).
    pub kv_tokens: u64,
}
