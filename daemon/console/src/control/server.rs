//! The supervisor's end of the control socket.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tandem_policy::OrderKind;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time::timeout,
};
use tracing::{info, warn};

use super::{
    FRAME_BYTES_MAX, HOLD_MS_MAX, HOLD_MS_MIN, OBEY_TIMEOUT, Orders, REASON_CHARS_MAX, Reply,
    Request, Why, orders::NotObeyed,
};

/// Connections at once. Only root's are counted, and an idle one is closed after
/// [`LINE_TIMEOUT`], so a loop gone wild slows itself and not the next operator.
const CONNECTIONS_MAX: usize = 128;

/// Longest wait for a request's line, and for the client to take the reply.
const LINE_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause after a failed accept: out of file descriptors, mostly, which only time mends.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A bound control socket; dropping it removes the socket.
#[derive(Debug)]
pub struct ControlServer {
    listener: UnixListener,
    path: PathBuf,
    /// The user that may ask besides root: the supervisor's own.
    own_uid: u32,
}

impl ControlServer {
    /// Binds the socket with mode 0600. One that nobody answers, left by a crash, is replaced.
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AddrInUse`] if another supervisor answers there;
    /// [`io::ErrorKind::AlreadyExists`] if something that is no socket is there; else the system's.
    pub fn bind(path: &Path) -> io::Result<Self> {
        make_room(path)?;
        let listener = UnixListener::bind(path)?;
        let server =
            Self { listener, path: path.to_owned(), own_uid: nix::unistd::geteuid().as_raw() };
        // Until here the mode is what the umask left. Whoever gets in before is still asked who
        // it is.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(server)
    }

    /// Answers for ever.
    pub async fn serve(self, orders: Orders) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!("the control socket can't accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            if let Err(message) = self.admit(&stream) {
                warn!("the control socket refused a client: {message}");
                answer(stream, &Reply::Error { why: Why::Forbidden, message });
                continue;
            }
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                let message = format!("{CONNECTIONS_MAX} clients are connected; try again soon");
                answer(stream, &Reply::Error { why: Why::Busy, message });
                continue;
            };
            let orders = orders.clone();
            tokio::spawn(async move {
                converse(stream, &orders).await;
                drop(place);
            });
        }
    }

    /// Who may ask: root and the supervisor's own user. A client that can't be known may not.
    fn admit(&self, stream: &UnixStream) -> Result<(), String> {
        let peer =
            stream.peer_cred().map_err(|error| format!("who it is can't be read: {error}"))?;
        if peer.uid() == 0 || peer.uid() == self.own_uid {
            return Ok(());
        }
        Err(format!("user {} may not give orders; use sudo", peer.uid()))
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        // What can't be removed is replaced by the next supervisor.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes a socket that nobody listens on.
fn make_room(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        let why = format!("{} is there and is no socket; remove it", path.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => {
            let why = format!("another supervisor answers at {}", path.display());
            Err(io::Error::new(io::ErrorKind::AddrInUse, why))
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

async fn converse(mut stream: UnixStream, orders: &Orders) {
    let reply = match timeout(LINE_TIMEOUT, read(&mut stream)).await {
        Ok(Ok(request)) => obey(request, orders).await,
        Ok(Err(message)) => Reply::Error { why: Why::Malformed, message },
        Err(_) => {
            let message = format!("no request came in {} s", LINE_TIMEOUT.as_secs());
            Reply::Error { why: Why::Malformed, message }
        }
    };
    send(stream, &reply).await;
}

/// Reads one bounded line.
async fn read(stream: &mut UnixStream) -> Result<Request, String> {
    let mut line = Vec::new();
    let limit = FRAME_BYTES_MAX as u64;
    let read = BufReader::new(stream).take(limit).read_until(b'\n', &mut line).await;
    read.map_err(|error| format!("the request can't be read: {error}"))?;
    match line.last() {
        Some(b'\n') => {}
        _ if line.len() >= FRAME_BYTES_MAX => {
            return Err(format!("the request is longer than {FRAME_BYTES_MAX} bytes"));
        }
        _ => return Err("the request ended before its line did".into()),
    }
    serde_json::from_slice(&line).map_err(|error| format!("this is no request: {error}"))
}

async fn obey(request: Request, orders: &Orders) -> Reply {
    let what = match order(request, wall_ms()) {
        Ok(Some(what)) => what,
        Ok(None) => return Reply::Pong,
        Err(message) => return Reply::Error { why: Why::Malformed, message },
    };
    match orders.give(what.clone(), OBEY_TIMEOUT).await {
        Ok(order) => {
            info!("an operator's order {order} was obeyed: {what:?}");
            Reply::Obeyed { order }
        }
        Err(error) => {
            warn!("an operator's order was not obeyed: {what:?}: {error}");
            let why = match error {
                NotObeyed::Full => Why::Busy,
                NotObeyed::Unconfirmed => Why::Unconfirmed,
            };
            Reply::Error { why, message: error.to_string() }
        }
    }
}

/// The order that a request is; `None` if it is none.
fn order(request: Request, now_wall_ms: u64) -> Result<Option<OrderKind>, String> {
    Ok(Some(match request {
        Request::Ping => return Ok(None),
        Request::Drain => OrderKind::Drain,
        Request::Resume => OrderKind::Resume,
        Request::Release => OrderKind::Release,
        Request::Hold { for_ms: None } => OrderKind::Hold { until_wall_ms: None },
        Request::Hold { for_ms: Some(ms) } if (HOLD_MS_MIN..=HOLD_MS_MAX).contains(&ms) => {
            OrderKind::Hold { until_wall_ms: Some(now_wall_ms.saturating_add(ms)) }
        }
        Request::Hold { for_ms: Some(_) } => {
            return Err("hold for 1 second to 30 days, or without an end".into());
        }
        Request::Reboot { all, reason } if is_reason(&reason) => OrderKind::Reboot { all, reason },
        Request::Reboot { .. } => {
            return Err(format!("say why in 1 to {REASON_CHARS_MAX} characters of one line"));
        }
    }))
}

/// Whether a reason can stand in a log and on another machine's terminal.
fn is_reason(reason: &str) -> bool {
    !reason.trim().is_empty()
        && reason.chars().count() <= REASON_CHARS_MAX
        && !reason.chars().any(char::is_control)
}

/// A clock before 1970 makes every hold with an end be over, which releases it.
fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Sends a reply without being waited for.
fn answer(stream: UnixStream, reply: &Reply) {
    let reply = reply.clone();
    tokio::spawn(async move { send(stream, &reply).await });
}

async fn send(mut stream: UnixStream, reply: &Reply) {
    let Ok(mut line) = serde_json::to_vec(reply) else { return };
    line.push(b'\n');
    // A client that is gone needs no reply.
    let _ = timeout(LINE_TIMEOUT, stream.write_all(&line)).await;
}
