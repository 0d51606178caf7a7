//! Keeps what is given up at once from costing everybody else. What is decided is pure.
//!
//! A prompt that a client gives up after some milliseconds has been read by then, and a step of the
//! ranks can't be taken back: it may cost the others a second. One such client does no harm, but an
//! editor that asks at each key, or a client that goes wild, sends hundreds a second. While they do, a
//! new request waits twice: a moment before it is read, which also slows a client that waits for its
//! first bytes before it goes; and before it is submitted, until it is older than those became. Else it
//! waits for nothing.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::OwnedSemaphorePermit;

/// How many requests must have been given up within [`WINDOW`], without a token, to be a storm.
const STORM: usize = 32;
const WINDOW: Duration = Duration::from_secs(1);

/// How many of those that were given up are remembered: one in hundreds becomes much older than the
/// others.
const MEMORY: usize = 512;

/// Most that a request waits to be submitted. What lives longer is worth its step.
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// Least that a request waits to be read: longer than it takes to learn that its client is gone.
const READING_PAUSE: Duration = Duration::from_millis(30);

/// And for each other one that waits. So however many clients wait for their first bytes, no more than
/// one in this time is read: an eighth of a core, at half a millisecond each.
const READING_SPACE: Duration = Duration::from_millis(4);

/// Remembers the last requests that were given up early.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    /// When, and how old it was; at most [`MEMORY`], oldest first.
    early: VecDeque<(Instant, Duration)>,
}

impl Settling {
    /// A request was given up before its first token, at this age.
    pub(crate) fn given_up(&mut self, now: Instant, age: Duration) {
        if age > PAUSE_MAX {
            return;
        }
        if self.early.len() == MEMORY {
            self.early.pop_front();
        }
        self.early.push_back((now, age));
    }

    /// Whether requests are given up as fast as nobody means it.
    pub(crate) fn is_storm(&self, now: Instant) -> bool {
        let first = self.early.len().checked_sub(STORM).and_then(|place| self.early.get(place));
        first.is_some_and(|(at, _)| now.duration_since(*at) <= WINDOW)
    }

    /// How old a new request must be to be submitted.
    pub(crate) fn pause(&self, now: Instant) -> Duration {
        if !self.is_storm(now) {
            return Duration::ZERO;
        }
        let oldest = self.early.iter().map(|(_, age)| *age).max().unwrap_or_default();
        (oldest * 2).min(PAUSE_MAX)
    }
}

/// The requests that clients have with this gateway, as far as they are given up early.
#[derive(Clone, Debug, Default)]
pub(crate) struct Visitors(Arc<Mutex<Room>>);

#[derive(Debug, Default)]
struct Room {
    settling: Settling,
    /// How many wait to be read.
    waiting: u32,
}

/// A request, and its place in the gateway. Dropped before [`Visit::pays`], it was given up.
#[derive(Debug)]
pub(crate) struct Visit {
    place: Arc<OwnedSemaphorePermit>,
    visitors: Visitors,
    since: Instant,
    has_paid: bool,
}

/// One that waits to be read.
struct Waiting<'a>(&'a Visitors);

impl Visitors {
    /// A request got its place.
    pub(crate) fn enter(&self, place: OwnedSemaphorePermit) -> Visit {
        let (place, visitors) = (Arc::new(place), self.clone());
        Visit { place, visitors, since: Instant::now(), has_paid: false }
    }

    /// Waits for as long as one that comes now should before it is read.
    pub(crate) async fn settle(&self) {
        let pause = self.with(|room| room.pause(Instant::now()));
        if !pause.is_zero() {
            let _waiting = Waiting::begin(self);
            tokio::time::sleep(pause).await;
        }
    }

    fn with<T>(&self, what: impl FnOnce(&mut Room) -> T) -> T {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Room {
    fn pause(&self, now: Instant) -> Duration {
        if self.settling.is_storm(now) {
            (READING_SPACE * self.waiting).clamp(READING_PAUSE, PAUSE_MAX)
        } else {
            Duration::ZERO
        }
    }
}

impl<'a> Waiting<'a> {
    fn begin(visitors: &'a Visitors) -> Self {
        visitors.with(|room| room.waiting += 1);
        Self(visitors)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.with(|room| room.waiting -= 1);
    }
}

impl Visit {
    /// The place, for whatever else is done for the request.
    pub(crate) fn place(&self) -> Arc<OwnedSemaphorePermit> {
        Arc::clone(&self.place)
    }

    /// What it cost was not in vain: a token came.
    pub(crate) const fn pays(&mut self) {
        self.has_paid = true;
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if !self.has_paid {
            let now = Instant::now();
            let age = now.duration_since(self.since);
            self.visitors.with(|room| room.settling.given_up(now, age));
        }
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
                // The slowest of all that are remembered counts.
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
        for _ in 0..MEMORY {
            settling.given_up(now, Duration::from_millis(1));
        }
        assert_eq!(settling.pause(now), Duration::from_millis(2), "and is forgotten");

        let mut seldom = Settling::default();
        for _ in 0..10 * STORM {
            now += Duration::from_millis(50);
            seldom.given_up(now, Duration::from_millis(3));
            assert_eq!(seldom.pause(now), Duration::ZERO);
        }
    }

    #[tokio::test]
    async fn who_is_answered_is_no_storm_and_who_goes_without_is() {
        let places = Arc::new(tokio::sync::Semaphore::new(1));
        let visitors = Visitors::default();
        let pause = || visitors.with(|room| room.pause(Instant::now()));
        for _ in 0..STORM {
            let place = Arc::clone(&places).acquire_owned().await.unwrap();
            visitors.enter(place).pays();
        }
        for _ in 0..STORM {
            assert_eq!(pause(), Duration::ZERO);
            let place = Arc::clone(&places).acquire_owned().await.unwrap();
            let visit = visitors.enter(place);
            assert_eq!(places.available_permits(), 0, "its place is held as long as it");
            drop(visit);
        }
        assert_eq!(pause(), READING_PAUSE);
        let crowd: Vec<_> = (0..20).map(|_| Waiting::begin(&visitors)).collect();
        assert_eq!(pause(), READING_SPACE * 20);
        let more: Vec<_> = (0..500).map(|_| Waiting::begin(&visitors)).collect();
        assert_eq!(pause(), PAUSE_MAX);
        drop((crowd, more));
        let began = Instant::now();
        visitors.settle().await;
        assert!(began.elapsed() >= READING_PAUSE);
        assert_eq!(visitors.with(|room| room.waiting), 0);
    }
}
