//! What is read of the host and set on it: on threads of their own, because a call may block. What is
//! cheap shares one thread; what starts tools has another, which may hang alone.

use std::{
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use tandem_host::{LinkWatch, Probes, probes::Asked};
use tandem_policy::{
    Artifacts, Repair, ThunderboltPort,
    invariant::{Found, Invariant, Sighting, Unknown},
    settings::{Host, Leak},
};
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use super::{artifacts::Asked, child::Shared, launch::Served};

/// Orders that wait; a mend that finds the queue full is asked for again on a later turn.
const ORDERS_MAX: usize = 64;

/// Longest time of one reading of the Thunderbolt ports, in milliseconds. `system_profiler` takes some
/// seconds on an idle Mac, which is more than `host.probe_timeout_ms` gives other tools.
const PORTS_TIMEOUT_MS: u64 = 30_000;

/// How long links get to settle after a change before the ports are read again: a cable that is put in
/// makes several changes over seconds. A link that flaps without end has them read no more often.
const LINKS_SETTLE: Duration = Duration::from_secs(10);

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
    pub(super) fallback_dir: Option<PathBuf>,
    pub(super) state_dir: PathBuf,
    /// Asks what the model needs of memory, or the fallback.
    pub(super) fit: Arc<dyn Fn(Served) -> Command + Send + Sync>,
    /// Whether the ranks' group is to be an RDMA fabric, for which ports are read.
    pub(super) uses_fabric: bool,
}

/// The thread's other end.
pub(super) struct HostThread {
    orders: SyncSender<Order>,
    slow: watch::Sender<Watched>,
}

/// What a change of a link can break.
const OF_LINK: [Invariant; 3] =
    [Invariant::LinkMtu, Invariant::LinkAddress, Invariant::LinkUnbridged];

impl HostThread {
    /// Starts it. To be called within a tokio runtime.
    pub(super) fn start(shared: Shared, watched: Watched) -> Self {
        let (orders, inbox) = sync_channel(ORDERS_MAX);
        let slow = watch::Sender::new(watched.clone());
        tokio::spawn(probe_slow(shared.clone(), slow.subscribe()));
        let relinked = Arc::new(Notify::new());
        tokio::spawn(probe_ports(shared.clone(), slow.subscribe(), Arc::clone(&relinked)));
        std::thread::spawn(move || Reader::new(shared, watched, inbox).run());
        tokio::spawn(watch_links(orders.clone(), relinked));
        Self { orders, slow }
    }

    /// Sets something, then reads it again.
    pub(super) fn mend(&self, repair: Repair) {
        let _ = self.orders.try_send(Order::Mend(repair));
    }

    /// Goes on with another config.
    pub(super) fn watch(&self, watched: Watched) {
        // A full queue is worked off within milliseconds; an old config would stay for ever.
        let _ = self.orders.send(Order::Watch(Box::new(watched.clone())));
        self.slow.send_replace(watched);
    }
}

async fn watch_links(orders: SyncSender<Order>, relinked: Arc<Notify>) {
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
        relinked.notify_one();
    }
}

struct Reader {
    shared: Shared,
    watched: Watched,
    inbox: Receiver<Order>,
    next_poll: Instant,
    next_memory: Instant,
    model: Asked,
    fallback: Asked,
}

impl Reader {
    fn new(shared: Shared, watched: Watched, inbox: Receiver<Order>) -> Self {
        let now = Instant::now();
        Self {
            shared,
            watched,
            inbox,
            next_poll: now,
            next_memory: now,
            model: Asked::default(),
            fallback: Asked::default(),
        }
    }

    fn run(mut self) {
        loop {
            self.poll();
            let next = self.next_poll.min(self.next_memory);
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
                // Policy waits for a reading newer than the mend, a slow one too.
                self.read(&[repair.invariant()]);
            }
            Order::Watch(watched) => {
                self.watched = *watched;
                (self.model, self.fallback) = (Asked::default(), Asked::default());
                let now = Instant::now();
                (self.next_poll, self.next_memory) = (now, now);
            }
        }
    }

    fn poll(&mut self) {
        let now = Instant::now();
        if now >= self.next_poll {
            self.next_poll = now + Duration::from_millis(self.watched.host.poll_ms);
            let cheap: Vec<Invariant> =
                Invariant::ALL.into_iter().filter(|invariant| !invariant.row().is_slow).collect();
            self.read(&cheap);
            let fit = Arc::clone(&self.watched.fit);
            let artifacts = self.model.look(&self.watched.model_dir, || fit(Served::Together));
            if self.shared.facts().artifacts != artifacts {
                self.shared.change(|facts| facts.artifacts = artifacts);
            }
            let fallback = self.watched.fallback_dir.as_deref();
            let fallback = fallback.map(|dir| self.fallback.look(dir, || fit(Served::Alone)));
            let fallback = fallback.unwrap_or(Artifacts::Unread);
            if self.shared.facts().fallback_artifacts != fallback {
                self.shared.change(|facts| facts.fallback_artifacts = fallback);
            }
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

    fn read(&self, invariants: &[Invariant]) {
        let disks = [self.watched.state_dir.clone(), self.watched.model_dir.clone()];
        for invariant in invariants {
            keep(
                &self.shared,
                *invariant,
                tandem_host::read(*invariant, &self.watched.host, &disks),
            );
        }
    }
}

/// What a reader says.
type Answer = Result<(Found, String), Unknown>;

/// Reads what starts tools: rarely, one at a time, and never again what hung. For ever.
async fn probe_slow(shared: Shared, mut watched: watch::Receiver<Watched>) {
    let timeout_ms = watched.borrow().host.probe_timeout_ms;
    let mut probes: Probes<Invariant, (Found, String)> = match Probes::start(timeout_ms) {
        Ok(probes) => probes,
        Err(error) => {
            warn!("costly probes can't be run: {error}");
            return;
        }
    };
    loop {
        let now = watched.borrow_and_update().clone();
        for invariant in Invariant::ALL.into_iter().filter(|invariant| invariant.row().is_slow) {
            let host = now.host.clone();
            probes.ask(invariant, invariant.row().name, move || {
                tandem_host::read(invariant, &host, &[])
            });
        }
        let next = tokio::time::Instant::now() + Duration::from_millis(now.host.slow_poll_ms);
        loop {
            tokio::select! {
                (invariant, answer) = probes.answered() => keep(&shared, invariant, answer),
                changed = watched.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                () = tokio::time::sleep_until(next) => break,
            }
        }
    }
}

/// Reads the Thunderbolt ports while the config asks for a fabric: at the start, when links have settled
/// after a change, and as rarely as what else starts tools. For ever.
async fn probe_ports(shared: Shared, mut watched: watch::Receiver<Watched>, relinked: Arc<Notify>) {
    let mut probes: Probes<(), Vec<ThunderboltPort>> = match Probes::start(PORTS_TIMEOUT_MS) {
        Ok(probes) => probes,
        Err(error) => {
            warn!("the Thunderbolt ports can't be read: {error}");
            return;
        }
    };
    loop {
        let now = watched.borrow_and_update().clone();
        if !now.uses_fabric {
            keep_ports(&shared, None);
        } else if probes.ask((), "the Thunderbolt ports", tandem_host::thunderbolt_ports)
            == Asked::Pending
        {
            // What is being read may be older than the change.
            relinked.notify_one();
        }
        let next = tokio::time::Instant::now() + Duration::from_millis(now.host.slow_poll_ms);
        loop {
            tokio::select! {
                ((), answer) = probes.answered() => {
                    if let Err(Unknown::Failed(why) | Unknown::Hung(why)) = &answer {
                        warn!("the Thunderbolt ports can't be read: {why}");
                    }
                    keep_ports(&shared, answer.ok().filter(|_| now.uses_fabric));
                }
                changed = watched.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                () = relinked.notified() => {
                    tokio::time::sleep(LINKS_SETTLE).await;
                    break;
                }
                () = tokio::time::sleep_until(next) => break,
            }
        }
    }
}

/// Keeps what the ports are now; what can't be read any more is not known any more.
fn keep_ports(shared: &Shared, ports: Option<Vec<ThunderboltPort>>) {
    if shared.facts().thunderbolt != ports {
        shared.change(|facts| facts.thunderbolt = ports);
    }
}

/// Keeps a reading, and wakes the turn if it is not what it was.
fn keep(shared: &Shared, invariant: Invariant, answer: Answer) {
    let sighting = match answer {
        Ok((found, source)) => Sighting::Known { found, source, at_ms: tandem_host::now().boot_ms },
        Err(unknown) => Sighting::Unknown(unknown),
    };
    let old = shared.facts().invariants.insert(invariant, sighting.clone());
    if old.is_none_or(|old| !is_same(&old, &sighting)) {
        shared.change(|_| {});
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
