//! The ring's connections, made by ranks that know each other.
//!
//! MLX's ring takes whoever connects first for its neighbour, and so anybody could keep a group from
//! forming. So the connections are made here, over the epoch's key, and handed to MLX when it forms its
//! ring (`crate::mlx::Group::join_ring`). Every rank connects to the next one and is connected to by the
//! one before. The ports were told on the control channel: one that somebody else holds is given up for
//! another.
//!
//! ```text
//!  rank n                                        rank n + 1
//!    │ ──────────────── nonce ───────────────────▶ │
//!    │ ◀─────────── nonce, proof ───────────────── │   each proves that it holds the key
//!    │ ──────────────── proof ───────────────────▶ │
//!    │ ◀──────────────── taken ─────────────────── │   from here on MLX's bytes, as they are
//! ```

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use tandem_wire::way;

use super::doorway::Doorway;
use super::form::{CONNECT_TIMEOUT, Patience, RETRY_PAUSE};
use super::handshake::{Bounded, HANDSHAKE_TIMEOUT, Rejection, prepare};
use super::seal::{self, ControlKey, encode_hex};
use crate::EngineError;

/// Bytes of a nonce and of a proof.
const WORD: usize = 32;
/// The word of who has taken a connection.
const TAKEN: u8 = 1;
/// This much before the forming of the gang is given up, so that the error says what is known here.
const EARLIER: Duration = Duration::from_millis(200);

const CONNECTS: &[u8] = b"tandem ring: I connect";
const ACCEPTS: &[u8] = b"tandem ring: I accept";

/// A rank's two connections in the ring. With two ranks both lead to the same one.
#[derive(Debug)]
pub struct Neighbours {
    /// From the rank before this one.
    pub left: TcpStream,
    /// To the rank after this one.
    pub right: TcpStream,
}

/// Listens for the rank before this one: at `port`, or at any other where somebody holds that one.
pub fn listen(address: IpAddr, port: u16) -> Result<TcpListener, EngineError> {
    let bound = TcpListener::bind((address, port)).or_else(|error| {
        tracing::warn!(
            %error, %address, port,
            "the ring's port can't be had; the ranks agree on another (engine.ring_port_base)"
        );
        TcpListener::bind((address, 0))
    });
    let listener = bound.and_then(|l| l.set_nonblocking(true).map(|()| l));
    listener.map_err(|source| EngineError::Os {
        what: format!("the ring can't listen on {address}; is it this rank's own address?"),
        source,
    })
}

/// What a rank knows of the ring before its connections are made.
#[derive(Debug)]
pub struct Meeting {
    /// Where the rank before this one comes.
    pub listener: TcpListener,
    /// Where each rank listens, in order.
    pub places: Vec<SocketAddr>,
    /// This rank.
    pub rank: u32,
    /// Run of the gang.
    pub epoch: u64,
    /// Its secret.
    pub key: ControlKey,
}

/// One connection as both ends name it in their proofs.
#[derive(Clone)]
struct Edge {
    key: ControlKey,
    epoch: u64,
    from: u32,
    to: u32,
}

impl Edge {
    fn proof(&self, who: &[u8], nonces: [&[u8; WORD]; 2]) -> [u8; WORD] {
        self.key.mac(&self.parts(who, nonces).each_ref().map(Vec::as_slice))
    }

    fn verify(&self, who: &[u8], nonces: [&[u8; WORD]; 2], proof: &[u8]) -> bool {
        let parts = self.parts(who, nonces);
        self.key.verify(&parts.each_ref().map(Vec::as_slice), &encode_hex(proof))
    }

    fn parts(&self, who: &[u8], nonces: [&[u8; WORD]; 2]) -> [Vec<u8>; 5] {
        let ranks = [self.from.to_le_bytes(), self.to.to_le_bytes()].concat();
        let epoch = self.epoch.to_le_bytes().to_vec();
        [who.to_vec(), epoch, ranks, nonces[0].to_vec(), nonces[1].to_vec()]
    }
}

impl Meeting {
    /// Makes both connections; `None` if it was cancelled.
    pub fn meet(self, patience: &Patience) -> Result<Option<Neighbours>, EngineError> {
        let world = self.places.len() as u32;
        let (before, after) = ((self.rank + world - 1) % world, (self.rank + 1) % world);
        let edge = |from, to| Edge { key: self.key.clone(), epoch: self.epoch, from, to };
        let (left, right) = (edge(before, self.rank), edge(self.rank, after));
        let place = self.places[after as usize];
        let patience = Patience {
            deadline: patience.deadline.checked_sub(EARLIER).unwrap_or(patience.deadline),
            ..patience.clone()
        };
        std::thread::scope(|scope| {
            let connecting = scope.spawn(|| connect(place, &right, &patience));
            let accepted = accept(&self.listener, &left, &patience);
            let connected = connecting.join().unwrap_or_else(|_| {
                Err(EngineError::Software("connecting the ring panicked; see the log".to_owned()))
            });
            // Of two errors this one knows more: who comes can say no more than that it went.
            let right = connected?;
            Ok(accepted?.zip(right).map(|(left, right)| Neighbours { left, right }))
        })
    }
}

/// Lets the rank before this one in, and nobody else.
fn accept(
    listener: &TcpListener,
    edge: &Edge,
    patience: &Patience,
) -> Result<Option<TcpStream>, EngineError> {
    let mut doorway = Doorway::new();
    let (own, cancelled) = (edge.clone(), Arc::clone(&patience.cancelled));
    let handshake = move |stream| take(stream, &own, &cancelled);
    loop {
        if patience.is_cancelled() {
            return Ok(None);
        }
        if patience.is_over() {
            let (rank, ms, refused) = (edge.from, patience.timeout_ms, doorway.refused());
            let message = format!("rank {rank} did not come to the ring in {ms} ms{refused}");
            return Err(EngineError::Group(message));
        }
        doorway.accept(listener, &handshake)?;
        let Some(mut stream) = doorway.next()? else { continue };
        match stream.write_all(&[TAKEN]) {
            Ok(()) => return Ok(Some(stream)),
            // It gave this one up meanwhile, and comes again.
            Err(error) => tracing::warn!(%error, "the rank before this one was lost again"),
        }
    }
}

/// The accepting side's handshake.
fn take(
    mut stream: TcpStream,
    edge: &Edge,
    cancelled: &AtomicBool,
) -> Result<TcpStream, Rejection> {
    prepare(&stream)?;
    let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
    let theirs = read(&stream, deadline, cancelled)?;
    let mine = seal::nonce_bytes().map_err(Rejection::Fatal)?;
    let proof = edge.proof(ACCEPTS, [&theirs, &mine]);
    stream.write_all(&[mine, proof].concat()).map_err(lost)?;
    let proof: [u8; WORD] = read(&stream, deadline, cancelled)?;
    if !edge.verify(CONNECTS, [&theirs, &mine], &proof) {
        return Err(Rejection::Retry("it does not hold this epoch's key".to_owned()));
    }
    Ok(stream)
}

/// Connects to the rank after this one until it takes the connection.
fn connect(
    place: SocketAddr,
    edge: &Edge,
    patience: &Patience,
) -> Result<Option<TcpStream>, EngineError> {
    let mut last = String::from("never reached");
    loop {
        if patience.is_cancelled() {
            return Ok(None);
        }
        let left = patience.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let (rank, ms) = (edge.to, patience.timeout_ms);
            return Err(EngineError::Group(format!(
                "rank {rank} at {place} did not take the ring's connection in {ms} ms; last \
                 attempt: {last}"
            )));
        }
        let attempt = way::connect_timeout(place, left.min(CONNECT_TIMEOUT)).map_err(lost);
        match attempt.and_then(|stream| offer(stream, edge, patience)) {
            Ok(stream) => return Ok(Some(stream)),
            Err(Rejection::Fatal(error)) => return Err(error),
            Err(Rejection::Retry(reason)) => {
                last = reason;
                std::thread::sleep(RETRY_PAUSE.min(left));
            }
        }
    }
}

/// The connecting side's handshake.
fn offer(mut stream: TcpStream, edge: &Edge, patience: &Patience) -> Result<TcpStream, Rejection> {
    prepare(&stream)?;
    let soon = patience.deadline.min(Instant::now() + HANDSHAKE_TIMEOUT);
    let mine = seal::nonce_bytes().map_err(Rejection::Fatal)?;
    stream.write_all(&mine).map_err(lost)?;
    let theirs = read(&stream, soon, &patience.cancelled)?;
    let proof: [u8; WORD] = read(&stream, soon, &patience.cancelled)?;
    if !edge.verify(ACCEPTS, [&mine, &theirs], &proof) {
        return Err(Rejection::Retry(
            "who listens there does not hold this epoch's key".to_owned(),
        ));
    }
    stream.write_all(&edge.proof(CONNECTS, [&mine, &theirs])).map_err(lost)?;
    // It has proved itself, so it is waited for: a connection that both took must not be given up.
    match read(&stream, patience.deadline, &patience.cancelled)? {
        [TAKEN] => Ok(stream),
        [other] => Err(Rejection::Retry(format!("it answered {other}"))),
    }
}

fn read<const N: usize>(
    stream: &TcpStream,
    deadline: Instant,
    cancelled: &AtomicBool,
) -> Result<[u8; N], Rejection> {
    let mut bytes = [0; N];
    Bounded { stream, deadline, cancelled }.read_exact(&mut bytes).map_err(lost)?;
    Ok(bytes)
}

fn lost(error: io::Error) -> Rejection {
    Rejection::Retry(format!("the connection failed: {error}"))
}

#[cfg(test)]
mod tests;
