//! What is read of the host and set on it: on threads of their own, because a call may block. What is
//! cheap shares one thread; what waits for a disk and what starts tools have others, which may hang alone.

mod disks;
mod orders;

use std::{
    io,
    path::PathBuf,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use tandem_host::{LinkWatch, Probes, probes};
use tandem_policy::{
    Repair, ThunderboltPort,
    invariant::{Found, Invariant, Sighting, Unknown},
    settings::{Host, Leak},
};
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use self::orders::Orders;
use super::{child::Shared, launch::Served};

/// Longest time of one reading of the Thunderbolt ports, in milliseconds. `system_profiler` takes some
/// seconds on an idle Mac, which is more than `host.probe_timeout_ms` gives other tools.
const PORTS_TIMEOUT_MS: u64 = 30_000;

/// How long links get to settle after a change before the ports are read again: a cable that is put in
/// makes several changes over seconds. A link that flaps without end has them read no more often.
const LINKS_SETTLE: Duration = Duration::from_secs(10);

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
    orders: Orders,
    watched: watch::Sender<Watched>,
}

/// What a change of a link can break.
const OF_LINK: [Invariant; 3] =
    [Invariant::LinkMtu, Invariant::LinkAddress, Invariant::LinkUnbridged];

impl HostThread {
    /// Starts it. To be called within a tokio runtime.
    pub(super) fn start(shared: Shared, watched: Watched) -> Self {
        let orders = Orders::default();
        let watched = watch::Sender::new(watched);
        tokio::spawn(probe_slow(shared.clone(), watched.subscribe()));
        let relinked = Arc::new(Notify::new());
        tokio::spawn(probe_ports(shared.clone(), watched.subscribe(), Arc::clone(&relinked)));
        tokio::spawn(disks::watch(shared.clone(), watched.subscribe()));
        let reader = Reader::new(shared, watched.subscribe(), orders.clone());
        std::thread::spawn(move || reader.run());
        let links = orders.clone();
        tokio::spawn(watch_links(REOPEN_PAUSE, LinkWatch::open, move || {
            links.links_changed();
            relinked.notify_one();
        }));
        Self { orders, watched }
    }

    /// Sets something, then reads it again.
    pub(super) fn mend(&self, repair: Repair) {
        self.orders.mend(repair);
    }

    /// Goes on with another config.
    pub(super) fn watch(&self, watched: Watched) {
        self.watched.send_replace(watched);
        self.orders.config_changed();
    }
}

impl Drop for HostThread {
    fn drop(&mut self) {
        self.orders.close();
    }
}

/// Pause before the system is asked again to announce changes of links.
const REOPEN_PAUSE: Duration = Duration::from_secs(5);

/// Tells each change of a link or an address, and once after every new beginning, because a change in
/// between is not announced. For ever: what the system refuses now it may grant later.
async fn watch_links<L: Changes>(
    pause: Duration,
    open: impl Fn() -> io::Result<L>,
    tell: impl Fn(),
) {
    let mut is_first = true;
    loop {
        let error = match open() {
            Ok(mut links) => {
                if !is_first {
                    info!("changes of links are announced again");
                    tell();
                }
                loop {
                    match links.changed().await {
                        Ok(()) => tell(),
                        Err(error) => break error,
                    }
                }
            }
            Err(error) => error,
        };
        warn!("changes of links are seen late for now, by polling: {error}");
        is_first = false;
        tokio::time::sleep(pause).await;
    }
}

/// What announces changes.
trait Changes {
    async fn changed(&mut self) -> io::Result<()>;
}

impl Changes for LinkWatch {
    async fn changed(&mut self) -> io::Result<()> {
        Self::changed(self).await
    }
}

struct Reader {
    shared: Shared,
    watched: watch::Receiver<Watched>,
    orders: Orders,
    next_poll: Instant,
    next_memory: Instant,
}

impl Reader {
    fn new(shared: Shared, watched: watch::Receiver<Watched>, orders: Orders) -> Self {
        let now = Instant::now();
        Self { shared, watched, orders, next_poll: now, next_memory: now }
    }

    fn run(mut self) {
        loop {
            let watched = self.watched.borrow().clone();
            self.poll(&watched);
            let Some(waiting) = self.orders.take(self.next_poll.min(self.next_memory)) else {
                return;
            };
            if waiting.links {
                self.read(&OF_LINK, &watched.host);
            }
            for repair in waiting.mends {
                match tandem_host::mend(&repair) {
                    Ok(()) => info!("set: {repair:?}"),
                    Err(error) => warn!("{:#}", anyhow::Error::new(error)),
                }
                // Policy waits for a reading newer than the mend, a slow one too.
                self.read(&[repair.invariant()], &watched.host);
            }
            if waiting.config {
                let now = Instant::now();
                (self.next_poll, self.next_memory) = (now, now);
            }
        }
    }

    fn poll(&mut self, watched: &Watched) {
        let now = Instant::now();
        if now >= self.next_poll {
            self.next_poll = now + Duration::from_millis(watched.host.poll_ms);
            let is_ours = |invariant: &Invariant| {
                !invariant.row().is_slow && *invariant != Invariant::DiskSpace
            };
            let cheap: Vec<Invariant> = Invariant::ALL.into_iter().filter(is_ours).collect();
            self.read(&cheap, &watched.host);
        }
        if now >= self.next_memory {
            self.next_memory = now + Duration::from_millis(watched.leak.sample_ms);
            let memory = tandem_host::memory(watched.leak.owner_min_mib << 20)
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

    fn read(&self, invariants: &[Invariant], host: &Host) {
        for invariant in invariants {
            keep(&self.shared, *invariant, tandem_host::read(*invariant, host, &[]));
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
            == probes::Asked::Pending
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

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, sync::Mutex};

    use super::*;

    /// A link watch by script: what each waiting tells, until the system ends it.
    struct Scripted(VecDeque<io::Result<()>>);

    impl Changes for Scripted {
        async fn changed(&mut self) -> io::Result<()> {
            match self.0.pop_front() {
                Some(told) => told,
                None => std::future::pending().await,
            }
        }
    }

    #[tokio::test]
    async fn changes_of_links_are_told_again_after_the_system_failed() {
        let fails = || io::Error::other("no buffer space");
        let scripts: [io::Result<Vec<io::Result<()>>>; 4] = [
            Ok(vec![Ok(()), Err(fails())]),
            Err(fails()),
            Ok(vec![Err(fails())]),
            Ok(vec![Ok(()), Ok(())]),
        ];
        let scripts = Mutex::new(VecDeque::from(scripts));
        let (told, mut tells) = tokio::sync::mpsc::unbounded_channel();
        let open = || {
            let next = scripts.lock().unwrap().pop_front().expect("opened too often");
            next.map(|script| Scripted(script.into()))
        };
        let watching = watch_links(Duration::from_millis(1), open, || told.send(()).unwrap());
        let counting = async {
            // One of the first, one for each of two new beginnings, two of the last.
            for _ in 0..5 {
                tells.recv().await;
            }
        };
        tokio::select! {
            () = watching => panic!("it ended"),
            () = counting => {}
        }
        assert!(tells.try_recv().is_err() && scripts.lock().unwrap().is_empty());
    }
}
