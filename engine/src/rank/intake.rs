//! What gateways asked of rank 0 and its engine thread has not looked at yet.
//!
//! A step may take seconds, and connections are read meanwhile: nothing here waits, so that a
//! cancel is never stuck behind a request, and all of it is bounded. A request that is cancelled
//! before the engine thread saw it never gets there.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Mutex;

use tandem_wire::Submit;

use super::shared::lock;
use crate::schedule::RequestKey;

/// Most requests that wait here: as many as a gateway ever has with a rank (`max_submitted`).
const REQUESTS_MAX: usize = 4096;
/// Most token ids of all these together, 4 bytes each. One request alone always fits.
const TOKENS_MAX: usize = 8 << 20;
/// Most cancels that wait here. Whoever sends more cancels what it never asked for.
const CANCELS_MAX: usize = 2 * REQUESTS_MAX;

/// One per rank.
#[derive(Debug, Default)]
pub(super) struct Intake {
    waiting: Mutex<Waiting>,
}

/// What the engine thread takes over at the border of a step: the ends are to be obeyed first.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Connections that are gone.
    pub(super) gone: Vec<u64>,
    /// Requests to end; none of them is in `requests`.
    pub(super) cancels: BTreeSet<RequestKey>,
    /// New requests with their connections, oldest first.
    pub(super) requests: VecDeque<(u64, Box<Submit>)>,
    /// Token ids in `requests`.
    tokens: usize,
    closed: bool,
}

/// Why a request is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// As many wait as may.
    Full,
    /// The engine thread takes nothing any more.
    Closed,
}

/// What became of a cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cancelled {
    /// The request was still here and is gone: nobody else answers it.
    TakenBack,
    /// The engine thread may have it, and will see to it.
    PassedOn,
    /// More cancels wait than there can be requests.
    TooMany,
}

impl Intake {
    /// Takes a request.
    pub(super) fn submit(&self, connection: u64, submit: Box<Submit>) -> Result<(), Refused> {
        let mut waiting = lock(&self.waiting);
        if waiting.closed {
            return Err(Refused::Closed);
        }
        let tokens = tokens_of(&submit);
        let is_full =
            waiting.requests.len() >= REQUESTS_MAX || waiting.tokens + tokens > TOKENS_MAX;
        if is_full && !waiting.requests.is_empty() {
            return Err(Refused::Full);
        }
        waiting.tokens += tokens;
        waiting.requests.push_back((connection, submit));
        Ok(())
    }

    /// Ends a request, wherever it is by now.
    pub(super) fn cancel(&self, key: RequestKey) -> Cancelled {
        let mut waiting = lock(&self.waiting);
        if waiting.remove(|connection, submit| (connection, submit.id) == (key.connection, key.id))
        {
            return Cancelled::TakenBack;
        }
        if waiting.cancels.len() >= CANCELS_MAX {
            return Cancelled::TooMany;
        }
        waiting.cancels.insert(key);
        Cancelled::PassedOn
    }

    /// Ends all requests of a connection.
    pub(super) fn gone(&self, connection: u64) {
        let mut waiting = lock(&self.waiting);
        waiting.remove(|of, _| of == connection);
        waiting.cancels.retain(|key| key.connection != connection);
        waiting.gone.push(connection);
    }

    /// All that waits.
    pub(super) fn take(&self) -> Waiting {
        std::mem::take(&mut *lock(&self.waiting))
    }

    /// All that waits; nothing is taken after it.
    pub(super) fn close(&self) -> Waiting {
        let mut waiting = lock(&self.waiting);
        let closed = Waiting { closed: true, ..Waiting::default() };
        std::mem::replace(&mut *waiting, closed)
    }
}

impl Waiting {
    /// Drops the requests that fit; whether there were any.
    fn remove(&mut self, fits: impl Fn(u64, &Submit) -> bool) -> bool {
        let before = self.requests.len();
        let mut freed = 0;
        self.requests.retain(|(connection, submit)| {
            let goes = fits(*connection, submit);
            freed += if goes { tokens_of(submit) } else { 0 };
            !goes
        });
        self.tokens -= freed;
        self.requests.len() < before
    }
}

fn tokens_of(submit: &Submit) -> usize {
    submit.prompt.len() + submit.generated.len()
}

#[cfg(test)]
mod tests {
    use tandem_wire::Sampling;

    use super::*;

    fn submit(id: u64, tokens: usize) -> Box<Submit> {
        Box::new(Submit {
            id,
            prompt: vec![0; tokens],
            generated: Vec::new(),
            max_tokens: 1,
            stop_tokens: Vec::new(),
            sampling: Sampling::greedy(),
            logprobs: None,
            urgent: false,
        })
    }

    fn key(connection: u64, id: u64) -> RequestKey {
        RequestKey { connection, id }
    }

    fn ids(waiting: &Waiting) -> Vec<(u64, u64)> {
        waiting.requests.iter().map(|(connection, submit)| (*connection, submit.id)).collect()
    }

    #[test]
    fn what_is_cancelled_before_it_was_looked_at_never_gets_to_the_engine() {
        let intake = Intake::default();
        for (connection, id) in [(1, 1), (1, 2), (2, 1)] {
            intake.submit(connection, submit(id, 3)).unwrap();
        }
        assert_eq!(intake.cancel(key(1, 1)), Cancelled::TakenBack);
        assert_eq!(intake.cancel(key(1, 1)), Cancelled::PassedOn, "it is not here any more");
        let taken = intake.take();
        assert_eq!(ids(&taken), [(1, 2), (2, 1)]);
        assert_eq!(taken.cancels, BTreeSet::from([key(1, 1)]));
        assert_eq!(intake.cancel(key(1, 2)), Cancelled::PassedOn, "the engine has it");
        intake.submit(2, submit(5, 3)).unwrap();
        intake.gone(2);
        let taken = intake.take();
        assert_eq!((ids(&taken), taken.gone), (vec![], vec![2]));
    }

    #[test]
    fn no_storm_makes_more_wait_than_the_bounds_say() {
        let intake = Intake::default();
        for id in 0..2 * REQUESTS_MAX as u64 {
            let expected = if id < REQUESTS_MAX as u64 { Ok(()) } else { Err(Refused::Full) };
            assert_eq!(intake.submit(1, submit(id, 1)), expected);
        }
        for id in 0..REQUESTS_MAX as u64 {
            assert_eq!(intake.cancel(key(1, id)), Cancelled::TakenBack);
        }
        for id in 0..CANCELS_MAX as u64 {
            assert_eq!(intake.cancel(key(1, id)), Cancelled::PassedOn);
        }
        assert_eq!(intake.cancel(key(2, 0)), Cancelled::TooMany);
        assert!(intake.take().requests.is_empty());

        let half = TOKENS_MAX / 2 + 1;
        intake.submit(1, submit(1, half)).unwrap();
        assert_eq!(intake.submit(1, submit(2, half)), Err(Refused::Full));
        intake.cancel(key(1, 1));
        intake.submit(1, submit(2, half)).unwrap();
        intake.take();
        intake.submit(1, submit(3, TOKENS_MAX + 1)).unwrap();
    }

    #[test]
    fn what_comes_after_the_close_is_refused_and_what_came_before_is_given() {
        let intake = Intake::default();
        intake.submit(1, submit(1, 1)).unwrap();
        assert_eq!(ids(&intake.close()), [(1, 1)]);
        assert_eq!(intake.submit(1, submit(2, 1)), Err(Refused::Closed));
        assert!(intake.close().requests.is_empty());
    }
}
