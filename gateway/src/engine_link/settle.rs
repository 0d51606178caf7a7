//! Keeps what is cancelled at once from ever reaching the rank. Pure.
//!
//! A step can't be taken back: a prompt that a client gives up after some milliseconds may cost
//! everybody else a second. One such client does no harm, but an editor that asks at each key, or a
//! client that goes wild, sends hundreds a second. While they do, a new request waits until it is
//! older than those became; else it waits for nothing.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// How many requests must have been given up within [`WINDOW`], without a token, to be a storm.
const STORM: usize = 32;
const WINDOW: Duration = Duration::from_secs(1);

/// Most that a request waits. What lives longer is worth its step.
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// Remembers the last requests that were given up early.
#[derive(Debug, Default)]
pub(super) struct Settling {
    /// When, and how old it was; at most [`STORM`], oldest first.
    early: VecDeque<(Instant, Duration)>,
}

impl Settling {
    /// A request was given up before its first token, at this age.
    pub(super) fn given_up(&mut self, now: Instant, age: Duration) {
        if age > PAUSE_MAX {
            return;
        }
        if self.early.len() == STORM {
            self.early.pop_front();
        }
        self.early.push_back((now, age));
    }

    /// How old a new request must be to be submitted.
    pub(super) fn pause(&self, now: Instant) -> Duration {
        let is_recent = |(at, _): &(Instant, Duration)| now.duration_since(*at) <= WINDOW;
        if self.early.len() < STORM || !self.early.front().is_some_and(is_recent) {
            return Duration::ZERO;
        }
        let oldest = self.early.iter().map(|(_, age)| *age).max().unwrap_or_default();
        (oldest * 2).min(PAUSE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_storm_makes_new_requests_wait_and_only_while_it_lasts() {
        let mut settling = Settling::default();
        let mut now = Instant::now();
        for given_up in 1..=2 * STORM {
            now += Duration::from_millis(5);
            settling.given_up(now, Duration::from_millis(if given_up == 40 { 30 } else { 3 }));
            let expected = match given_up {
                0..STORM => 0,
                // The slowest of the last ones counts.
                STORM..40 => 6,
                _ => 60,
            };
            assert_eq!(settling.pause(now), Duration::from_millis(expected), "{given_up}");
        }
        assert_eq!(settling.pause(now + WINDOW), Duration::ZERO);
        for _ in 0..STORM {
            now += Duration::from_millis(1);
            settling.given_up(now, PAUSE_MAX + Duration::from_millis(1));
        }
        assert_eq!(settling.pause(now), Duration::from_millis(60), "who waited was not in a hurry");
        for _ in 0..STORM {
            settling.given_up(now, PAUSE_MAX);
        }
        assert_eq!(settling.pause(now), PAUSE_MAX);

        let mut seldom = Settling::default();
        for _ in 0..10 * STORM {
            now += Duration::from_millis(50);
            seldom.given_up(now, Duration::from_millis(3));
            assert_eq!(seldom.pause(now), Duration::ZERO);
        }
    }
}
