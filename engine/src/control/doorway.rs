//! A listener's door: whoever connects gets a handshake on a thread of its own, and only who passes it
//! comes in. Strangers who hold, flood or spoil connections keep nobody out and are named in the log.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use super::handshake::Rejection;
use crate::EngineError;

/// Most connections that have not proved themselves at a time. Honest ones are at most seven (eight
/// ranks) and take milliseconds.
const UNPROVED_MAX: usize = 8;
/// Age from which an unproved connection gives way to a newer one when there are too many, so that
/// strangers who hold theirs open keep nobody out.
const UNPROVED_AGE: Duration = Duration::from_millis(250);
/// Pause between looks at the listener: forming takes seconds and happens once.
const POLL: Duration = Duration::from_millis(20);

/// Those at the door. `T` is what a handshake gives.
pub(super) struct Doorway<T> {
    sender: Sender<Outcome<T>>,
    outcomes: Receiver<Outcome<T>>,
    unproved: Vec<Unproved>,
    next_id: u64,
    last_refused: Option<String>,
}

struct Outcome<T> {
    id: u64,
    from: SocketAddr,
    result: Result<T, Rejection>,
}

struct Unproved {
    id: u64,
    since: Instant,
    stream: TcpStream,
}

impl<T: Send + 'static> Doorway<T> {
    pub(super) fn new() -> Self {
        let (sender, outcomes) = mpsc::channel();
        Self { sender, outcomes, unproved: Vec::new(), next_id: 0, last_refused: None }
    }

    /// Starts a handshake for every connection that waits at `listener`, which does not block.
    pub(super) fn accept<H>(
        &mut self,
        listener: &TcpListener,
        handshake: &H,
    ) -> Result<(), EngineError>
    where
        H: Fn(TcpStream) -> Result<T, Rejection> + Clone + Send + 'static,
    {
        loop {
            let (stream, from) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => {
                    // One connection's failure, or no descriptor free: neither ends the gang.
                    tracing::warn!(error = %e, "a rank's connection could not be accepted");
                    return Ok(());
                }
            };
            if self.unproved.len() >= UNPROVED_MAX {
                if self.unproved[0].since.elapsed() < UNPROVED_AGE {
                    tracing::warn!(%from, "too many connections wait to be a rank's; one was dropped");
                    continue;
                }
                let _ = self.unproved.remove(0).stream.shutdown(Shutdown::Both);
            }
            self.start(stream, from, handshake.clone())?;
        }
    }

    fn start<H>(
        &mut self,
        stream: TcpStream,
        from: SocketAddr,
        handshake: H,
    ) -> Result<(), EngineError>
    where
        H: Fn(TcpStream) -> Result<T, Rejection> + Send + 'static,
    {
        let os = |what: &str| {
            let what = what.to_owned();
            move |source| EngineError::Os { what, source }
        };
        let id = self.next_id;
        self.next_id += 1;
        let handle = stream.try_clone().map_err(os("a socket can't be duplicated"))?;
        self.unproved.push(Unproved { id, since: Instant::now(), stream: handle });
        let sender = self.sender.clone();
        let run = move || {
            let result = handshake(stream);
            // Nobody listens any more once all are in; the connection ends with this.
            let _ = sender.send(Outcome { id, from, result });
        };
        let spawned = std::thread::Builder::new().name("handshake".into()).spawn(run);
        spawned.map(drop).map_err(os("a thread can't be started"))
    }

    /// Waits a moment for somebody to pass. Who does not is named in the log; only one that proved
    /// itself and can't be worked with is an error.
    pub(super) fn next(&mut self) -> Result<Option<T>, EngineError> {
        // Waits for an outcome rather than for the clock: the last one to come is not delayed.
        let Ok(Outcome { id, from, result }) = self.outcomes.recv_timeout(POLL) else {
            return Ok(None);
        };
        self.unproved.retain(|unproved| unproved.id != id);
        match result {
            Ok(passed) => Ok(Some(passed)),
            Err(Rejection::Fatal(error)) => Err(error),
            Err(Rejection::Retry(reason)) => {
                tracing::warn!(%from, %reason, "a connection that is no rank's was refused");
                self.last_refused = Some(format!("{reason} (from {from})"));
                Ok(None)
            }
        }
    }

    /// For an error about who did not come: who came instead.
    pub(super) fn refused(&self) -> String {
        let seen = self.last_refused.as_ref();
        seen.map_or(String::new(), |r| format!("; last refused connection: {r}"))
    }
}

impl<T> Drop for Doorway<T> {
    fn drop(&mut self) {
        for unproved in &self.unproved {
            let _ = unproved.stream.shutdown(Shutdown::Both);
        }
    }
}
