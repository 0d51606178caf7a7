//! The rank's Unix socket: tells its phase and vitals, takes requests on rank 0.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tandem_wire::{FailureCode, FrameError, FromRank, Hello, ModelCard, Phase, Submit, ToRank};

use super::intake::{Cancelled, Refused};
use super::shared::{Shared, lock};
use crate::EngineError;
use crate::schedule::RequestKey;

/// Most connections at a time: a gateway, a supervisor, a CLI, and their successors before the old
/// ones are gone.
const CONNECTIONS_MAX: usize = 8;
/// Most frames that wait for a reader: a second and more of tokens from full slots. Who is further
/// behind does not read, and is cut off.
const OUTGOING_MAX: usize = 4096;
/// Most frames written at once.
const BATCH_MAX: usize = 64;
/// How long the last messages may take to be written when the rank ends.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(200);
/// Owner and group may connect: the supervisor's and the gateway's group is the rank's.
const SOCKET_MODE: u32 = 0o660;

/// The socket and its connections.
pub(super) struct Server {
    path: PathBuf,
    hello: Hello,
    shared: Arc<Shared>,
    state: Mutex<State>,
    closed: AtomicBool,
    /// Disconnected when the last writing thread has ended.
    written: Mutex<Receiver<()>>,
}

struct State {
    phase: Phase,
    card: Option<ModelCard>,
    connections: HashMap<u64, Connection>,
    next_connection: u64,
    /// What every writing thread holds a copy of; `None` from when the rank ends.
    writing: Option<Sender<()>>,
}

struct Connection {
    stream: UnixStream,
    outgoing: SyncSender<Vec<u8>>,
}

impl Server {
    /// Opens the socket and takes connections, in [`Phase::Forming`].
    pub(super) fn open(
        path: PathBuf,
        hello: Hello,
        shared: Arc<Shared>,
    ) -> Result<Arc<Self>, EngineError> {
        let os = |source| EngineError::Os {
            what: format!("the rank's socket {} can't be opened", path.display()),
            source,
        };
        remove_stale(&path).map_err(os)?;
        let listener = UnixListener::bind(&path).map_err(os)?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(SOCKET_MODE)).map_err(os)?;
        let (writing, written) = mpsc::channel();
        let state = State {
            phase: Phase::Forming,
            card: None,
            connections: HashMap::new(),
            // 0 is the rank itself, which warms up.
            next_connection: 1,
            writing: Some(writing),
        };
        let server = Arc::new(Self {
            path: path.clone(),
            hello,
            shared,
            state: Mutex::new(state),
            closed: AtomicBool::new(false),
            written: Mutex::new(written),
        });
        let taker = Arc::clone(&server);
        let take = move || taker.take_connections(&listener);
        std::thread::Builder::new().name("socket".into()).spawn(take).map_err(os)?;
        Ok(server)
    }

    /// The phase now.
    pub(super) fn phase(&self) -> Phase {
        lock(&self.state).phase
    }

    /// Moves on to a phase and tells everybody; a rank never goes back to an earlier one.
    pub(super) fn set_phase(&self, phase: Phase) {
        let mut state = lock(&self.state);
        if phase <= state.phase {
            return;
        }
        tracing::info!(?phase, "phase");
        state.phase = phase;
        let message = state.phase_message();
        let everybody: Vec<u64> = state.connections.keys().copied().collect();
        for connection in everybody {
            state.send(connection, &message);
        }
    }

    /// What to tell of the model once the rank is ready.
    pub(super) fn set_card(&self, card: ModelCard) {
        lock(&self.state).card = Some(card);
    }

    /// Sends to one connection, if it is still there. Never waits.
    pub(super) fn send(&self, connection: u64, message: &FromRank) {
        lock(&self.state).send(connection, message);
    }

    /// Writes what waits, ends all connections and removes the socket.
    pub(super) fn close(&self) {
        if self.closed.swap(true, Ordering::Relaxed) {
            return;
        }
        // Wakes the thread that takes connections.
        drop(UnixStream::connect(&self.path));
        let connections = {
            let mut state = lock(&self.state);
            state.writing = None;
            std::mem::take(&mut state.connections)
        };
        let mut streams = Vec::new();
        for connection in connections.into_values() {
            streams.push(connection.stream);
        }
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        let written = lock(&self.written);
        while let Ok(()) | Err(RecvTimeoutError::Timeout) =
            written.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            if Instant::now() >= deadline {
                break;
            }
        }
        for stream in streams {
            let _ = stream.shutdown(Shutdown::Both);
        }
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket was not removed");
        }
    }

    fn take_connections(self: &Arc<Self>, listener: &UnixListener) {
        for stream in listener.incoming() {
            if self.closed.load(Ordering::Relaxed) {
                return;
            }
            match stream {
                Ok(stream) => {
                    if let Err(error) = self.welcome(stream) {
                        tracing::warn!(%error, "a connection to the rank's socket failed");
                    }
                }
                // Out of descriptors, at worst: the pause keeps this thread from spinning.
                Err(error) => {
                    tracing::warn!(%error, "a connection to the rank's socket was not taken");
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }

    fn welcome(self: &Arc<Self>, stream: UnixStream) -> io::Result<()> {
        let (reader, mut writer) = (stream.try_clone()?, stream.try_clone()?);
        let (outgoing, frames) = mpsc::sync_channel::<Vec<u8>>(OUTGOING_MAX);
        let connection = {
            // Under the lock, so that no change of phase comes between `Phase` and the entry.
            let mut state = lock(&self.state);
            let Some(writing) = state.writing.clone() else {
                return Ok(());
            };
            if state.connections.len() >= CONNECTIONS_MAX {
                let reason = format!("{CONNECTIONS_MAX} connections are open already");
                return Err(io::Error::other(reason));
            }
            let connection = state.next_connection;
            state.next_connection += 1;
            let name = format!("write-{connection}");
            std::thread::Builder::new().name(name).spawn(move || {
                let _writing = writing;
                write(&mut writer, &frames);
            })?;
            state.connections.insert(connection, Connection { stream, outgoing });
            state.send(connection, &FromRank::Hello(self.hello.clone()));
            let phase = state.phase_message();
            state.send(connection, &phase);
            connection
        };
        let server = Arc::clone(self);
        let name = format!("read-{connection}");
        let spawned = std::thread::Builder::new()
            .name(name)
            .spawn(move || server.read(connection, reader))
            .map(drop);
        if spawned.is_err() {
            lock(&self.state).connections.remove(&connection);
        }
        spawned
    }

    /// Obeys one connection until it ends, then forgets it and what it asked for.
    fn read(&self, connection: u64, mut stream: UnixStream) {
        loop {
            match tandem_wire::read_frame::<ToRank>(&mut stream) {
                Ok(message) => self.obey(connection, message),
                Err(FrameError::Closed) => break,
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(connection, %error, cause, "a connection is cut off");
                    break;
                }
            }
        }
        let _ = stream.shutdown(Shutdown::Both);
        lock(&self.state).connections.remove(&connection);
        if self.takes_requests() {
            self.shared.intake.gone(connection);
            self.shared.wake();
        }
    }

    fn obey(&self, connection: u64, message: ToRank) {
        match message {
            ToRank::Submit(submit) => {
                let id = submit.id;
                let Err((code, message)) = self.submit(connection, submit) else {
                    return;
                };
                self.send(connection, &FromRank::Failed { id, code, message });
            }
            ToRank::Cancel { id } => self.cancel(RequestKey { connection, id }),
            ToRank::Vitals => {
                let Hello { epoch, rank, .. } = self.hello;
                let vitals = self.shared.board.vitals(epoch, rank, self.phase());
                self.send(connection, &FromRank::Vitals(vitals));
            }
            ToRank::Unload => self.shared.ask_unload("a connection to the rank's socket"),
        }
    }

    /// Hands a request to rank 0's engine thread; else the refusal. Never waits.
    fn submit(&self, connection: u64, submit: Box<Submit>) -> Result<(), (FailureCode, String)> {
        let phase = self.phase();
        if self.hello.rank != 0 {
            let message = format!("requests go to rank 0; this is rank {}", self.hello.rank);
            return Err((FailureCode::NotReady, message));
        }
        if phase != Phase::Ready {
            return Err((FailureCode::NotReady, format!("the rank is {phase:?}, not ready")));
        }
        self.shared.intake.submit(connection, submit).map_err(|refused| match refused {
            Refused::Full => (FailureCode::Full, "too many requests wait for a step".to_owned()),
            Refused::Closed => (FailureCode::NotReady, "the rank is ending".to_owned()),
        })?;
        self.shared.wake();
        Ok(())
    }

    fn cancel(&self, key: RequestKey) {
        if !self.takes_requests() {
            return;
        }
        match self.shared.intake.cancel(key) {
            Cancelled::TakenBack => self.cancelled(key),
            Cancelled::PassedOn => self.shared.wake(),
            Cancelled::TooMany => {
                tracing::warn!(key.connection, "a connection that cancels without end is cut off");
                lock(&self.state).cut_off(key.connection);
            }
        }
    }

    /// Tells that a request is gone, as its connection asked.
    pub(super) fn cancelled(&self, key: RequestKey) {
        let message = "as its sender asked".to_owned();
        let answer = FromRank::Failed { id: key.id, code: FailureCode::Cancelled, message };
        self.send(key.connection, &answer);
    }

    /// Whether there are requests: before it is ready the engine thread takes none, and other ranks'
    /// obey rank 0 alone.
    fn takes_requests(&self) -> bool {
        self.hello.rank == 0 && self.phase() >= Phase::Ready
    }
}

impl State {
    fn phase_message(&self) -> FromRank {
        let model = self.card.clone().filter(|_| self.phase >= Phase::Ready);
        FromRank::Phase { phase: self.phase, model }
    }

    fn send(&mut self, connection: u64, message: &FromRank) {
        let Some(to) = self.connections.get(&connection) else {
            return;
        };
        let sent = match tandem_wire::encode(message) {
            Ok(frame) => to.outgoing.try_send(frame).is_ok(),
            Err(error) => {
                tracing::error!(%error, "a message could not be encoded");
                false
            }
        };
        if !sent {
            tracing::warn!(connection, "a connection that does not read is cut off");
            self.cut_off(connection);
        }
    }

    /// Ends a connection; its reading thread wakes by this and tidies up.
    fn cut_off(&mut self, connection: u64) {
        if let Some(gone) = self.connections.remove(&connection) {
            let _ = gone.stream.shutdown(Shutdown::Both);
        }
    }
}

/// Writes frames as they come, several at once when several wait.
fn write(stream: &mut UnixStream, frames: &Receiver<Vec<u8>>) {
    while let Ok(mut batch) = frames.recv() {
        for frame in frames.try_iter().take(BATCH_MAX - 1) {
            batch.extend(frame);
        }
        if stream.write_all(&batch).is_err() {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

/// Removes a socket that nobody answers at; one that answers belongs to a living rank.
fn remove_stale(path: &Path) -> io::Result<()> {
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(ErrorKind::AddrInUse, "another rank answers there")),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(e) => Err(e),
    }
}
