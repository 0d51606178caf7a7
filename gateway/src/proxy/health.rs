//! `GET /health` of a proxy: 200 only if the other gateway said lately that it takes requests.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{
        StatusCode,
        header::{AUTHORIZATION, CONTENT_LENGTH, HOST},
    },
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use super::{Proxy, not_ready, upstream::Upstream};
use crate::error::ApiError;

/// How long an answer holds for whoever asks next.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How long the other gateway may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest answer that is read; a real one has some hundred bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// What the other gateway says of itself.
#[derive(Clone, Debug)]
pub(super) struct Said {
    status: StatusCode,
    fields: Map<String, Value>,
}

/// What was last asked.
#[derive(Default)]
pub(super) struct Health {
    last: Mutex<Option<Asked>>,
}

struct Asked {
    at: Instant,
    upstream: Arc<Upstream>,
    /// Or why there was no answer.
    said: Result<Said, String>,
}

pub(super) async fn show(State(proxy): State<Arc<Proxy>>) -> Response {
    let said = match proxy.taking() {
        Ok(()) => current(&proxy).await.map_err(not_ready),
        Err(error) => Err(error),
    };
    match said {
        Ok(Said { status: StatusCode::OK, mut fields }) => {
            fields.insert("proxied_by".into(), proxy.node.as_str().into());
            Json(fields).into_response()
        }
        Ok(Said { status, fields }) => {
            let reason = match fields.get("reason").and_then(Value::as_str) {
                Some(reason) => reason.to_owned(),
                None => format!("The node with rank 0 answers with status {}.", status.as_u16()),
            };
            unavailable(&proxy, ApiError::unavailable("not_ready", reason), &fields)
        }
        Err(error) => unavailable(&proxy, error, &Map::new()),
    }
}

fn unavailable(proxy: &Proxy, error: ApiError, fields: &Map<String, Value>) -> Response {
    let body = json!({
        "status": "unavailable",
        "reason": error.message,
        "phase": fields.get("phase"),
        "epoch": fields.get("epoch"),
        "proxied_by": proxy.node,
    });
    // Status and Retry-After are those of any refusal now; only the body is of its own.
    let mut answer = error.into_response();
    *answer.body_mut() = Body::from(body.to_string());
    answer.headers_mut().remove(CONTENT_LENGTH);
    answer
}

/// The other gateway's word, at most a second old. Whoever asks meanwhile waits for the same one.
async fn current(proxy: &Proxy) -> Result<Said, String> {
    let upstream = proxy.upstream.current().await?;
    let mut last = proxy.health.last.lock().await;
    if let Some(asked) = &*last
        && asked.at.elapsed() < ASK_EVERY
        && Arc::ptr_eq(&asked.upstream, &upstream)
    {
        return asked.said.clone();
    }
    let at = Instant::now();
    let said = ask(proxy, &upstream).await;
    *last = Some(Asked { at, upstream, said: said.clone() });
    said
}

/// Asks it. Any answer over HTTP is one, whatever it says.
pub(super) async fn ask(proxy: &Proxy, upstream: &Arc<Upstream>) -> Result<Said, String> {
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.uri_mut() = hyper::Uri::from_static("/health");
    let headers = request.headers_mut();
    headers.insert(HOST, upstream.host.clone());
    headers.insert(AUTHORIZATION, upstream.authorization.clone());
    let answer = async {
        let sent = proxy.pool.send(upstream, request).await;
        let (response, lease) = sent.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| format!("its health did not arrive whole: {error}"))?;
        proxy.pool.keep(lease);
        let fields = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
        Ok(Said { status, fields })
    };
    let late = || "the node with rank 0 does not answer".to_owned();
    tokio::time::timeout(ANSWER_TIMEOUT, answer).await.unwrap_or_else(|_| Err(late()))
}
