//! What the supervisor shows: its last status, what happened, and what it counts of that.

pub(crate) mod counters;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tandem_policy::{Event, Status};
use tokio::sync::{broadcast, watch};

use counters::Counters;

/// Most events that wait for a reader; one that is slower is told how many it missed. More than a
/// whole boot to serving brings.
const WAITING_MAX: usize = 256;

/// What was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// Tandem's version.
    pub version: String,
}

/// An event with its number.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Counts from 1 in the life of one supervisor. The ledger has numbers of its own, since an
    /// event is told even while the ledger can't be written.
    pub id: u64,
    /// The event.
    pub event: Event,
}

/// A status, and when it was published.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) status: Arc<Status>,
    at: Instant,
}

impl Snapshot {
    pub(crate) fn age(&self) -> Duration {
        self.at.elapsed()
    }
}

/// The supervisor's end: it publishes here after every turn.
#[derive(Debug)]
pub struct Publisher {
    status: watch::Sender<Option<Snapshot>>,
    events: broadcast::Sender<Arc<Told>>,
    counters: Arc<Mutex<Counters>>,
    build: Build,
    told: u64,
}

/// The readers' end.
#[derive(Clone, Debug)]
pub struct Published {
    status: watch::Receiver<Option<Snapshot>>,
    events: broadcast::WeakSender<Arc<Told>>,
    counters: Arc<Mutex<Counters>>,
    build: Build,
}

impl Publisher {
    /// With nothing published yet.
    pub fn new(build: Build) -> Self {
        Self {
            status: watch::Sender::new(None),
            events: broadcast::Sender::new(WAITING_MAX),
            counters: Arc::default(),
            build,
            told: 0,
        }
    }

    /// What readers hold.
    pub fn published(&self) -> Published {
        Published {
            status: self.status.subscribe(),
            events: self.events.downgrade(),
            counters: Arc::clone(&self.counters),
            build: self.build.clone(),
        }
    }

    /// Counts events of earlier supervisors, oldest first, and tells nobody: the metrics go on
    /// where they were. Call it before the first [`Publisher::tell`].
    pub fn recall<'a>(&self, events: impl IntoIterator<Item = &'a Event>) {
        let mut counters = lock(&self.counters);
        for event in events {
            counters.count(event);
        }
    }

    /// Tells and counts one event.
    pub fn tell(&mut self, event: Event) {
        lock(&self.counters).count(&event);
        self.told += 1;
        // An error says only that nobody listens.
        let _ = self.events.send(Arc::new(Told { id: self.told, event }));
    }

    /// How many read the events now.
    #[cfg(test)]
    pub(crate) fn listeners(&self) -> usize {
        self.events.receiver_count()
    }

    /// Replaces the status.
    pub fn publish(&self, status: Status) {
        let at = Instant::now();
        self.status.send_replace(Some(Snapshot { status: Arc::new(status), at }));
    }
}

impl Published {
    pub(crate) fn snapshot(&self) -> Option<Snapshot> {
        self.status.borrow().clone()
    }

    /// `None` once the supervisor is gone.
    pub(crate) fn listen(&self) -> Option<broadcast::Receiver<Arc<Told>>> {
        self.events.upgrade().map(|events| events.subscribe())
    }

    pub(crate) fn counters(&self) -> Counters {
        lock(&self.counters).clone()
    }

    pub(crate) const fn build(&self) -> &Build {
        &self.build
    }
}

/// Counting can't be left half done, so what a panicked thread held is as good as ever.
fn lock(counters: &Mutex<Counters>) -> MutexGuard<'_, Counters> {
    counters.lock().unwrap_or_else(PoisonError::into_inner)
}
