//! This rank's side of the control channel once the gang is formed.

use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Sender, TrySendError};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tandem_wire::{ModelCard, Phase, Session, exit};

use super::server::Server;
use super::shared::{Command, Shared, lock};
use crate::EngineError;
use crate::control::form::{self, Patience};
use crate::control::ledger::{Comparison, LAG_STEPS_MAX};
use crate::control::link::{self, Link};
use crate::control::parity::Parity;
use crate::control::ring::{self, Meeting};
use crate::control::{Abort, ControlKey, Down, Peer, Progress, Terms, Up};
use crate::settings::{Backend, RankSetup};
use crate::step::Step;

/// How long rank 0 waits at the log's end for the others' last reports before it lets go of the
/// group. They are milliseconds behind.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(1);

/// This rank's place among the others.
#[derive(Clone)]
pub(super) enum Gang {
    /// Rank 0, which may be alone.
    Leader(Arc<Leader>),
    /// Any other.
    Follower(Arc<Follower>),
}

impl Gang {
    /// Forms the gang and starts hearing the others; `None` if an unload was asked for first. With it
    /// what it takes to meet in the ring, if that carries the epoch.
    pub(super) fn form(
        setup: &RankSetup,
        session: &Session,
        model: &[(String, Vec<u8>)],
        patience: &Patience,
        shared: &Arc<Shared>,
        server: &Arc<Server>,
    ) -> Result<Option<(Self, Option<Meeting>)>, EngineError> {
        let world = setup.ranks.len() as u32;
        let silence = Duration::from_millis(setup.settings.silence_timeout_ms);
        if world == 1 {
            return Leader::open(Vec::new(), silence, shared).map(|alone| Some((alone, None)));
        }
        let key = ControlKey::from_hex(&session.control_key)?;
        let own = setup.ranks[setup.rank as usize].address;
        let ring_port = setup.settings.ring_port_base.saturating_add(setup.rank as u16);
        let is_ring = setup.settings.backend == Backend::Ring;
        let listener = is_ring.then(|| ring::listen(own, ring_port)).transpose()?;
        let ring_port = match listener.as_ref().map(TcpListener::local_addr).transpose() {
            Ok(at) => at.map_or(0, |at| at.port()),
            Err(source) => {
                return Err(EngineError::Os { what: "a socket has no address".into(), source });
            }
        };
        let terms = Terms {
            epoch: session.epoch,
            rank: setup.rank,
            world,
            parity: Parity::new(setup, model),
            ring_port,
        };
        let address = SocketAddr::new(setup.ranks[0].address, setup.settings.control_port);
        let (gang, ports) = if setup.rank == 0 {
            let Some(peers) = form::lead(address, &key, &terms, patience)? else { return Ok(None) };
            let ports = peers.first().map_or(Vec::new(), |peer| peer.ring_ports.clone());
            (Leader::open(peers, silence, shared)?, ports)
        } else {
            let Some(peer) = form::follow(address, &key, &terms, patience)? else {
                return Ok(None);
            };
            let ports = peer.ring_ports.clone();
            (Follower::open(peer, silence, shared, server)?, ports)
        };
        let meeting = listener.map(|listener| {
            let places = setup.ranks.iter().zip(&ports);
            let places =
                places.map(|(place, port)| SocketAddr::new(place.address, *port)).collect();
            Meeting { listener, places, rank: setup.rank, epoch: session.epoch, key }
        });
        match meeting {
            Some(meeting) if meeting.places.len() != setup.ranks.len() => {
                let message = format!("rank 0 told {} ports for the ring", meeting.places.len());
                Err(EngineError::Integrity(message))
            }
            meeting => Ok(Some((gang, meeting))),
        }
    }

    /// Tells the others why this rank ends, and that nothing more will come.
    pub(super) fn abort(&self, abort: Abort) {
        match self {
            Self::Leader(leader) => {
                for link in &leader.links {
                    link.send_last(&Down::Abort(abort.clone()));
                }
            }
            Self::Follower(follower) => follower.link.send_last(&Up::Abort(abort)),
        }
    }

    /// Whether there is anybody else.
    pub(super) fn is_alone(&self) -> bool {
        matches!(self, Self::Leader(leader) if leader.links.is_empty())
    }
}

/// What another rank's end means for this one. A disagreement is everybody's; any other fault is
/// that rank's own, and for this one a lost peer.
fn aborted(rank: u32, abort: Abort) -> EngineError {
    if abort.code == exit::INTEGRITY {
        return EngineError::Integrity(format!("rank {rank} found: {}", abort.reason));
    }
    let meaning = exit::meaning(abort.code);
    EngineError::PeerLost { rank, reason: format!("it ended itself: {} ({meaning})", abort.reason) }
}

/// Rank 0's links to all others.
pub(super) struct Leader {
    links: Vec<Arc<Link>>,
    others: Arc<Others>,
    /// Heartbeats go on until these are dropped.
    _heartbeats: Vec<Sender<()>>,
}

/// What rank 0 knows of the others.
struct Others {
    shared: Arc<Shared>,
    state: Mutex<Vec<Other>>,
    changed: Condvar,
}

struct Other {
    rank: u32,
    /// What it loaded, and positions that its KV caches have room for.
    loaded: Option<(ModelCard, u64)>,
    comparison: Comparison,
}

impl Leader {
    fn open(
        peers: Vec<Peer>,
        silence: Duration,
        shared: &Arc<Shared>,
    ) -> Result<Gang, EngineError> {
        let others = |peer: &Peer| {
            let comparison = Comparison::new(peer.rank);
            Other { rank: peer.rank, loaded: None, comparison }
        };
        let others = Arc::new(Others {
            shared: Arc::clone(shared),
            state: Mutex::new(peers.iter().map(others).collect()),
            changed: Condvar::new(),
        });
        let mut links = Vec::new();
        for (place, peer) in peers.into_iter().enumerate() {
            let (hearer, ender) = (Arc::clone(&others), Arc::clone(&others));
            let on_message = move |message| hearer.hear(place, message);
            let on_end = move |error| ender.shared.link_ended(error);
            links.push(Link::open(peer, silence, on_message, on_end)?);
        }
        let heartbeats = links
            .iter()
            .map(|link| link::heartbeat(Arc::clone(link), silence, Down::Heartbeat))
            .collect::<Result<_, _>>()?;
        Ok(Gang::Leader(Arc::new(Self { links, others, _heartbeats: heartbeats })))
    }

    /// Appends a step to every other rank's log, with this rank's own progress. Waits while one of
    /// them is too far behind; false if this rank is to stop instead.
    pub(super) fn publish(&self, step: &Step, progress: Option<&Progress>) -> bool {
        let caught_up = |others: &[Other]| {
            others.iter().all(|o| o.comparison.their_seq() + LAG_STEPS_MAX >= step.seq)
        };
        if self.links.is_empty() {
            return true;
        }
        if !self.others.wait(caught_up, None) {
            return false;
        }
        let message = Down::Step { step: Box::new(step.clone()), progress: progress.cloned() };
        self.tell_all(&message);
        true
    }

    /// This rank finished a step.
    pub(super) fn report(&self, progress: &Progress) -> Result<(), EngineError> {
        let mut others = lock(&self.others.state);
        others.iter_mut().try_for_each(|other| other.comparison.ours(progress.clone()))
    }

    /// Waits until all others have loaded and checks that they loaded the same. Gives the least
    /// number of positions that any of them has room for; `None` if this rank is to stop or unload
    /// instead. Unbounded: loading may take many minutes, and a rank that dies
    /// over it is noticed by its silence.
    pub(super) fn wait_loaded(&self, card: &ModelCard) -> Result<Option<u64>, EngineError> {
        let all = |others: &[Other]| {
            self.others.shared.is_unloading() || others.iter().all(|other| other.loaded.is_some())
        };
        if !self.others.wait(all, None) || self.others.shared.is_unloading() {
            return Ok(None);
        }
        let mut least = u64::MAX;
        for Other { rank, loaded, .. } in lock(&self.others.state).iter() {
            match loaded {
                Some((theirs, kv_tokens)) if theirs == card => least = least.min(*kv_tokens),
                theirs => {
                    return Err(EngineError::Model(format!(
                        "rank {rank} loaded another model: {theirs:?}, this rank {card:?}"
                    )));
                }
            }
        }
        Ok(Some(least))
    }

    /// Tells the others a phase that they can't tell by themselves.
    pub(super) fn announce(&self, phase: Phase) {
        self.tell_all(&Down::Phase { phase });
    }

    /// Ends the log: waits (not for long) until the others executed all of it, then tells them.
    pub(super) fn end_log(&self, last_seq: u64) {
        let caught_up =
            |others: &[Other]| others.iter().all(|o| o.comparison.their_seq() >= last_seq);
        self.others.wait(caught_up, Some(Instant::now() + CATCH_UP_TIMEOUT));
        self.others.shared.close();
        self.tell_all(&Down::Unload);
    }

    /// Has waiting calls look at the switches again.
    pub(super) fn wake(&self) {
        drop(lock(&self.others.state));
        self.others.changed.notify_all();
    }

    fn tell_all(&self, message: &Down) {
        for link in &self.links {
            if let Err(error) = link.send(message) {
                // Its hearing thread knows better why, and ends this rank.
                tracing::debug!(rank = link.rank(), %error, "a control message was not sent");
            }
        }
    }
}

impl Others {
    fn hear(&self, place: usize, message: Up) -> Result<(), EngineError> {
        let mut others = lock(&self.state);
        let other = &mut others[place];
        match message {
            Up::Heartbeat => return Ok(()),
            Up::Loaded { card, kv_tokens } => other.loaded = Some((card, kv_tokens)),
            Up::Progress(progress) => other.comparison.theirs(progress)?,
            Up::Unload => {
                let who = format!("rank {}", other.rank);
                drop(others);
                self.shared.ask_unload(&who);
                self.changed.notify_all();
                return Ok(());
            }
            Up::Abort(abort) => return Err(aborted(other.rank, abort)),
        }
        self.changed.notify_all();
        Ok(())
    }

    /// Waits until `done`; false if this rank is to stop first, or at `deadline`.
    fn wait(&self, done: impl Fn(&[Other]) -> bool, deadline: Option<Instant>) -> bool {
        let mut others = lock(&self.state);
        loop {
            if self.shared.is_stopping() {
                return false;
            }
            if done(&others) {
                return true;
            }
            let Some(deadline) = deadline else {
                others = self.changed.wait(others).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(others, left);
            others = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Another rank's link to rank 0.
pub(super) struct Follower {
    link: Arc<Link>,
    comparison: Arc<Mutex<Comparison>>,
    _heartbeat: Sender<()>,
}

impl Follower {
    fn open(
        peer: Peer,
        silence: Duration,
        shared: &Arc<Shared>,
        server: &Arc<Server>,
    ) -> Result<Gang, EngineError> {
        let comparison = Arc::new(Mutex::new(Comparison::new(0)));
        let hearer = Ear {
            shared: Arc::clone(shared),
            server: Arc::clone(server),
            comparison: Arc::clone(&comparison),
        };
        let ender = Arc::clone(shared);
        let on_message = move |message| hearer.hear(message);
        let link = Link::open(peer, silence, on_message, move |error| ender.link_ended(error))?;
        let heartbeat = link::heartbeat(Arc::clone(&link), silence, Up::Heartbeat)?;
        Ok(Gang::Follower(Arc::new(Self { link, comparison, _heartbeat: heartbeat })))
    }

    /// This rank finished a step.
    pub(super) fn report(&self, progress: Progress) -> Result<(), EngineError> {
        self.tell(&Up::Progress(progress.clone()));
        lock(&self.comparison).ours(progress)
    }

    pub(super) fn tell(&self, message: &Up) {
        if let Err(error) = self.link.send(message) {
            // The hearing thread knows better why, and ends this rank.
            tracing::debug!(%error, "a control message was not sent");
        }
    }
}

/// What hears rank 0.
struct Ear {
    shared: Arc<Shared>,
    server: Arc<Server>,
    comparison: Arc<Mutex<Comparison>>,
}

impl Ear {
    fn hear(&self, message: Down) -> Result<(), EngineError> {
        match message {
            Down::Heartbeat => Ok(()),
            Down::Step { step, progress } => {
                if let Some(progress) = progress {
                    lock(&self.comparison).theirs_sparse(progress)?;
                }
                self.push(Command::Step(step))
            }
            Down::Phase { phase } => {
                self.server.set_phase(phase);
                Ok(())
            }
            Down::Unload => {
                self.shared.close();
                self.push(Command::End)?;
                self.shared.ask_unload("rank 0");
                Ok(())
            }
            Down::Abort(abort) => Err(aborted(0, abort)),
        }
    }

    fn push(&self, command: Command) -> Result<(), EngineError> {
        match self.shared.inbox.try_send(command) {
            // Disconnected: the engine thread ended, and is telling why.
            Ok(()) | Err(TrySendError::Disconnected(_)) => Ok(()),
            Err(TrySendError::Full(_)) => Err(EngineError::Integrity(
                "rank 0's log runs ahead of this rank without bound".to_owned(),
            )),
        }
    }
}
