//! The status endpoint: read only, on loopback, bounded in connections and in patience.
//!
//! Nothing here waits for the supervisor, and the supervisor waits for nothing here.

mod events;
mod host;
pub(crate) mod metrics;
mod patience;
mod places;
mod ready;
mod routes;

use std::{
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    body::{Body, HttpBody},
};
use hyper::{
    body::{Bytes, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tandem_wire::date::{is_date, while_dated};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tracing::{debug, warn};

use crate::publish::Published;
pub(crate) use events::KEEP_ALIVE;
use patience::Patience;
use places::{Answering, Place, Places};
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
    let places = Places::new(CONNECTIONS_MAX);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!("the status endpoint can't accept a connection: {error}");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        if !is_date(SystemTime::now()) {
            turn_away(stream, "this machine's clock is before 1970 or after 9999; set it");
            continue;
        }
        let Some(place) = places.take() else {
            turn_away(stream, "too many open connections; try again soon");
            continue;
        };
        let router = router.clone();
        tokio::spawn(connection(stream, router, place));
    }
}

async fn connection(stream: TcpStream, router: Router, place: Place) {
    let place = Arc::new(place);
    let io = TokioIo::new(Patience::new(stream, WRITE_TIMEOUT));
    let answer = |request: hyper::Request<Incoming>| {
        let (router, answering) = (TowerToHyperService::new(router.clone()), place.answering());
        async move {
            let response = hyper::service::Service::call(&router, request).await?;
            Ok::<_, std::convert::Infallible>(
                response.map(|body| Answer { body, _answering: answering }),
            )
        }
    };
    let mut served = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(io, service_fn(answer))
    );
    let ended = tokio::select! {
        ended = while_dated(served.as_mut()) => ended,
        () = place.lost() => Err("it asked for nothing, and its place was needed".into()),
    };
    if let Err(why) = ended {
        debug!("a connection to the status endpoint ended: {why}");
    }
}

/// A body during which its connection keeps its place.
struct Answer {
    body: Body,
    _answering: Answering,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Says why, in an answer short enough for the socket's buffer. The request is not read.
fn turn_away(mut stream: TcpStream, why: &str) {
    let body = format!("{}\n", serde_json::json!({ "error": why }));
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
         retry-after: 2\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    tokio::spawn(async move {
        let _ = timeout(TURN_AWAY_TIMEOUT, stream.write_all(answer.as_bytes())).await;
    });
}
