//! The port that the other nodes dial.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};

use super::{admission::Admission, answer, board::Board, message::WireError, trouble::Troubles};
use crate::identity::Identity;

/// Pause between two tries to listen.
const BIND_PAUSE: Duration = Duration::from_secs(1);

/// Pause after each accepted connection: strangers can make this machine compute no more than 500
/// handshakes a second, each of about 100 microseconds.
const ACCEPT_PAUSE: Duration = Duration::from_millis(2);

/// Pause after a connection that could not be accepted, for want of file descriptors say.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Failures in a row after which it listens anew: the socket itself may be broken.
const ACCEPT_FAILURES_MAX: u32 = 50;

/// What listens.
pub(super) struct Listening {
    pub(super) board: Arc<Board>,
    pub(super) identity: Identity,
    pub(super) admission: Admission,
    pub(super) troubles: Troubles,
    place: SocketAddr,
    state: Mutex<Result<SocketAddr, String>>,
}

impl Listening {
    /// Not yet.
    pub(super) fn new(board: Arc<Board>, identity: Identity, place: SocketAddr) -> Self {
        Self {
            board,
            identity,
            admission: Admission::default(),
            troubles: Troubles::default(),
            place,
            state: Mutex::new(Err(format!("not yet listening on {place}"))),
        }
    }

    /// Where it listens, or why it does not.
    pub(super) fn state(&self) -> Result<SocketAddr, String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, state: Result<SocketAddr, String>) {
        let mut known = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == state {
            return;
        }
        match &state {
            Ok(address) => tracing::info!(%address, "listening for the other nodes"),
            Err(problem) => tracing::warn!(problem, "the other nodes can't reach this one"),
        }
        *known = state;
    }

    /// Listens for ever. An address that is not there yet is tried until it is.
    pub(super) async fn keep(self: Arc<Self>) {
        loop {
            let bound = match TcpListener::bind(self.place).await {
                Ok(listener) => listener.local_addr().map(|address| (listener, address)),
                Err(error) => Err(error),
            };
            let error = match bound {
                Ok((listener, address)) => {
                    self.set(Ok(address));
                    self.accept(&listener).await
                }
                Err(error) => error,
            };
            self.set(Err(format!("can't listen on {}: {error}", self.place)));
            sleep(BIND_PAUSE).await;
        }
    }

    /// Accepts until that fails again and again.
    async fn accept(self: &Arc<Self>, listener: &TcpListener) -> std::io::Error {
        let mut tasks = JoinSet::new();
        let mut failures = 0;
        loop {
            match listener.accept().await {
                Ok((stream, address)) => {
                    failures = 0;
                    self.admission.admit(address.ip(), |id| {
                        tasks.spawn(self.clone().serve(stream, address, id))
                    });
                    sleep(ACCEPT_PAUSE).await;
                }
                Err(error) if failures >= ACCEPT_FAILURES_MAX => return error,
                Err(_) => {
                    failures += 1;
                    sleep(ACCEPT_RETRY).await;
                }
            }
            // What has ended; there are never more than the admitted ones.
            while tasks.try_join_next().is_some() {}
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, address: SocketAddr, id: u64) {
        let ended: Result<Infallible, WireError> = answer::serve(&self, stream, id).await;
        match ended {
            Err(WireError::Closed) => {}
            Err(error) => self.troubles.note(address, &error.to_string()),
        }
        self.admission.leave(id);
    }
}
