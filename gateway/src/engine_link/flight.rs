//! One generation in flight.

use std::time::Instant;

use tandem_wire::{FinishReason, Submit};

use super::Job;

/// What the link keeps of a generation from its arrival to its end.
pub(super) struct Flight {
    pub(super) job: Job,
    pub(super) arrived: Instant,
    pub(super) generated: Vec<u32>,
    /// Its id on the connection, while it is with the rank. A new one for each submission, so
    /// that nothing said about an earlier one is taken for this one.
    pub(super) wire_id: Option<u64>,
    /// Whether a rank ever had it.
    pub(super) was_submitted: bool,
    /// How often it was lost since its last token.
    pub(super) losses: u32,
}

impl Flight {
    pub(super) fn new(job: Job, arrived: Instant) -> Self {
        let generated = Vec::new();
        Self { job, arrived, generated, wire_id: None, was_submitted: false, losses: 0 }
    }

    /// What the rank is asked: to go on after the tokens there are.
    pub(super) fn submit(&self, wire_id: u64) -> Submit {
        Submit {
            id: wire_id,
            prompt: self.job.prompt.to_vec(),
            generated: self.generated.clone(),
            max_tokens: self.job.max_tokens,
            stop_tokens: self.job.stop_tokens.to_vec(),
            sampling: self.job.sampling.clone(),
            logprobs: self.job.logprobs,
            urgent: self.job.urgent,
        }
    }

    /// Why no more tokens can follow those it has.
    pub(super) fn ended(&self) -> Option<FinishReason> {
        let last = self.generated.last()?;
        if self.job.stop_tokens.contains(last) {
            Some(FinishReason::Stop)
        } else {
            (self.generated.len() >= self.job.max_tokens as usize).then_some(FinishReason::Length)
        }
    }

    /// Whether [`Self::ended`].
    pub(super) fn is_complete(&self) -> bool {
        self.ended().is_some()
    }
}
