//! Rank 0's engine thread: decides each step, has all ranks execute it, hands out the tokens.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use tandem_wire::{FinishReason, FromRank, Phase, Sampling, Submit};

use super::gang::Leader;
use super::intake::Waiting;
use super::server::Server;
use super::shared::{Command, Shared};
use crate::EngineError;
use crate::control::Progress;
use crate::control::ledger::Digest;
use crate::schedule::{IN_FLIGHT_MAX, Limits, Scheduler};
use crate::settings::Settings;
use crate::step::Execute;

/// The connection that the warm-up's messages are for: no real one has this number.
const WARM_UP: u64 = 0;
/// Prompt and completion of the warm-up: enough to run a prefill and the pipelined decode.
const WARM_UP_PROMPT: u32 = 8;
const WARM_UP_COMPLETION: u32 = 4;

/// How long an idle rank lets the first request settle: a step can't be taken back, and a client that
/// goes wild drops its requests about as fast.
const SETTLE: Duration = Duration::from_millis(5);

/// The loop's state; dropped, executor and all, on the thread that runs it.
pub(super) struct Lead<E: Execute> {
    // Before the executor, so that it is dropped first: its arrays are of the executor's group.
    in_flight: VecDeque<(u64, E::Pending)>,
    executor: E,
    scheduler: Scheduler,
    digest: Digest,
    progress: Option<Progress>,
    warm_up_end: Option<FromRank>,
    gang: Arc<Leader>,
    server: Arc<Server>,
    shared: Arc<Shared>,
    inbox: Receiver<Command>,
}

impl<E: Execute> Lead<E> {
    pub(super) fn new(
        executor: E,
        settings: &Settings,
        gang: Arc<Leader>,
        server: Arc<Server>,
        shared: Arc<Shared>,
        inbox: Receiver<Command>,
    ) -> Self {
        let loaded = executor.loaded();
        let card = &loaded.card;
        let limits = Limits {
            max_active: settings.max_active,
            max_queued: settings.max_queued,
            prefill_step_tokens: settings.prefill_step_tokens,
            context_tokens: card.context_tokens,
            kv_tokens: loaded.kv_tokens,
            vocab_size: card.vocab_size,
        };
        Self {
            executor,
            scheduler: Scheduler::new(limits),
            in_flight: VecDeque::new(),
            digest: Digest::start(),
            progress: None,
            warm_up_end: None,
            gang,
            server,
            shared,
            inbox,
        }
    }

    /// From loaded to unloaded.
    pub(super) fn run(mut self) -> Result<(), EngineError> {
        let card = self.executor.loaded().card.clone();
        if let Some(kv_tokens) = self.gang.wait_loaded(&card)? {
            self.scheduler.lower_kv_tokens(kv_tokens);
            self.enter(Phase::Warming);
            self.warm_up()?;
            if self.is_serving() {
                self.enter(Phase::Ready);
            }
            self.serve()?;
        }
        if self.shared.is_stopping() {
            return Ok(());
        }
        self.unload()
    }

    fn enter(&self, phase: Phase) {
        self.gang.announce(phase);
        self.server.set_phase(phase);
    }

    fn is_serving(&self) -> bool {
        !self.shared.is_stopping() && !self.shared.is_unloading()
    }

    /// Generates for a request of its own: proof that tokens come back through all ranks.
    fn warm_up(&mut self) -> Result<(), EngineError> {
        let card = &self.executor.loaded().card;
        let length = WARM_UP_PROMPT.min(card.context_tokens.saturating_sub(1));
        let submit = Submit {
            id: 0,
            prompt: (0..length).map(|id| id % card.vocab_size.max(1)).collect(),
            generated: Vec::new(),
            max_tokens: WARM_UP_COMPLETION,
            stop_tokens: Vec::new(),
            sampling: Sampling::greedy(),
            logprobs: None,
            urgent: false,
        };
        self.scheduler.submit(WARM_UP, submit);
        self.answer();
        while self.is_serving() && self.turn()? {}
        match &self.warm_up_end {
            Some(FromRank::Done { reason: FinishReason::Length, .. }) => Ok(()),
            _ if !self.is_serving() => Ok(()),
            other => Err(EngineError::Software(format!("the warm-up ended with {other:?}"))),
        }
    }

    /// Steps while there is anything to do; sleeps while there is not.
    fn serve(&mut self) -> Result<(), EngineError> {
        while self.is_serving() {
            // First the wakes, then what they were for: what comes in between wakes again.
            while self.inbox.try_recv().is_ok() {}
            let waiting = self.shared.intake.take();
            self.obey(waiting);
            // Again after the drain, which may have taken what was to wake this thread below.
            if self.turn()? || !self.is_serving() {
                continue;
            }
            if self.inbox.recv().is_err() {
                return Ok(());
            }
            std::thread::sleep(SETTLE);
        }
        Ok(())
    }

    /// Obeys all that was asked since the last step, which costs microseconds beside one. What ends
    /// goes first, so that a step is never spent on it.
    fn obey(&mut self, waiting: Waiting) {
        for connection in waiting.gone {
            self.scheduler.drop_connection(connection);
        }
        for key in waiting.cancels {
            if self.scheduler.cancel(key) {
                self.server.cancelled(key);
            }
        }
        for (connection, submit) in waiting.requests {
            self.scheduler.submit(connection, *submit);
        }
        self.answer();
    }

    /// Dispatches the next step, and collects the one before it: so the device has work while the
    /// host reads tokens. False if there was nothing to do.
    fn turn(&mut self) -> Result<bool, EngineError> {
        let dispatched = self.dispatch()?;
        if self.shared.is_stopping() {
            return Ok(false);
        }
        if self.in_flight.len() == IN_FLIGHT_MAX || !dispatched {
            return Ok(self.collect()? || dispatched);
        }
        Ok(dispatched)
    }

    fn dispatch(&mut self) -> Result<bool, EngineError> {
        let Some(step) = self.scheduler.next_step() else {
            return Ok(false);
        };
        self.count();
        self.shared.board.begin_step(&step);
        // The others first: they need the time that this rank's own dispatch takes.
        if self.gang.publish(&step, self.progress.as_ref()) {
            let pending = self.executor.dispatch(&step)?;
            self.in_flight.push_back((step.seq, pending));
        }
        Ok(true)
    }

    fn collect(&mut self) -> Result<bool, EngineError> {
        let Some((seq, pending)) = self.in_flight.pop_front() else {
            return Ok(false);
        };
        let sampled = self.executor.collect(pending)?;
        self.shared.board.end_step(&self.executor);
        let progress = self.digest.extend(seq, &sampled);
        self.gang.report(&progress)?;
        self.progress = Some(progress);
        self.scheduler.collected(seq, sampled)?;
        self.answer();
        Ok(true)
    }

    /// Sends what the scheduler has to say.
    fn answer(&mut self) {
        for (connection, message) in self.scheduler.take_messages() {
            if connection == WARM_UP {
                if !matches!(message, FromRank::Token(_)) {
                    self.warm_up_end = Some(message);
                }
                continue;
            }
            if matches!(message, FromRank::Token(_)) {
                self.shared.board.tokens.fetch_add(1, Relaxed);
            }
            self.server.send(connection, &message);
        }
        self.count();
    }

    fn count(&self) {
        self.shared.board.active.store(self.scheduler.active(), Relaxed);
        self.shared.board.queued.store(self.scheduler.queued(), Relaxed);
    }

    /// Brings the steps under way home, ends the log, and tells the gateway to come again.
    fn unload(&mut self) -> Result<(), EngineError> {
        while self.collect()? {}
        let waiting = self.shared.intake.close();
        self.obey(waiting);
        self.scheduler.fail_all("the rank is unloading");
        self.answer();
        let last_seq = self.progress.as_ref().map_or(0, |progress| progress.seq);
        self.gang.end_log(last_seq);
        Ok(())
    }
}
