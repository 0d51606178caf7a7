//! The gang forms: rank 0 listens until every other rank has joined, then no more.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::handshake::{self, Rejection, Verdict};
use super::parity::Parity;
use super::seal::{ControlKey, Opener, Sealer};
use crate::EngineError;

/// Most connections that have not proved themselves at a time. Honest ones are at most seven (eight
/// ranks) and take milliseconds.
const UNPROVED_MAX: usize = 8;
/// Age from which an unproved connection gives way to a newer one when there are too many, so that
/// strangers who hold theirs open keep nobody out.
const UNPROVED_AGE: Duration = Duration::from_millis(250);
/// How long rank 0 waits for its port, which a rank of the last epoch may hold while it ends.
const BIND_PATIENCE: Duration = Duration::from_secs(3);
/// Pause between looks at the listener: forming takes seconds and happens once.
const POLL: Duration = Duration::from_millis(20);
/// Pause between attempts to reach rank 0.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How long one attempt to reach rank 0 may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

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
}

/// Another rank, authenticated and welcome.
pub struct Peer {
    /// Which.
    pub rank: u32,
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

    fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    fn is_cancelled(&self) -> bool {
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
    let (sender, outcomes) = mpsc::channel();
    let mut gathering = Gathering {
        key,
        terms,
        cancelled: Arc::clone(&patience.cancelled),
        sender,
        unproved: Vec::new(),
        joined: (1..terms.world).map(|_| None).collect(),
        last_rejection: None,
        next_id: 0,
    };
    let formed = gathering.run(&listener, &outcomes, patience);
    if let Err(error) = &formed {
        gathering.refuse_all(error);
    }
    for (_, _, stream) in &gathering.unproved {
        let _ = stream.shutdown(Shutdown::Both);
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

type Outcome = (u64, Result<Peer, Rejection>);

struct Gathering<'a> {
    key: &'a ControlKey,
    terms: &'a Terms,
    cancelled: Arc<AtomicBool>,
    sender: Sender<Outcome>,
    unproved: Vec<(u64, Instant, TcpStream)>,
    /// By rank, from 1.
    joined: Vec<Option<Peer>>,
    last_rejection: Option<String>,
    next_id: u64,
}

impl Gathering<'_> {
    fn run(
        &mut self,
        listener: &TcpListener,
        outcomes: &Receiver<Outcome>,
        patience: &Patience,
    ) -> Result<Option<Vec<Peer>>, EngineError> {
        while self.joined.iter().any(Option::is_none) {
            if patience.is_cancelled() {
                return Ok(None);
            }
            if patience.is_over() {
                return Err(self.timed_out(patience.timeout_ms));
            }
            self.accept(listener)?;
            // Waits for an outcome rather than for the clock: the last rank to join is not delayed.
            if let Ok((id, outcome)) = outcomes.recv_timeout(POLL) {
                self.unproved.retain(|(other, ..)| *other != id);
                self.take(outcome)?;
            }
        }
        let mut peers: Vec<Peer> = self.joined.iter_mut().filter_map(Option::take).collect();
        for peer in &mut peers {
            let welcome = peer.sealer.write(&mut &peer.stream, &Verdict::Welcome);
            welcome
                .map_err(|e| EngineError::PeerLost { rank: peer.rank, reason: e.to_string() })?;
        }
        Ok(Some(peers))
    }

    /// Starts a handshake for every connection that waits.
    fn accept(&mut self, listener: &TcpListener) -> Result<(), EngineError> {
        loop {
            let (stream, from) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => {
                    // One connection's failure, or no descriptor free: neither ends the gang.
                    tracing::warn!(error = %e, "a control connection could not be accepted");
                    return Ok(());
                }
            };
            if self.unproved.len() >= UNPROVED_MAX {
                let oldest = self.unproved.remove(0);
                if oldest.1.elapsed() < UNPROVED_AGE {
                    self.unproved.insert(0, oldest);
                    tracing::warn!(%from, "too many control connections; one was dropped");
                    continue;
                }
                let _ = oldest.2.shutdown(Shutdown::Both);
            }
            self.start_handshake(stream)?;
        }
    }

    fn start_handshake(&mut self, stream: TcpStream) -> Result<(), EngineError> {
        let os = |what: &str| {
            let what = what.to_owned();
            move |source| EngineError::Os { what, source }
        };
        let id = self.next_id;
        self.next_id += 1;
        let handle = stream.try_clone().map_err(os("a socket can't be duplicated"))?;
        self.unproved.push((id, Instant::now(), handle));
        let (key, terms, sender) = (self.key.clone(), self.terms.clone(), self.sender.clone());
        let cancelled = Arc::clone(&self.cancelled);
        let handshake = move || {
            let outcome = handshake::admit(stream, &key, &terms, &cancelled);
            // Nobody listens any more once the gang is formed; the connection ends with this.
            let _ = sender.send((id, outcome));
        };
        let spawned = std::thread::Builder::new().name("handshake".into()).spawn(handshake);
        spawned.map(drop).map_err(os("a thread can't be started"))
    }

    fn take(&mut self, outcome: Result<Peer, Rejection>) -> Result<(), EngineError> {
        match outcome {
            Ok(peer) => {
                tracing::info!(rank = peer.rank, "a rank joined");
                // The same rank twice: it came again, so its first connection is dead.
                let place = self.joined.get_mut(peer.rank as usize - 1);
                if let Some(place) = place {
                    *place = Some(peer);
                }
                Ok(())
            }
            Err(Rejection::Retry(reason)) => {
                tracing::warn!(%reason, "a control connection was refused");
                self.last_rejection = Some(reason);
                Ok(())
            }
            Err(Rejection::Fatal(error)) => Err(error),
        }
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
        let seen = self.last_rejection.as_ref();
        let seen = seen.map_or(String::new(), |r| format!("; last refused connection: {r}"));
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
        let stream = match TcpStream::connect_timeout(&address, left.min(CONNECT_TIMEOUT)) {
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
