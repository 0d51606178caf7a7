//! One open connection of the control channel: sends from any thread, hears from a thread of its
//! own, and tells closed from silent.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use serde::{Serialize, de::DeserializeOwned};
use tandem_wire::{FRAME_BYTES_MAX, FrameError};

use super::form::Peer;
use super::handshake::is_timeout;
use super::seal::{OpenError, Opener, Sealer};
use super::silence::Silence;
use crate::EngineError;

/// Heartbeats in the least time after which a rank counts as silent: nine may be late.
const HEARTBEATS_PER_SILENCE: u32 = 10;
/// How long a last word waits for a thread that is in the middle of another.
const LAST_WORD_PATIENCE: Duration = Duration::from_millis(50);
/// Names of the threads that tell and hear life. They do nearly nothing, but must be let do it in
/// time (see [`crate::affinity`]).
pub(crate) const HEARTBEAT_THREAD: &str = "heartbeat";
pub(crate) const HEARING_THREAD: &str = "hear-";

/// The sending half.
#[derive(Debug)]
pub struct Link {
    rank: u32,
    writer: Mutex<Writer>,
}

struct Writer {
    stream: TcpStream,
    sealer: Sealer,
    /// A frame may have been cut short, so that nothing after it could be understood.
    broken: bool,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("broken", &self.broken).finish_non_exhaustive()
    }
}

impl Writer {
    fn send(&mut self, message: &impl Serialize) -> Result<(), FrameError> {
        if self.broken {
            return Err(FrameError::Closed);
        }
        let frame = self.sealer.seal(message)?;
        let result = self.stream.write_all(&frame).map_err(FrameError::Io);
        self.broken = result.is_err();
        result
    }
}

impl Link {
    /// Starts hearing. `silence` is the least that counts as the other's loss (see [`Silence`]).
    /// `on_message` is called for every message in order; when it fails, or the
    /// connection does, `on_end` is called once with the reason and hearing ends.
    pub fn open<M: DeserializeOwned>(
        peer: Peer,
        silence: Duration,
        on_message: impl FnMut(M) -> Result<(), EngineError> + Send + 'static,
        on_end: impl FnOnce(EngineError) + Send + 'static,
    ) -> Result<Arc<Self>, EngineError> {
        let Peer { rank, stream, sealer, opener, ring_ports: _ } = peer;
        let os = |source| EngineError::Os {
            what: format!("the control channel to rank {rank} can't be set up"),
            source,
        };
        // A rank that does not take a small message for so long is as good as silent. Not sooner: it
        // may be starved, and a message that is cut short ends the link.
        let ceiling_ms = Silence::ceiling_ms(silence.as_millis() as u64);
        stream.set_write_timeout(Some(Duration::from_millis(ceiling_ms))).map_err(os)?;
        let ear = stream.try_clone().map_err(os)?;
        let hear = move || on_end(hear(rank, ear, opener, silence, on_message));
        std::thread::Builder::new()
            .name(format!("{HEARING_THREAD}{rank}"))
            .spawn(hear)
            .map_err(os)?;
        let writer = Mutex::new(Writer { stream, sealer, broken: false });
        Ok(Arc::new(Self { rank, writer }))
    }

    /// The other rank.
    pub fn rank(&self) -> u32 {
        self.rank
    }

    /// Sends a message. A failure is not the last word on the other rank: what was heard from it
    /// last tells more.
    pub fn send(&self, message: &impl Serialize) -> Result<(), FrameError> {
        self.lock().send(message)
    }

    /// Sends a message and then says that no more will come. Never waits for long.
    pub fn send_last(&self, message: &impl Serialize) {
        let give_up = Instant::now() + LAST_WORD_PATIENCE;
        let mut writer = loop {
            match self.writer.try_lock() {
                Ok(writer) => break writer,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if Instant::now() >= give_up => return,
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        let _ = writer.stream.set_write_timeout(Some(LAST_WORD_PATIENCE));
        let _ = writer.send(message);
        writer.broken = true;
        let _ = writer.stream.shutdown(Shutdown::Write);
    }

    fn lock(&self) -> MutexGuard<'_, Writer> {
        // A thread that panicked here left at worst a cut frame, which the other side refuses.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // The hearing thread holds the socket too; this ends it.
        let _ = self.lock().stream.shutdown(Shutdown::Both);
    }
}

/// Sends `message` every tenth of `silence`, from a thread of its own, until the returned sender is
/// dropped. One thread for each link: a rank that takes nothing delays no other's heartbeats.
pub fn heartbeat<M: Serialize + Send + 'static>(
    link: Arc<Link>,
    silence: Duration,
    message: M,
) -> Result<Sender<()>, EngineError> {
    let (alive, until) = mpsc::channel::<()>();
    let period = silence / HEARTBEATS_PER_SILENCE;
    let beat = move || {
        while until.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
            // Whoever does not take it is noticed by hearing nothing from it.
            let _ = link.send(&message);
        }
    };
    std::thread::Builder::new()
        .name(HEARTBEAT_THREAD.into())
        .spawn(beat)
        .map_err(|source| EngineError::Os { what: "a thread can't be started".into(), source })?;
    Ok(alive)
}

/// Hears until the connection fails or `on_message` does; gives the reason.
fn hear<M: DeserializeOwned>(
    rank: u32,
    stream: TcpStream,
    mut opener: Opener,
    silence: Duration,
    mut on_message: impl FnMut(M) -> Result<(), EngineError>,
) -> EngineError {
    let silence = Silence::new(silence.as_millis() as u64);
    let attentive = Attentive { stream, silence };
    let mut reader = BufReader::new(attentive);
    loop {
        match opener.read(&mut reader, FRAME_BYTES_MAX) {
            Ok(message) => {
                reader.get_mut().silence.heard();
                if let Err(error) = on_message(message) {
                    return error;
                }
            }
            Err(OpenError::Frame(FrameError::Io(e))) if is_timeout(&e) => {
                let silent_ms = reader.get_ref().silence.silent_ms();
                return EngineError::PeerSilent { rank, silent_ms };
            }
            Err(OpenError::Frame(error @ (FrameError::Closed | FrameError::Io(_)))) => {
                let reason = match error {
                    FrameError::Io(e) => format!("the connection failed: {e}"),
                    _ => "it ended without a word".to_owned(),
                };
                return EngineError::PeerLost { rank, reason };
            }
            Err(error) => {
                return EngineError::Integrity(format!("control channel to rank {rank}: {error}"));
            }
        }
    }
}

/// A stream whose reads fail once no whole frame came for too long.
struct Attentive {
    stream: TcpStream,
    silence: Silence,
}

impl Read for Attentive {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let began = Instant::now();
            self.stream.set_read_timeout(Some(Duration::from_millis(self.silence.look_ms())))?;
            match self.stream.read(buffer) {
                Err(e) if is_timeout(&e) => {
                    self.silence.pass(began.elapsed().as_millis() as u64);
                    if self.silence.is_over() {
                        return Err(e);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(bytes) => {
                    self.silence.pass(began.elapsed().as_millis() as u64);
                    return Ok(bytes);
                }
                result => return result,
            }
        }
    }
}
