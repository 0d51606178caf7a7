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

use crate::{Settings, stall::StallGuard};

/// After the drain, what is already answered gets this long to be sent.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause after a failed accept: out of file descriptors, mostly, which only time mends.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Whole, since at this point nothing else of the server is engaged.
const TOO_MANY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
    retry-after: 2\r\nconnection: close\r\ncontent-length: 145\r\n\r\n";
const TOO_MANY_BODY: &str = r#"{"error":{"message":"Too many open connections; try again soon.","type":"service_unavailable_error","param":null,"code":"too_many_connections"}}"#;

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

/// Says why, without waiting: an answer this short fits the socket's buffer.
fn turn_away(mut stream: TcpStream) {
    tokio::spawn(async move {
        let text = format!("{TOO_MANY}{TOO_MANY_BODY}");
        let _ = timeout(Duration::from_secs(1), stream.write_all(text.as_bytes())).await;
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canned_answer_is_as_long_as_it_says() {
        let says = format!("content-length: {}\r\n", TOO_MANY_BODY.len());
        assert!(TOO_MANY.contains(&says), "{says}");
        let body: serde_json::Value = serde_json::from_str(TOO_MANY_BODY).unwrap();
        assert_eq!(body["error"]["code"], "too_many_connections");
    }
}
