//! The listeners: bounded connections, bounded patience with each, and an orderly end.

use std::{
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::ConnectInfo};
use hyper::{Version, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tandem_wire::date::while_dated;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    task::JoinSet,
    time::timeout,
};
use tower_service::Service;

use crate::{
    Settings,
    arrival::{Arrival, Table},
    error::ApiError,
    half_close::{Exchange, HalfClose},
    refusal::Spoken,
    stall::StallGuard,
};

/// After the drain, what is already answered gets this long to be sent.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Most time to tell a client that there is no place for it: these connections are not counted.
const TURN_AWAY_TIMEOUT: Duration = Duration::from_secs(1);

/// Pause after a failed accept: out of file descriptors, mostly, which only time mends.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Pause after an address could not be listened on: it may be one of a link that comes up later.
const BIND_RETRY: Duration = Duration::from_secs(1);

/// What all listeners of one process share.
pub(crate) struct Server {
    /// Connections, whichever listener they come by.
    connections: Table,
    patience: Patience,
    drained: watch::Sender<bool>,
}

#[derive(Clone, Copy)]
struct Patience {
    read: Duration,
    write: Duration,
}

impl Server {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            connections: Table::new(settings.max_connections as usize),
            patience: Patience {
                read: settings.read_timeout(),
                write: Duration::from_millis(settings.write_timeout_ms),
            },
            drained: watch::Sender::new(false),
        }
    }

    /// Nothing that counts runs any more: all listeners end.
    pub(crate) fn drained(&self) {
        self.drained.send_replace(true);
    }

    /// Serves until [`Self::drained`]; then closes all connections as they become idle, and at last.
    pub(crate) async fn serve(&self, listener: TcpListener, router: Router) {
        let mut connections = JoinSet::new();
        let mut drained = self.drained.subscribe();
        loop {
            let accepted = tokio::select! {
                () = until(&mut drained) => break,
                // Only forgets those that ended, so that the set does not grow.
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(e) => {
                    tracing::warn!("accepting a connection failed: {e}");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            let given_up = Arc::new(Notify::new());
            let Some(arrival) = self.connections.enter(peer.ip(), &given_up) else {
                turn_away(stream);
                continue;
            };
            let (router, patience, closed) = (router.clone(), self.patience, drained.clone());
            connections.spawn(async move {
                tokio::select! {
                    () = connection(stream, peer, arrival, router, patience, closed) => {}
                    () = given_up.notified() => {
                        tracing::debug!(%peer, "a connection is given up: others need its place");
                    }
                }
            });
            // Before the next is taken, for which one that has sent all might have to go.
            tokio::task::yield_now().await;
        }
        drop(listener);
        let all = async { while connections.join_next().await.is_some() {} };
        if timeout(FLUSH_TIMEOUT, all).await.is_err() {
            tracing::warn!("clients left their answers unread at the end");
            // Waits until they are gone, so that what they were answering is recorded.
            connections.shutdown().await;
        }
    }

    /// As [`Self::serve`], on an address that may not be there yet.
    pub(crate) async fn serve_at(&self, address: SocketAddr, router: Router) {
        let mut drained = self.drained.subscribe();
        tokio::select! {
            () = until(&mut drained) => {}
            listener = bind(address) => self.serve(listener, router).await,
        }
    }
}

/// Tries to listen until it works.
async fn bind(address: SocketAddr) -> TcpListener {
    let mut warned = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                tracing::info!(%address, "listening for other nodes");
                return listener;
            }
            Err(e) if !warned => {
                warned = true;
                tracing::warn!(
                    %address,
                    "can't listen for other nodes yet, still trying: {e} (rank 0's address and \
                     gateway.peer_port)"
                );
            }
            Err(_) => {}
        }
        tokio::time::sleep(BIND_RETRY).await;
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    arrival: Arrival,
    router: Router,
    patience: Patience,
    mut closed: watch::Receiver<bool>,
) {
    // Tokens are small and late; waiting to fill a packet would delay each.
    let _ = stream.set_nodelay(true);
    let exchange = Exchange::default();
    let stream = HalfClose::new(stream, exchange.clone());
    let is_first = AtomicBool::new(true);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        let is_first = is_first.swap(false, Ordering::Relaxed);
        exchange.begin(is_first && request.version() == Version::HTTP_11);
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(arrival.clone());
        let answer = router.clone().call(request);
        let (arrival, exchange) = (arrival.clone(), exchange.clone());
        async move { answer.await.map(|answer| arrival.answered(answer, exchange)) }
    });
    let io = TokioIo::new(Spoken::new(StallGuard::new(stream, patience.write)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Also bounds how long an idle connection stays.
        .header_read_timeout(patience.read)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = while_dated(connection.as_mut()) => result,
        () = until(&mut closed) => {
            connection.as_mut().graceful_shutdown();
            while_dated(connection).await
        }
    };
    if let Err(e) = result {
        tracing::debug!(%peer, "a connection ended: {e}");
    }
}

/// Ends when the server is drained.
async fn until(drained: &mut watch::Receiver<bool>) {
    let _ = drained.wait_for(|drained| *drained).await;
}

/// Says why, in an answer short enough to fit the socket's buffer. The request is not read.
fn turn_away(mut stream: TcpStream) {
    let reason = "Too many open connections; try again soon.";
    let body = ApiError::unavailable("too_many_connections", reason).to_json().to_string();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
         retry-after: 2\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    tokio::spawn(async move {
        let _ = timeout(TURN_AWAY_TIMEOUT, stream.write_all(answer.as_bytes())).await;
    });
}
