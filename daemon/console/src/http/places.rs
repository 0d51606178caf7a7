//! Who has a place. Anybody on this machine may connect, so whoever holds a place without asking
//! anything loses it to who comes: the oldest first.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

/// So many places; clones share them.
#[derive(Clone, Debug)]
pub(super) struct Places {
    taken: Arc<Mutex<VecDeque<Arc<Holder>>>>,
    max: usize,
}

#[derive(Debug, Default)]
struct Holder {
    /// Requests that are being answered.
    answering: AtomicUsize,
    cut: Notify,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    holder: Arc<Holder>,
    places: Places,
}

/// Keeps the place from being taken away, until it is dropped.
#[derive(Debug)]
pub(super) struct Answering(Arc<Holder>);

impl Places {
    pub(super) fn new(max: usize) -> Self {
        Self { taken: Arc::default(), max }
    }

    /// A place: a free one, or that of the oldest holder for whom nothing is being answered. `None` if
    /// there is no such one.
    pub(super) fn take(&self) -> Option<Place> {
        let holder = Arc::new(Holder::default());
        let mut taken = self.lock();
        if taken.len() >= self.max {
            let idle = taken.iter().position(|old| old.answering.load(Ordering::Acquire) == 0)?;
            if let Some(old) = taken.remove(idle) {
                old.cut.notify_one();
            }
        }
        taken.push_back(Arc::clone(&holder));
        drop(taken);
        Some(Place { holder, places: self.clone() })
    }

    /// Pushes and removals are whole or not at all, so what a panicked thread held is sound.
    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Holder>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Returns once the place was given to somebody else.
    pub(super) async fn lost(&self) {
        self.holder.cut.notified().await;
    }

    /// While this lives, something is being answered.
    pub(super) fn answering(&self) -> Answering {
        self.holder.answering.fetch_add(1, Ordering::AcqRel);
        Answering(Arc::clone(&self.holder))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().retain(|holder| !Arc::ptr_eq(holder, &self.holder));
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answering.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn the_oldest_idle_place_goes_to_who_comes_and_a_busy_one_stays() {
        let places = Places::new(3);
        let held: Vec<Place> = (0..3).map(|_| places.take().unwrap()).collect();
        let busy = held[0].answering();
        let newcomer = places.take().unwrap();
        assert!(held[0].lost().now_or_never().is_none(), "it is being answered");
        assert!(held[1].lost().now_or_never().is_some(), "the oldest idle one");
        assert!(held[2].lost().now_or_never().is_none());
        drop(busy);
        let _next = places.take().unwrap();
        assert!(held[0].lost().now_or_never().is_some(), "it is idle again");
        drop((newcomer, held));
        let held: Vec<Place> = (0..2).map(|_| places.take().unwrap()).collect();
        let _busy: Vec<Answering> = held.iter().map(Place::answering).collect();
        let third = places.take();
        let _third = third.as_ref().map(Place::answering);
        assert!(places.take().is_none(), "all are being answered");
    }
}
