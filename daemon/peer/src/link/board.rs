//! What is known of the other nodes and of the ways to them: written by the connections, read by
//! the supervisor.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tandem_policy::pair::{PathSeen, PeerSeen};

use super::{
    PeerPlace, Secrets,
    heard::{Heard, Taken},
    message::Account,
    telling::Telling,
    trust::Trust,
};
use crate::identity::Fingerprint;
use crate::manifest::Manifest;

/// Least time between two lines in the log about the same path: one that flaps must not fill it.
const LOG_PAUSE: Duration = Duration::from_secs(60);

/// Least time between two questions for the same node's list of files, on whatever path.
const MANIFEST_PAUSE: Duration = Duration::from_secs(5);

/// All that the connections share.
pub(super) struct Board {
    pub(super) node: String,
    pub(super) report: Duration,
    pub(super) silence: Duration,
    pub(super) telling: Telling,
    pub(super) trust: Arc<Trust>,
    peers: Mutex<Vec<Peer>>,
    on_change: Box<dyn Fn() + Send + Sync>,
    boot_ms: Box<dyn Fn() -> u64 + Send + Sync>,
}

struct Peer {
    node: String,
    /// The certificate that all below was heard from.
    pin: Option<Fingerprint>,
    heard: Heard,
    manifest_asked: Option<Instant>,
    paths: Vec<Path>,
}

struct Path {
    address: SocketAddr,
    answered: Option<Instant>,
    round_trip: Option<Duration>,
    throughput_mbps: Option<u64>,
    problem: String,
    logged: Option<Instant>,
}

/// The settings and outer parts of a board.
pub(super) struct Parts {
    pub(super) node: String,
    pub(super) report: Duration,
    pub(super) silence: Duration,
    pub(super) telling: Telling,
    pub(super) trust: Arc<Trust>,
    pub(super) on_change: Box<dyn Fn() + Send + Sync>,
    pub(super) boot_ms: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl Board {
    /// Nothing is known yet.
    pub(super) fn new(parts: Parts, peers: &[PeerPlace]) -> Self {
        let path = |address: &SocketAddr| Path {
            address: *address,
            answered: None,
            round_trip: None,
            throughput_mbps: None,
            problem: "not connected yet".into(),
            logged: None,
        };
        let peer = |place: &PeerPlace| Peer {
            node: place.name.clone(),
            pin: None,
            heard: Heard::default(),
            manifest_asked: None,
            paths: place.addresses.iter().map(path).collect(),
        };
        let Parts { node, report, silence, telling, trust, on_change, boot_ms } = parts;
        let peers = Mutex::new(peers.iter().map(peer).collect());
        Self { node, report, silence, telling, trust, peers, on_change, boot_ms }
    }

    /// Takes an account that came from a node with this certificate.
    pub(super) fn heard(
        &self,
        node: &str,
        pin: Fingerprint,
        account: Account,
        said_after: Instant,
    ) -> Taken {
        let boot_ms = (self.boot_ms)();
        let taken = self.with_peer(node, Taken::Dropped, |peer| {
            // The pins may have changed while the account was on its way.
            match peer.pin == Some(pin) {
                true => peer.heard.take(account, said_after, Instant::now(), boot_ms),
                false => Taken::Dropped,
            }
        });
        if taken == Taken::Changed {
            (self.on_change)();
        }
        taken
    }

    /// Forgets what was heard from certificates that are no longer those of their nodes.
    pub(super) fn follow_pins(&self) {
        let mut is_changed = false;
        for peer in self.lock().iter_mut() {
            let pin = self.trust.pin(&peer.node);
            if peer.pin != pin {
                is_changed = true;
                peer.pin = pin;
                peer.heard = Heard::default();
                peer.manifest_asked = None;
            }
        }
        if is_changed {
            (self.on_change)();
        }
    }

    /// Notes that a path answered.
    pub(super) fn answered(&self, node: &str, address: SocketAddr, round_trip: Duration) {
        let was_up = self.with_path(node, address, |path| {
            let was_up = path.is_up(self.silence);
            path.answered = Some(Instant::now());
            path.round_trip = Some(round_trip);
            path.problem.clear();
            if !was_up && path.may_log() {
                tracing::info!(peer = node, %address, "a path is up");
            }
            was_up
        });
        if was_up == Some(false) {
            (self.on_change)();
        }
    }

    /// Notes why a path is down.
    pub(super) fn failed(&self, node: &str, address: SocketAddr, problem: &str) {
        let is_new = self.with_path(node, address, |path| {
            let is_new = path.problem != problem;
            path.answered = None;
            path.problem = problem.to_owned();
            if is_new && path.may_log() {
                tracing::warn!(peer = node, %address, problem, "a path is down");
            }
            is_new
        });
        if is_new == Some(true) {
            (self.on_change)();
        }
    }

    /// Notes how fast a path is.
    pub(super) fn measured(&self, node: &str, address: SocketAddr, throughput_mbps: u64) {
        self.with_path(node, address, |path| path.throughput_mbps = Some(throughput_mbps));
    }

    /// Whether to ask for a node's list of files now; then nobody else does for a while.
    pub(super) fn should_ask_manifest(&self, node: &str) -> bool {
        self.with_peer(node, false, |peer| {
            let is_wanted = self
                .telling
                .with_manifest(|own| own.is_some_and(|own| peer.heard.wants_manifest(own)));
            let is_time = peer.manifest_asked.is_none_or(|at| at.elapsed() >= MANIFEST_PAUSE);
            if is_wanted && is_time {
                peer.manifest_asked = Some(Instant::now());
            }
            is_wanted && is_time
        })
    }

    /// Takes a node's list of files.
    pub(super) fn heard_manifest(&self, node: &str, pin: Fingerprint, manifest: Option<Manifest>) {
        self.with_peer(node, (), |peer| {
            if peer.pin == Some(pin) {
                peer.heard.take_manifest(manifest);
            }
        });
        (self.on_change)();
    }

    /// All peers, as policy looks at them.
    pub(super) fn seen(&self) -> Vec<PeerSeen> {
        let seen = |peer: &Peer| PeerSeen {
            node: peer.node.clone(),
            is_paired: peer.pin.is_some(),
            paths: peer.paths.iter().map(|path| path.seen(self.silence)).collect(),
            report: peer.heard.report().cloned(),
            differences: self.telling.with_manifest(|own| peer.heard.differences(&peer.node, own)),
        };
        self.lock().iter().map(seen).collect()
    }

    /// The newest secrets of a node.
    pub(super) fn secrets(&self, node: &str) -> Option<Secrets> {
        self.with_peer(node, None, |peer| peer.heard.secrets().cloned())
    }

    fn with_peer<T>(&self, node: &str, none: T, what: impl FnOnce(&mut Peer) -> T) -> T {
        match self.lock().iter_mut().find(|peer| peer.node == node) {
            Some(peer) => what(peer),
            None => none,
        }
    }

    fn with_path<T>(
        &self,
        node: &str,
        address: SocketAddr,
        what: impl FnOnce(&mut Path) -> T,
    ) -> Option<T> {
        self.with_peer(node, None, |peer| {
            peer.paths.iter_mut().find(|path| path.address == address).map(what)
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Path {
    fn may_log(&mut self) -> bool {
        let may = self.logged.is_none_or(|at| at.elapsed() >= LOG_PAUSE);
        if may {
            self.logged = Some(Instant::now());
        }
        may
    }

    fn is_up(&self, silence: Duration) -> bool {
        self.answered.is_some_and(|at| at.elapsed() <= silence)
    }

    fn seen(&self, silence: Duration) -> PathSeen {
        let is_up = self.is_up(silence);
        let problem = match (is_up, self.problem.is_empty()) {
            (true, _) => String::new(),
            (false, false) => self.problem.clone(),
            (false, true) => format!("no answer for {} ms", silence.as_millis()),
        };
        PathSeen {
            address: self.address.to_string(),
            is_up,
            round_trip_us: self.round_trip.and_then(|it| u64::try_from(it.as_micros()).ok()),
            throughput_mbps: self.throughput_mbps,
            problem,
        }
    }
}
