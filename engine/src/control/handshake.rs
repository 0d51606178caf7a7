//! Two ranks find out that they hold the same key and agree on their terms.
//!
//! Nothing that is not authenticated ends a rank: a stranger's bytes only end their connection.

use std::io::{self, Read};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tandem_wire::FrameError;

use super::form::{Peer, Terms};
use super::seal::{self, ControlKey, OpenError, read_body};
use super::{CONTROL_VERSION, parity};
use crate::EngineError;

/// How long a connection may take to prove itself. An honest one needs milliseconds.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);
/// Most bytes of a frame from who is not authenticated; ours are about 200.
const PLAIN_BYTES_MAX: usize = 512;
/// Most bytes of the terms, which hold a digest for each component of parity.
const TERMS_BYTES_MAX: usize = 64 << 10;
/// How often a wait looks whether it was cancelled.
const CANCEL_POLL: Duration = Duration::from_millis(50);

/// The follower's first words. `magic` keeps what is no Tandem apart from an old Tandem.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Opening {
    magic: String,
    version: u32,
    epoch: u64,
    rank: u32,
    nonce: String,
}

const MAGIC: &str = "tandem control";

/// Rank 0's answer: its proof, or why it does not go on.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Challenge {
    Challenge { nonce: String, proof: String },
    Refused { reason: String },
}

/// Rank 0's word on the terms, sealed.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Verdict {
    /// All ranks are there; where each listens for the ring, in order, if there is one.
    Welcome {
        ring_ports: Vec<u16>,
    },
    Refused {
        code: i32,
        reason: String,
    },
}

/// Why a connection came to nothing.
pub(super) enum Rejection {
    /// Not one of ours, or not yet; another connection may do better.
    Retry(String),
    /// The other side proved itself, and can't be worked with.
    Fatal(EngineError),
}

impl From<FrameError> for Rejection {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Io(e) => Self::Retry(format!("the connection failed: {e}")),
            other => Self::Retry(other.to_string()),
        }
    }
}

impl From<OpenError> for Rejection {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Frame(e) => e.into(),
            forged => Self::Retry(forged.to_string()),
        }
    }
}

/// A stream whose reads end at a deadline, or soon after `cancelled` is set.
pub(super) struct Bounded<'a> {
    pub(super) stream: &'a TcpStream,
    pub(super) deadline: Instant,
    pub(super) cancelled: &'a AtomicBool,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(io::Error::other("cancelled"));
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it took too long"));
            }
            self.stream.set_read_timeout(Some(left.min(CANCEL_POLL)))?;
            match (&mut &*self.stream).read(buffer) {
                Err(e) if is_timeout(&e) || e.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

/// Whether a read or write ended by its time-out; which kind depends on the platform.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// What both sides' proofs and keys are bound to: the whole opening and rank 0's nonce.
fn transcript(opening: &[u8], nonce: &str) -> Vec<u8> {
    [opening, nonce.as_bytes()].concat()
}

const LEADER: &[u8] = b"tandem control: I am rank 0";
const FOLLOWER: &[u8] = b"tandem control: I am not rank 0";

/// Rank 0's side, up to the other's terms; the verdict is the caller's to send.
pub(super) fn admit(
    stream: TcpStream,
    key: &ControlKey,
    terms: &Terms,
    cancelled: &AtomicBool,
) -> Result<Peer, Rejection> {
    prepare(&stream)?;
    let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
    let mut reader = Bounded { stream: &stream, deadline, cancelled };
    let opening_bytes = read_body(&mut reader, PLAIN_BYTES_MAX)?;
    let opening: Opening = tandem_wire::decode(&opening_bytes[4..])?;
    if let Some(reason) = refuse_opening(&opening, terms) {
        let refused = Challenge::Refused { reason: reason.clone() };
        tandem_wire::write_frame(&mut &stream, &refused)?;
        return Err(Rejection::Retry(reason));
    }
    let nonce = seal::nonce().map_err(Rejection::Fatal)?;
    let transcript = transcript(&opening_bytes, &nonce);
    let proof = seal::encode_hex(&key.mac(&[LEADER, &transcript]));
    tandem_wire::write_frame(&mut &stream, &Challenge::Challenge { nonce, proof })?;
    let proof = read_body(&mut reader, PLAIN_BYTES_MAX)?;
    let proof: String = tandem_wire::decode(&proof[4..])?;
    if !key.verify(&[FOLLOWER, &transcript], &proof) {
        return Err(Rejection::Retry("it does not hold this epoch's key".to_owned()));
    }
    let (mut sealer, mut opener) = key.session(&transcript, true);
    let theirs: Terms = opener.read(&mut reader, TERMS_BYTES_MAX)?;
    if let Err(error) = terms.compare(&theirs, opening.rank) {
        let refused = Verdict::Refused { code: error.exit_code(), reason: error.to_string() };
        sealer.write(&mut &stream, &refused)?;
        return Err(Rejection::Fatal(error));
    }
    let ring_ports = vec![theirs.ring_port];
    Ok(Peer { rank: opening.rank, ring_ports, stream, sealer, opener })
}

fn refuse_opening(opening: &Opening, terms: &Terms) -> Option<String> {
    if opening.magic != MAGIC || opening.version != CONTROL_VERSION {
        let version = opening.version;
        Some(format!("it speaks {:.32} version {version}, not {CONTROL_VERSION}", opening.magic))
    } else if opening.epoch != terms.epoch {
        Some(format!("it is of epoch {}; rank 0 is of epoch {}", opening.epoch, terms.epoch))
    } else if opening.rank == 0 || opening.rank >= terms.world {
        Some(format!("it says it is rank {} of {}", opening.rank, terms.world))
    } else {
        None
    }
}

/// The other ranks' side, up to rank 0's welcome, which comes when all ranks are there: `deadline`
/// bounds the wait for it.
pub(super) fn join(
    stream: TcpStream,
    key: &ControlKey,
    terms: &Terms,
    deadline: Instant,
    cancelled: &AtomicBool,
) -> Result<Peer, Rejection> {
    prepare(&stream)?;
    let soon = deadline.min(Instant::now() + HANDSHAKE_TIMEOUT);
    let mut reader = Bounded { stream: &stream, deadline: soon, cancelled };
    let opening = tandem_wire::encode(&Opening {
        magic: MAGIC.to_owned(),
        version: CONTROL_VERSION,
        epoch: terms.epoch,
        rank: terms.rank,
        nonce: seal::nonce().map_err(Rejection::Fatal)?,
    })?;
    io::Write::write_all(&mut &stream, &opening).map_err(FrameError::Io)?;
    let challenge = read_body(&mut reader, PLAIN_BYTES_MAX)?;
    let (nonce, proof) = match tandem_wire::decode(&challenge[4..])? {
        Challenge::Challenge { nonce, proof } => (nonce, proof),
        Challenge::Refused { reason } => return Err(Rejection::Retry(reason)),
    };
    let transcript = transcript(&opening, &nonce);
    if !key.verify(&[LEADER, &transcript], &proof) {
        return Err(Rejection::Retry("rank 0 does not hold this epoch's key".to_owned()));
    }
    let proof = seal::encode_hex(&key.mac(&[FOLLOWER, &transcript]));
    tandem_wire::write_frame(&mut &stream, &proof)?;
    let (mut sealer, mut opener) = key.session(&transcript, false);
    sealer.write(&mut &stream, terms)?;
    reader.deadline = deadline;
    match opener.read(&mut reader, TERMS_BYTES_MAX)? {
        Verdict::Welcome { ring_ports } => Ok(Peer { rank: 0, ring_ports, stream, sealer, opener }),
        Verdict::Refused { code, reason } => Err(Rejection::Fatal(parity::refusal(code, reason))),
    }
}

pub(super) fn prepare(stream: &TcpStream) -> Result<(), Rejection> {
    // Steps are small and each is waited for: no gathering.
    let result = stream
        .set_nonblocking(false)
        .and_then(|()| stream.set_nodelay(true))
        .and_then(|()| stream.set_write_timeout(Some(HANDSHAKE_TIMEOUT)));
    result.map_err(|e| FrameError::Io(e).into())
}

impl Terms {
    /// Whether `other`, of the rank that proved itself, can be worked with.
    fn compare(&self, other: &Self, rank: u32) -> Result<(), EngineError> {
        self.parity.compare(&other.parity, rank)?;
        if (other.epoch, other.rank, other.world) != (self.epoch, rank, self.world) {
            return Err(EngineError::Usage(format!(
                "rank {rank} says it is rank {} of {} in epoch {}; this is epoch {} of {} ranks",
                other.rank, other.world, other.epoch, self.epoch, self.world
            )));
        }
        Ok(())
    }
}
