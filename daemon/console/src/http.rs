//! The status endpoint: read only, on loopback, bounded in connections and in patience.
//!
//! Nothing here waits for the supervisor, and the supervisor waits for nothing here.

mod events;
mod host;
pub(crate) mod metrics;
mod patience;
mod ready;
mod routes;

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tracing::{debug, warn};

use crate::publish::Published;
pub(crate) use events::KEEP_ALIVE;
use patience::Patience;
pub(crate) use ready::AGE_MAX;

/// Open connections at once: a few dashboards, scrapers and `tandem status --watch`.
pub(crate) const CONNECTIONS_MAX: usize = 64;

/// Longest time for the head of a request, and for which an idle connection is kept.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// A client that takes nothing for so long is cut off.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest head of a request, in bytes; hyper's least is 8 KiB.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Most time to tell a client that there is no place for it: these connections are not counted.
const TURN_AWAY_TIMEOUT: Duration = Duration::from_secs(1);

/// Pause after a failed accept: out of file descriptors, mostly, which only time mends.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Answers for ever.
///
/// # Errors
///
/// If the listener is not on loopback: what is shown here is for this machine alone.
pub async fn serve(listener: TcpListener, published: Published) -> io::Result<()> {
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{address} is not a loopback address; set supervise.status_listen to one"),
        ));
    }
    let router = routes::router(published);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!("the status endpoint can't accept a connection: {error}");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            turn_away(stream);
            continue;
        };
        let router = router.clone();
        tokio::spawn(async move {
            connection(stream, router).await;
            drop(place);
        });
    }
}

async fn connection(stream: TcpStream, router: Router) {
    let io = TokioIo::new(Patience::new(stream, WRITE_TIMEOUT));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(io, TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        debug!("a connection to the status endpoint ended: {error}");
    }
}

/// Says why, in an answer short enough for the socket's buffer. The request is not read.
fn turn_away(mut stream: TcpStream) {
    const BODY: &str = "{\"error\":\"too many open connections; try again soon\"}\n";
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
         retry-after: 2\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    tokio::spawn(async move {
        let _ = timeout(TURN_AWAY_TIMEOUT, stream.write_all(answer.as_bytes())).await;
    });
}
