//! The engine thread of every rank but 0: executes the log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use super::gang::Follower;
use super::shared::{Command, Shared};
use crate::EngineError;
use crate::control::Up;
use crate::control::ledger::Digest;
use crate::schedule::IN_FLIGHT_MAX;
use crate::step::{Execute, Step};

/// The loop's state; dropped, executor and all, on the thread that runs it.
pub(super) struct Follow<E: Execute> {
    // Before the executor, so that it is dropped first: its arrays are of the executor's group.
    in_flight: VecDeque<(u64, E::Pending)>,
    executor: E,
    last_seq: u64,
    digest: Digest,
    gang: Arc<Follower>,
    shared: Arc<Shared>,
    inbox: Receiver<Command>,
}

impl<E: Execute> Follow<E> {
    pub(super) fn new(
        executor: E,
        gang: Arc<Follower>,
        shared: Arc<Shared>,
        inbox: Receiver<Command>,
    ) -> Self {
        let in_flight = VecDeque::new();
        Self { executor, in_flight, last_seq: 0, digest: Digest::start(), gang, shared, inbox }
    }

    /// From loaded to the log's end.
    pub(super) fn run(mut self) -> Result<(), EngineError> {
        let loaded = self.executor.loaded();
        let (card, kv_tokens) = (loaded.card.clone(), loaded.kv_tokens);
        self.gang.tell(&Up::Loaded { card, kv_tokens });
        while !self.shared.is_stopping() {
            match self.next_command() {
                Some(Command::Step(step)) => self.dispatch(&step)?,
                Some(Command::End) => {
                    while !self.in_flight.is_empty() {
                        self.collect()?;
                    }
                    return Ok(());
                }
                Some(_) => {}
                None if self.in_flight.is_empty() => return Ok(()),
                None => self.collect()?,
            }
        }
        Ok(())
    }

    /// Sleeps for a command while there is nothing else to do. With a step on the device it takes
    /// one only if it is there: rank 0 dispatches a step before it collects the one before, so
    /// waiting for neither can block the other.
    fn next_command(&self) -> Option<Command> {
        match self.in_flight.len() {
            0 => self.inbox.recv().ok(),
            IN_FLIGHT_MAX.. => None,
            _ => self.inbox.try_recv().ok(),
        }
    }

    fn dispatch(&mut self, step: &Step) -> Result<(), EngineError> {
        if step.seq != self.last_seq + 1 {
            return Err(EngineError::Integrity(format!(
                "rank 0's log goes from step {} to step {}",
                self.last_seq, step.seq
            )));
        }
        self.last_seq = step.seq;
        self.shared.board.begin_step(step);
        let pending = self.executor.dispatch(step)?;
        self.in_flight.push_back((step.seq, pending));
        Ok(())
    }

    fn collect(&mut self) -> Result<(), EngineError> {
        let Some((seq, pending)) = self.in_flight.pop_front() else {
            return Ok(());
        };
        let sampled = self.executor.collect(pending)?;
        self.shared.board.end_step(&self.executor);
        self.gang.report(self.digest.extend(seq, &sampled))
    }
}
