//! Rank 0's scheduler: which request runs in which slot, and what the next step of the gang is.
//!
//! Pure: requests, cancellations and sampled tokens go in; [`Step`]s and messages come out. No
//! clock, thread or device.
//!
//! ```text
//!             submit ──▶ queue ──admit──▶ slot: prefill… ──▶ decode… ──▶ release ──▶ free
//!                        (FIFO)                    one chunk a step   one step ahead
//! ```
//!
//! Every step decodes all slots whose prompt is computed, and carries at most one chunk of a prompt that
//! is not: of the oldest one, or in every other step of the oldest that needs no more than one chunk.
//! So a short request does not wait behind a long prompt, and the long one keeps at least every other
//! chunk, however many short ones come. An urgent request goes before all that wait for a slot. A step
//! may be asked for while the one before it is still on the device; a slot whose stop token turns up only
//! then has one token too many under way, which is thrown away when it comes.

mod check;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use tandem_wire::{FailureCode, FinishReason, FromRank, Submit, Token};

use crate::EngineError;
use crate::step::{Admit, Prefill, Sampled, Step};

/// Most steps dispatched and not yet collected: one that the device computes and one behind it.
/// More would only grow the work thrown away after a stop token.
pub const IN_FLIGHT_MAX: usize = 2;

/// Most urgent requests that wait, beyond `max_queued`: a supervisor has one at a time, and each node
/// has one supervisor.
const URGENT_MAX: usize = 8;

/// What bounds the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Slots, which is to say most requests decoded together.
    pub max_active: u32,
    /// Most requests waiting behind those.
    pub max_queued: u32,
    /// Most tokens of a prompt in one step.
    pub prefill_step_tokens: u32,
    /// Most tokens of prompt and completion together.
    pub context_tokens: u32,
    /// Most positions that the KV caches of all slots may come to hold together
    /// ([`crate::budget::Fit::kv_tokens`]).
    pub kv_tokens: u64,
    /// Token ids run from 0 to this, exclusive.
    pub vocab_size: u32,
}

/// Which request: the connection it came by, and the id its sender chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestKey {
    /// Number of the connection.
    pub connection: u64,
    /// [`Submit::id`].
    pub id: u64,
}

/// The scheduler; see the module.
#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    queue: VecDeque<(RequestKey, Submit)>,
    slots: Vec<Option<Sequence>>,
    /// Slots that ended since the last step; the next one releases them.
    ended: Vec<u32>,
    in_flight: VecDeque<InFlight>,
    /// The last chunk was of a prompt that passed an older one.
    has_passed: bool,
    next_seq: u64,
    next_serial: u64,
    messages: Vec<(u64, FromRank)>,
}

/// A request in a slot.
#[derive(Debug)]
struct Sequence {
    key: RequestKey,
    /// Grows with every admission: tells the slot's sequence from the one before it, and orders
    /// prompts by age.
    serial: u64,
    stop_tokens: Vec<u32>,
    /// Tokens given at admission: prompt, and what an earlier epoch generated.
    given: u32,
    /// How many of those are scheduled.
    prefilled: u32,
    /// Completion tokens collected, those of an earlier epoch included.
    collected: u32,
    /// Completion tokens scheduled; at most [`IN_FLIGHT_MAX`] more than `collected`.
    scheduled: u32,
    /// Completion tokens at which the request ends: `max_tokens`, or the context's rest.
    completion_max: u32,
    /// Positions that its KV cache may come to hold.
    kv_tokens: u64,
}

/// A step not collected yet: for each token it samples, the slot and the sequence it is for.
#[derive(Debug)]
struct InFlight {
    seq: u64,
    samples: Vec<(u32, u64)>,
}

impl Scheduler {
    /// An empty scheduler whose first step has number 1.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            queue: VecDeque::new(),
            slots: (0..limits.max_active).map(|_| None).collect(),
            ended: Vec::new(),
            in_flight: VecDeque::new(),
            has_passed: false,
            next_seq: 1,
            next_serial: 0,
            messages: Vec::new(),
        }
    }

    /// Takes, finishes or refuses a request; what is to be answered is in
    /// [`take_messages`](Self::take_messages).
    pub fn submit(&mut self, connection: u64, submit: Submit) {
        let key = RequestKey { connection, id: submit.id };
        if self.is_known(key) {
            // Both would answer by the same id; so neither does but with this.
            self.cancel(key);
            let message = format!("request id {} is in use on this connection", key.id);
            return self.fail(key, FailureCode::Invalid, message);
        }
        if let Err(message) = check::check(&submit, &self.limits) {
            return self.fail(key, FailureCode::Invalid, message);
        }
        if let Some(reason) = check::already_done(&submit, &self.limits) {
            return self.send(key, FromRank::Done { id: key.id, reason });
        }
        let idle = self.slots.len() - self.active() as usize;
        let urgent = self.queue.iter().take_while(|(_, waiting)| waiting.urgent).count();
        if submit.urgent && urgent < URGENT_MAX {
            return self.queue.insert(urgent, (key, submit));
        }
        if self.queue.len() >= self.limits.max_queued as usize + idle {
            let message = format!(
                "{} requests run and {} wait, which is as many as this rank takes",
                self.active(),
                self.queue.len()
            );
            return self.fail(key, FailureCode::Full, message);
        }
        self.queue.push_back((key, submit));
    }

    /// Ends a request without an answer; false if there is no such one.
    pub fn cancel(&mut self, key: RequestKey) -> bool {
        let is_known = self.is_known(key);
        self.cancel_where(|other| other == key);
        is_known
    }

    /// Ends all requests of a connection that is gone.
    pub fn drop_connection(&mut self, connection: u64) {
        self.cancel_where(|key| key.connection == connection);
    }

    /// Ends all requests with [`FailureCode::NotReady`], for a rank that unloads.
    pub fn fail_all(&mut self, message: &str) {
        let active = self.slots.iter().flatten().map(|s| s.key);
        let all: Vec<_> = active.chain(self.queue.iter().map(|(key, _)| *key)).collect();
        self.cancel_where(|_| true);
        for key in all {
            self.fail(key, FailureCode::NotReady, message.to_owned());
        }
    }

    /// The next step, or `None` while there is nothing to do or [`IN_FLIGHT_MAX`] steps are not
    /// collected. The caller executes what it gets, on all ranks.
    pub fn next_step(&mut self) -> Option<Step> {
        if self.in_flight.len() >= IN_FLIGHT_MAX {
            return None;
        }
        let release = std::mem::take(&mut self.ended);
        let admit = self.admit();
        let mut samples = Vec::new();
        let decode = self.decode(&mut samples);
        let prefill = self.prefill(&mut samples);
        if release.is_empty() && admit.is_empty() && decode.is_empty() && prefill.is_none() {
            return None;
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        self.in_flight.push_back(InFlight { seq, samples });
        Some(Step { seq, release, admit, decode, prefill })
    }

    /// Takes the tokens of the oldest step not collected. An error says that the executor broke
    /// its contract.
    pub fn collected(&mut self, seq: u64, sampled: Vec<Sampled>) -> Result<(), EngineError> {
        let Some(step) = self.in_flight.pop_front().filter(|step| step.seq == seq) else {
            return Err(EngineError::Software(format!("step {seq} was collected out of order")));
        };
        if !step.samples.iter().map(|(slot, _)| *slot).eq(sampled.iter().map(|s| s.slot)) {
            return Err(EngineError::Software(format!(
                "step {seq} sampled {} tokens where {} were scheduled, or in other slots",
                sampled.len(),
                step.samples.len()
            )));
        }
        for ((_, serial), sampled) in step.samples.into_iter().zip(sampled) {
            if sampled.token >= self.limits.vocab_size {
                return Err(EngineError::Integrity(format!(
                    "step {seq} sampled token {}, beyond the vocabulary of {}",
                    sampled.token, self.limits.vocab_size
                )));
            }
            self.deliver(serial, sampled);
        }
        Ok(())
    }

    /// Messages since the last call, each with the connection it is for.
    pub fn take_messages(&mut self) -> Vec<(u64, FromRank)> {
        std::mem::take(&mut self.messages)
    }

    /// Lowers what the KV caches may hold, before anything is submitted: another rank of the gang
    /// has room for less.
    pub fn lower_kv_tokens(&mut self, kv_tokens: u64) {
        self.limits.kv_tokens = self.limits.kv_tokens.min(kv_tokens);
    }

    /// Requests in slots.
    pub fn active(&self) -> u32 {
        self.slots.iter().flatten().count() as u32
    }

    /// Requests waiting for a slot.
    pub fn queued(&self) -> u32 {
        self.queue.len() as u32
    }

    fn is_known(&self, key: RequestKey) -> bool {
        self.queue.iter().any(|(other, _)| *other == key)
            || self.slots.iter().flatten().any(|s| s.key == key)
    }

    fn cancel_where(&mut self, matches: impl Fn(RequestKey) -> bool) {
        self.queue.retain(|(key, _)| !matches(*key));
        for (slot, sequence) in self.slots.iter_mut().enumerate() {
            if sequence.as_ref().is_some_and(|s| matches(s.key)) {
                *sequence = None;
                self.ended.push(slot as u32);
            }
        }
    }

    /// Fills free slots from the queue, while what their KV caches may come to hold fits beside that
    /// of all that run. A slot that this same step releases counts as free: a step executes its
    /// releases first. A request that does not fit yet is waited for, and those behind it with it:
    /// letting small ones pass could keep a large one waiting for ever.
    fn admit(&mut self) -> Vec<Admit> {
        let mut admitted = Vec::new();
        let mut held: u64 = self.slots.iter().flatten().map(|s| s.kv_tokens).sum();
        for slot in 0..self.slots.len() {
            if self.slots[slot].is_some() {
                continue;
            }
            let fits = |(_, submit): &mut (RequestKey, Submit)| {
                held + check::kv_tokens(submit, &self.limits) <= self.limits.kv_tokens
            };
            let Some((key, submit)) = self.queue.pop_front_if(fits) else {
                break;
            };
            let kv_tokens = check::kv_tokens(&submit, &self.limits);
            held += kv_tokens;
            let prompt_len = submit.prompt.len() as u32;
            let resumed = submit.generated.len() as u32;
            self.slots[slot] = Some(Sequence {
                key,
                serial: self.next_serial,
                given: prompt_len + resumed,
                prefilled: 0,
                collected: resumed,
                scheduled: resumed,
                completion_max: check::completion_max(&submit, &self.limits),
                kv_tokens,
                stop_tokens: submit.stop_tokens,
            });
            self.next_serial += 1;
            let mut tokens = submit.prompt;
            tokens.extend(submit.generated);
            admitted.push(Admit {
                slot: slot as u32,
                tokens,
                prompt_len,
                sampling: submit.sampling,
                logprobs: submit.logprobs,
            });
        }
        admitted
    }

    /// All slots past their prompt that may take one more token, collected or not.
    fn decode(&mut self, samples: &mut Vec<(u32, u64)>) -> Vec<u32> {
        let mut decode = Vec::new();
        for (slot, sequence) in self.slots.iter_mut().enumerate() {
            let Some(s) = sequence else { continue };
            if s.prefilled == s.given && s.scheduled < s.completion_max {
                s.scheduled += 1;
                decode.push(slot as u32);
                samples.push((slot as u32, s.serial));
            }
        }
        decode
    }

    /// One chunk of a prompt that is not computed. What takes one chunk may pass the oldest, but not
    /// twice in a row.
    fn prefill(&mut self, samples: &mut Vec<(u32, u64)>) -> Option<Prefill> {
        let chunk = self.limits.prefill_step_tokens;
        // A slot that was at its prompt's end before this step is decoding; it has no rest.
        let waiting = |(slot, sequence): (usize, &Option<Sequence>)| {
            let s = sequence.as_ref().filter(|s| s.prefilled < s.given)?;
            Some((s.serial, slot, s.given - s.prefilled <= chunk))
        };
        let oldest = self.slots.iter().enumerate().filter_map(waiting).min()?;
        let last_piece = |(_, _, is_last): &(u64, usize, bool)| *is_last;
        let short = self.slots.iter().enumerate().filter_map(waiting).filter(last_piece).min();
        let (_, slot, _) = short.filter(|_| !self.has_passed).unwrap_or(oldest);
        self.has_passed = slot != oldest.1;
        let s = self.slots[slot].as_mut()?;
        let slot = slot as u32;
        let start = s.prefilled;
        let len = (s.given - start).min(chunk);
        s.prefilled += len;
        if s.prefilled == s.given {
            s.scheduled += 1;
            samples.push((slot, s.serial));
        }
        Some(Prefill { slot, start, len })
    }

    /// Sends one token to its request, unless that ended while the token was under way.
    fn deliver(&mut self, serial: u64, sampled: Sampled) {
        let Sampled { slot, token, logprob, top } = sampled;
        let place = &mut self.slots[slot as usize];
        let Some(s) = place.as_mut().filter(|s| s.serial == serial) else {
            return;
        };
        let (key, index) = (s.key, s.collected);
        s.collected += 1;
        let reason = if s.stop_tokens.contains(&token) {
            Some(FinishReason::Stop)
        } else {
            (s.collected == s.completion_max).then_some(FinishReason::Length)
        };
        if reason.is_some() {
            *place = None;
            self.ended.push(slot);
        }
        self.send(key, FromRank::Token(Token { id: key.id, index, token, logprob, top }));
        if let Some(reason) = reason {
            self.send(key, FromRank::Done { id: key.id, reason });
        }
    }

    fn send(&mut self, key: RequestKey, message: FromRank) {
        self.messages.push((key.connection, message));
    }

    fn fail(&mut self, key: RequestKey, code: FailureCode, message: String) {
        self.send(key, FromRank::Failed { id: key.id, code, message });
    }
}
