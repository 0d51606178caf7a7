//! What the host's thread is asked for. Each kind waits once at most, and the newest counts, so nobody
//! who asks ever waits and nothing that was asked for is lost, however long the thread is away.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tandem_policy::Repair;

/// What waits.
#[derive(Default)]
pub(super) struct Waiting {
    /// Whether the system announced a change of a link or an address.
    pub(super) links: bool,
    /// What to set: each thing once, in the order in which they were asked for first.
    pub(super) mends: Vec<Repair>,
    /// Whether another config is in force.
    pub(super) config: bool,
    is_closed: bool,
}

impl Waiting {
    const fn is_empty(&self) -> bool {
        !self.links && self.mends.is_empty() && !self.config
    }

    fn mend(&mut self, repair: Repair) {
        match self.mends.iter_mut().find(|known| is_of_same(known, &repair)) {
            Some(known) => *known = repair,
            None => self.mends.push(repair),
        }
    }
}

/// Whether two repairs set the same thing. An invariant of the power settings may have several keys.
fn is_of_same(one: &Repair, other: &Repair) -> bool {
    let key = |repair: &Repair| match repair {
        Repair::Power { key, .. } => Some(key.clone()),
        _ => None,
    };
    one.invariant() == other.invariant() && key(one) == key(other)
}

/// Both ends of it.
#[derive(Clone, Default)]
pub(super) struct Orders(Arc<(Mutex<Waiting>, Condvar)>);

impl Orders {
    /// The system announced a change of a link or an address.
    pub(super) fn links_changed(&self) {
        self.add(|waiting| waiting.links = true);
    }

    /// Something is to be set, in place of what waits for the same thing.
    pub(super) fn mend(&self, repair: Repair) {
        self.add(|waiting| waiting.mend(repair));
    }

    /// Another config is in force.
    pub(super) fn config_changed(&self) {
        self.add(|waiting| waiting.config = true);
    }

    /// Nothing more is asked for.
    pub(super) fn close(&self) {
        self.add(|waiting| waiting.is_closed = true);
    }

    /// Takes what waits, at the latest at this time, when it may be nothing; `None` once it is closed.
    pub(super) fn take(&self, deadline: Instant) -> Option<Waiting> {
        let mut waiting = self.lock();
        loop {
            if waiting.is_closed {
                return None;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if !waiting.is_empty() || left.is_zero() {
                return Some(std::mem::take(&mut *waiting));
            }
            let woken = self.0.1.wait_timeout(waiting, left);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn add(&self, change: impl FnOnce(&mut Waiting)) {
        change(&mut self.lock());
        self.0.1.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn mtu(mtu_bytes: u32) -> Repair {
        Repair::LinkMtu { link: "en5".into(), mtu_bytes }
    }

    fn power(key: &str) -> Repair {
        Repair::Power { key: key.into(), value: 0 }
    }

    #[test]
    fn who_asks_never_waits_and_the_newest_of_each_kind_is_kept() {
        let orders = Orders::default();
        // Nobody takes anything: a thread that is away for hours.
        for round in 0..10_000 {
            orders.links_changed();
            orders.config_changed();
            orders.mend(mtu(round));
            orders.mend(power("sleep"));
            orders.mend(power("displaysleep"));
        }
        let waiting = orders.take(Instant::now()).unwrap();
        assert!(waiting.links && waiting.config);
        assert_eq!(waiting.mends, [mtu(9_999), power("sleep"), power("displaysleep")]);
        assert!(orders.take(Instant::now()).unwrap().is_empty());
    }

    #[test]
    fn what_is_asked_for_wakes_the_thread_and_closing_ends_it() {
        let orders = Orders::default();
        let taker = orders.clone();
        let hour = Duration::from_secs(3_600);
        let thread = std::thread::spawn(move || {
            let waiting = taker.take(Instant::now() + hour).unwrap();
            (waiting.mends, taker.take(Instant::now() + hour).is_none())
        });
        orders.mend(mtu(9_000));
        while !orders.lock().is_empty() {
            std::thread::yield_now();
        }
        orders.close();
        assert_eq!(thread.join().unwrap(), (vec![mtu(9_000)], true));
    }
}
