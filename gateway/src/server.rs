//! The listener: bounded connections, bounded patience with each, and an orderly end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::ConnectInfo};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tower_service::Service;

use crate::{Settings, error::ApiError, stall::StallGuard};

/// After the drain, what is already answered gets this long to be sent.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Most time to tell a client that there is no place for it: these connections are not counted.
const TURN_AWAY_TIMEOUT: Duration = Duration::from_secs(1);

/// Pause after a failed accept: out of file descriptors, mostly, which only time mends.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Serves until `drained` ends; then closes all connections as they become idle, and at last.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    settings: &Settings,
    drained: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(settings.max_connections as usize));
    let (closing, closed) = watch::channel(false);
    let mut connections = JoinSet::new();
    let patience = Patience {
        read: Duration::from_millis(settings.read_timeout_ms),
        write: Duration::from_millis(settings.write_timeout_ms),
    };
    tokio::pin!(drained);
    loop {
        let accepted = tokio::select! {
            () = &mut drained => break,
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
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            turn_away(stream);
            continue;
        };
        let (router, closed) = (router.clone(), closed.clone());
        connections.spawn(async move {
            connection(stream, peer, router, patience, closed).await;
            drop(place);
        });
    }
    drop(listener);
    let _ = closing.send(true);
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(FLUSH_TIMEOUT, all).await.is_err() {
        tracing::warn!("clients left their answers unread at the end");
    }
}

#[derive(Clone, Copy)]
struct Patience {
    read: Duration,
    write: Duration,
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    patience: Patience,
    mut closed: watch::Receiver<bool>,
) {
    // Tokens are small and late; waiting to fill a packet would delay each.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().call(request)
    });
    let io = TokioIo::new(StallGuard::new(stream, patience.write));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Also bounds how long an idle connection stays.
        .header_read_timeout(patience.read)
        .serve_connection(io, service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = closing(&mut closed) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = result {
        tracing::debug!(%peer, "a connection ended: {e}");
    }
}

/// Ends when the server closes.
async fn closing(closed: &mut watch::Receiver<bool>) {
    let _ = closed.wait_for(|closed| *closed).await;
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
