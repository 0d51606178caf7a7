//! The gang forms: rank 0 listens until every other rank has joined, then no more.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tandem_wire::way;

use super::doorway::Doorway;
use super::handshake::{self, Rejection, Verdict};
use super::parity::Parity;
use super::seal::{ControlKey, Opener, Sealer};
use crate::EngineError;

/// How long rank 0 waits for its port, which a rank of the last epoch may hold while it ends.
const BIND_PATIENCE: Duration = Duration::from_secs(3);
/// Pause between attempts to reach rank 0.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How long one attempt to reach rank 0 may take.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// What a rank is, as the ranks must agree on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// Run of the gang.
    pub epoch: u64,
    /// This rank.
    pub rank: u32,
    /// How many ranks there are.
    pub world: u32,
    /// All that must be equal on all of them.
    pub parity: Parity,
    /// Where this rank listens for the ring; 0 where there is none.
    pub ring_port: u16,
}

/// Another rank, authenticated and welcome.
pub struct Peer {
    /// Which.
    pub rank: u32,
    /// Where each rank listens for the ring, in order; zeros where there is none.
    pub ring_ports: Vec<u16>,
    pub(super) stream: TcpStream,
    pub(super) sealer: Sealer,
    pub(super) opener: Opener,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("rank", &self.rank).finish_non_exhaustive()
    }
}

/// How long forming may take, and a way to give it up.
#[derive(Clone, Debug)]
pub struct Patience {
    /// `form_timeout_ms`, for the error.
    pub timeout_ms: u64,
    /// When it ends.
    pub deadline: Instant,
    /// Set to give up early.
    pub cancelled: Arc<AtomicBool>,
}

impl Patience {
    /// Starts now.
    pub fn new(timeout_ms: u64, cancelled: Arc<AtomicBool>) -> Self {
        let deadline = Instant::now() + Duration::from_millis(timeout_ms);
        Self { timeout_ms, deadline, cancelled }
    }

    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// Rank 0's part: all other ranks in order, or `None` if it was cancelled.
pub fn lead(
    address: SocketAddr,
    key: &ControlKey,
    terms: &Terms,
    patience: &Patience,
) -> Result<Option<Vec<Peer>>, EngineError> {
    let listener = listen(address, patience)?;
    let mut gathering = Gathering {
        key,
        terms,
        doorway: Doorway::new(),
        joined: (1..terms.world).map(|_| None).collect(),
    };
    let formed = gathering.run(&listener, patience);
    if let Err(error) = &formed {
        gathering.refuse_all(error);
    }
    formed
}

fn listen(address: SocketAddr, patience: &Patience) -> Result<TcpListener, EngineError> {
    let give_up = patience.deadline.min(Instant::now() + BIND_PATIENCE);
    loop {
        match TcpListener::bind(address).and_then(|l| l.set_nonblocking(true).map(|()| l)) {
            Ok(listener) => return Ok(listener),
            Err(source) if Instant::now() >= give_up || patience.is_cancelled() => {
                let what = format!(
                    "the control channel can't listen on {address}; is it rank 0's own address \
                     and engine.control_port free?"
                );
                return Err(EngineError::Os { what, source });
            }
            Err(_) => std::thread::sleep(RETRY_PAUSE),
        }
    }
}

struct Gathering<'a> {
    key: &'a ControlKey,
    terms: &'a Terms,
    doorway: Doorway<Peer>,
    /// By rank, from 1.
    joined: Vec<Option<Peer>>,
}

impl Gathering<'_> {
    fn run(
        &mut self,
        listener: &TcpListener,
        patience: &Patience,
    ) -> Result<Option<Vec<Peer>>, EngineError> {
        let (key, terms) = (self.key.clone(), self.terms.clone());
        let cancelled = Arc::clone(&patience.cancelled);
        let handshake = move |stream| handshake::admit(stream, &key, &terms, &cancelled);
        while self.joined.iter().any(Option::is_none) {
            if patience.is_cancelled() {
                return Ok(None);
            }
            if patience.is_over() {
                return Err(self.timed_out(patience.timeout_ms));
            }
            self.doorway.accept(listener, &handshake)?;
            let Some(peer) = self.doorway.next()? else { continue };
            tracing::info!(rank = peer.rank, "a rank joined");
            // The same rank twice: it came again, so its first connection is dead.
            if let Some(place) = self.joined.get_mut(peer.rank as usize - 1) {
                *place = Some(peer);
            }
        }
        let mut peers: Vec<Peer> = self.joined.iter_mut().filter_map(Option::take).collect();
        let theirs = peers.iter().flat_map(|peer| peer.ring_ports.iter().copied());
        let ring_ports: Vec<u16> = std::iter::once(self.terms.ring_port).chain(theirs).collect();
        for peer in &mut peers {
            peer.ring_ports.clone_from(&ring_ports);
            let welcome = Verdict::Welcome { ring_ports: ring_ports.clone() };
            let told = peer.sealer.write(&mut &peer.stream, &welcome);
            told.map_err(|e| EngineError::PeerLost { rank: peer.rank, reason: e.to_string() })?;
        }
        Ok(Some(peers))
    }

    /// Tells the ranks that did join why there will be no gang, so that they don't wait for it.
    fn refuse_all(&mut self, error: &EngineError) {
        for peer in self.joined.iter_mut().flatten() {
            let refused = Verdict::Refused { code: error.exit_code(), reason: error.to_string() };
            // One that is gone needs no telling.
            let _ = peer.sealer.write(&mut &peer.stream, &refused);
        }
    }

    fn timed_out(&self, timeout_ms: u64) -> EngineError {
        let missing: Vec<u32> =
            (1..).zip(&self.joined).filter(|(_, p)| p.is_none()).map(|(rank, _)| rank).collect();
        let seen = self.doorway.refused();
        EngineError::Group(format!("ranks {missing:?} did not join in {timeout_ms} ms{seen}"))
    }
}

/// Every other rank's part: rank 0, or `None` if it was cancelled.
pub fn follow(
    address: SocketAddr,
    key: &ControlKey,
    terms: &Terms,
    patience: &Patience,
) -> Result<Option<Peer>, EngineError> {
    let mut last = String::from("never reached");
    loop {
        if patience.is_cancelled() {
            return Ok(None);
        }
        let left = patience.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(EngineError::Group(format!(
                "rank 0 at {address} did not take this rank in {} ms; last attempt: {last}",
                patience.timeout_ms
            )));
        }
        let stream = match way::connect_timeout(address, left.min(CONNECT_TIMEOUT)) {
            Ok(stream) => stream,
            Err(e) => {
                last = e.to_string();
                std::thread::sleep(RETRY_PAUSE.min(left));
                continue;
            }
        };
        // On one host, a connection to a port nobody listens on may by chance get that very port
        // as its own and reach itself; held open it would keep rank 0 from the port.
        if stream.local_addr().ok() == stream.peer_addr().ok() {
            continue;
        }
        let (deadline, cancelled) = (patience.deadline, &patience.cancelled);
        match handshake::join(stream, key, terms, deadline, cancelled) {
            Ok(peer) => return Ok(Some(peer)),
            Err(Rejection::Fatal(error)) => return Err(error),
            Err(Rejection::Retry(reason)) => {
                last = reason;
                std::thread::sleep(RETRY_PAUSE.min(left));
            }
        }
    }
}
