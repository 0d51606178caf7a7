//! What is read of the host and set on it: on a thread of its own, because a call may block.

use std::{
    path::PathBuf,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    time::{Duration, Instant},
};

use tandem_host::LinkWatch;
use tandem_policy::{
    Repair,
    invariant::{Invariant, Sighting},
    settings::{Host, Leak},
};
use tracing::{info, warn};

use super::{artifacts, child::Shared};

/// Orders that wait; a mend that finds the queue full is asked for again on a later turn.
const ORDERS_MAX: usize = 64;

/// What the thread is asked for.
enum Order {
    /// The system announced a change of a link or an address.
    Link,
    Mend(Repair),
    /// Another config is in force.
    Watch(Box<Watched>),
}

/// What of the config the thread needs.
#[derive(Clone)]
pub(super) struct Watched {
    pub(super) host: Host,
    pub(super) leak: Leak,
    pub(super) model_dir: PathBuf,
    pub(super) state_dir: PathBuf,
}

/// The thread's other end.
#[derive(Clone)]
pub(super) struct HostThread(SyncSender<Order>);

/// What a change of a link can break.
const OF_LINK: [Invariant; 3] =
    [Invariant::LinkMtu, Invariant::LinkAddress, Invariant::LinkUnbridged];

impl HostThread {
    /// Starts it. To be called within a tokio runtime.
    pub(super) fn start(shared: Shared, watched: Watched) -> Self {
        let (orders, inbox) = sync_channel(ORDERS_MAX);
        std::thread::spawn(move || Reader::new(shared, watched, inbox).run());
        tokio::spawn(watch_links(orders.clone()));
        Self(orders)
    }

    /// Sets something, then reads it again.
    pub(super) fn mend(&self, repair: Repair) {
        let _ = self.0.try_send(Order::Mend(repair));
    }

    /// Goes on with another config.
    pub(super) fn watch(&self, watched: Watched) {
        // A full queue is worked off within milliseconds; an old config would stay for ever.
        let _ = self.0.send(Order::Watch(Box::new(watched)));
    }
}

async fn watch_links(orders: SyncSender<Order>) {
    let mut links = match LinkWatch::open() {
        Ok(links) => links,
        Err(error) => {
            warn!("changes of links are seen late, by polling: {error}");
            return;
        }
    };
    loop {
        if let Err(error) = links.changed().await {
            warn!("changes of links are seen late, by polling: {error}");
            return;
        }
        // A full queue reads the links anyway.
        let _ = orders.try_send(Order::Link);
    }
}

struct Reader {
    shared: Shared,
    watched: Watched,
    inbox: Receiver<Order>,
    next_poll: Instant,
    next_slow_poll: Instant,
    next_memory: Instant,
}

impl Reader {
    fn new(shared: Shared, watched: Watched, inbox: Receiver<Order>) -> Self {
        let now = Instant::now();
        Self { shared, watched, inbox, next_poll: now, next_slow_poll: now, next_memory: now }
    }

    fn run(mut self) {
        loop {
            self.poll();
            let next = self.next_poll.min(self.next_slow_poll).min(self.next_memory);
            match self.inbox.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(order) => self.obey(order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Link => self.read(&OF_LINK),
            Order::Mend(repair) => {
                match tandem_host::mend(&repair) {
                    Ok(()) => info!("set: {repair:?}"),
                    Err(error) => warn!("{:#}", anyhow::Error::new(error)),
                }
                self.read(&[repair.invariant()]);
            }
            Order::Watch(watched) => {
                self.watched = *watched;
                let now = Instant::now();
                (self.next_poll, self.next_slow_poll, self.next_memory) = (now, now, now);
            }
        }
    }

    fn poll(&mut self) {
        let now = Instant::now();
        if now >= self.next_poll {
            self.next_poll = now + Duration::from_millis(self.watched.host.poll_ms);
            self.read_all(false);
            let artifacts = artifacts::look(&self.watched.model_dir);
            if self.shared.facts().artifacts != artifacts {
                self.shared.change(|facts| facts.artifacts = artifacts);
            }
        }
        if now >= self.next_slow_poll {
            self.next_slow_poll = now + Duration::from_millis(self.watched.host.slow_poll_ms);
            self.read_all(true);
        }
        if now >= self.next_memory {
            self.next_memory = now + Duration::from_millis(self.watched.leak.sample_ms);
            let memory = tandem_host::memory(self.watched.leak.owner_min_mib << 20)
                .inspect_err(|error| warn!("the host's memory can't be read: {error}"))
                .ok();
            // An old sample ages by itself; nothing known is not put in its place.
            if let Some(memory) = memory {
                let is_first = self.shared.facts().memory.replace(memory).is_none();
                if is_first {
                    self.shared.change(|_| {});
                }
            }
        }
    }

    fn read_all(&self, slow: bool) {
        let of_period: Vec<Invariant> = Invariant::ALL
            .into_iter()
            .filter(|invariant| invariant.row().is_slow == slow)
            .collect();
        self.read(&of_period);
    }

    /// Reads some and wakes the turn if one of them is not what it was.
    fn read(&self, invariants: &[Invariant]) {
        let disks = [self.watched.state_dir.clone(), self.watched.model_dir.clone()];
        let sightings: Vec<(Invariant, Sighting)> = invariants
            .iter()
            .map(|invariant| {
                let sighting = match tandem_host::read(*invariant, &self.watched.host, &disks) {
                    Ok((found, source)) => {
                        Sighting::Known { found, source, at_ms: tandem_host::now().boot_ms }
                    }
                    Err(unknown) => Sighting::Unknown(unknown),
                };
                (*invariant, sighting)
            })
            .collect();
        let mut facts = self.shared.facts();
        let mut is_news = false;
        for (invariant, sighting) in sightings {
            let old = facts.invariants.insert(invariant, sighting.clone());
            is_news |= old.is_none_or(|old| !is_same(&old, &sighting));
        }
        drop(facts);
        if is_news {
            self.shared.change(|_| {});
        }
    }
}

/// Whether two sightings tell the same, whenever they were made.
fn is_same(old: &Sighting, new: &Sighting) -> bool {
    match (old, new) {
        (Sighting::Known { found: a, .. }, Sighting::Known { found: b, .. }) => a == b,
        (Sighting::Unknown(a), Sighting::Unknown(b)) => a == b,
        _ => false,
    }
}
