//! Connections to the other gateway. Each carries one request at a time; how many there are is
//! bounded by how many requests are forwarded at once.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tandem_wire::way;
use tokio::{
    net::{TcpSocket, TcpStream},
    task::AbortHandle,
    time::timeout,
};

use super::upstream::Upstream;

/// Most connections kept for the next request: enough that a few clients at a time find one, and few
/// beside the other gateway's `max_connections`.
const IDLE_MAX: usize = 8;

/// How long a kept connection is used again; less than the other gateway keeps it (`read_timeout_ms`,
/// 30 s unless changed), so that few are found closed.
const IDLE_AGE_MAX: Duration = Duration::from_secs(10);

/// How long a connection may take. One lost packet is sent again after a second.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a kept connection may take to be ready: it is, once its task saw the last answer's end.
const READY_TIMEOUT: Duration = Duration::from_millis(100);

/// A connection in use. Dropping it closes it, and the other gateway stops what it did for it.
pub(super) struct Lease {
    sender: SendRequest<Full<Bytes>>,
    task: AbortHandle,
    upstream: Arc<Upstream>,
    kept: Instant,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error("the node with rank 0 can't be reached at {address}: {source}")]
    Connect { address: std::net::SocketAddr, source: io::Error },
    #[error("the node with rank 0 broke the connection: {0}")]
    Broken(hyper::Error),
}

/// The connections that wait for a request.
#[derive(Default)]
pub(super) struct Pool {
    idle: Mutex<Vec<Lease>>,
}

impl Pool {
    /// Sends a request; gives the answer's head, and its body as it comes.
    pub(super) async fn send(
        &self,
        upstream: &Arc<Upstream>,
        request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Lease), NoAnswer> {
        if let Some(mut lease) = self.take(upstream).await {
            match lease.sender.send_request(request.clone()).await {
                Ok(response) => return Ok((response, lease)),
                // Most likely it was closed for being idle. Asking again is harmless even if not:
                // what the API generates changes nothing, and the first was ended with its
                // connection.
                Err(error) => tracing::debug!("a kept connection failed: {error}"),
            }
        }
        let mut lease = connect(upstream).await?;
        let response = lease.sender.send_request(request).await.map_err(NoAnswer::Broken)?;
        Ok((response, lease))
    }

    /// Keeps a connection whose answer was read to its end.
    pub(super) fn keep(&self, mut lease: Lease) {
        lease.kept = Instant::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|kept| !kept.sender.is_closed() && kept.kept.elapsed() < IDLE_AGE_MAX);
        if idle.len() < IDLE_MAX && !lease.sender.is_closed() {
            idle.push(lease);
        }
    }

    async fn take(&self, upstream: &Arc<Upstream>) -> Option<Lease> {
        loop {
            let mut lease = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            let fits =
                Arc::ptr_eq(&lease.upstream, upstream) && lease.kept.elapsed() < IDLE_AGE_MAX;
            if fits && matches!(timeout(READY_TIMEOUT, lease.sender.ready()).await, Ok(Ok(()))) {
                return Some(lease);
            }
        }
    }
}

async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    TcpSocket::from_std_stream(way::unconnected(address)?).connect(address).await
}

async fn connect(upstream: &Arc<Upstream>) -> Result<Lease, NoAnswer> {
    let address = upstream.address;
    let failed = |source| NoAnswer::Connect { address, source };
    let stream = timeout(CONNECT_TIMEOUT, open(address))
        .await
        .map_err(|_| failed(io::ErrorKind::TimedOut.into()))?
        .map_err(failed)?;
    // A request is sent whole; waiting to fill a packet would only delay it.
    let _ = stream.set_nodelay(true);
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(NoAnswer::Broken)?;
    let task = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!("a connection to the node with rank 0 ended: {error}");
        }
    });
    let task = task.abort_handle();
    Ok(Lease { sender, task, upstream: Arc::clone(upstream), kept: Instant::now() })
}
