//! A request's way to the other gateway, up to the head of the answer.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
        header::{
            ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, PROXY_AUTHENTICATE, TE, TRAILER,
            TRANSFER_ENCODING, UPGRADE, USER_AGENT,
        },
        request::Parts,
        response,
    },
    response::Response,
};
use bytes::Bytes;
use http_body_util::Full;
use tokio::sync::watch;

use super::{
    Proxy, draining, not_ready,
    relay::{self, Relay},
    upstream::Upstream,
};
use crate::{
    app::random_u64,
    door::{CANARY, REQUEST_ID, is_canary},
    error::ApiError,
    record::Recorder,
    request_body,
};

/// Headers of a client that mean something to the other gateway. None of them is hop-by-hop.
const FORWARDED: [HeaderName; 4] = [ACCEPT, CONTENT_TYPE, USER_AGENT, REQUEST_ID];

/// Headers of an answer that are about one connection only (RFC 9110, section 7.6.1), beside those
/// that `Connection` names.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Forwards a request of any path, and its answer as it comes.
pub(super) async fn forward(
    State(proxy): State<Arc<Proxy>>,
    request: Request,
) -> Result<Response, ApiError> {
    let canary = is_canary(&request);
    let (parts, body) = request.into_parts();
    let body = request_body::read(&proxy.settings, &parts.extensions, body).await?;
    proxy.taking()?;
    let slots = if canary { &proxy.canary_slots } else { &proxy.slots };
    let place = Arc::clone(slots)
        .try_acquire_owned()
        .map_err(|_| ApiError::queue_full(proxy.settings.max_queued))?;
    let id = format!("proxied-{:016x}{:016x}", random_u64()?, random_u64()?);
    let cut_off = Arc::clone(&proxy.is_cut_off);
    // Lives as long as the request does here: it writes its record, if there is one, when dropped.
    let recorder = Recorder::proxied(proxy.records.clone(), &id, canary, cut_off);
    let upstream = proxy.upstream.current().await.map_err(not_ready)?;
    let request = outgoing(&parts, body.into(), &upstream, canary)?;
    let mut interruption = Interruption::new(&proxy, &upstream);
    // No time limit: a long prompt is silent for as long as it takes. The other gateway knows whether
    // its engine gets anything done, and this one asks all the time whether that gateway lives.
    let (answer, lease) = tokio::select! {
        sent = proxy.pool.send(&upstream, request) => sent.map_err(not_ready)?,
        error = interruption.wait() => return Err(error),
    };
    let (head, body) = answer.into_parts();
    if matches!(head.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        // It is this node that is refused, not the client.
        tracing::warn!(address = %upstream.address, "the node with rank 0 refuses this node's key");
        return Err(not_ready("the node with rank 0 refuses this node's key"));
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = head.status;
    *response.headers_mut() = end_to_end(&head);
    let relay =
        Relay { body, lease, proxy, upstream, interruption, events: None, recorder, _place: place };
    *response.body_mut() = relay::body(relay, response.headers());
    Ok(response)
}

fn outgoing(
    parts: &Parts,
    body: Bytes,
    upstream: &Upstream,
    canary: bool,
) -> Result<Request<Full<Bytes>>, ApiError> {
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::try_from(path).ok().filter(|_| parts.method != Method::CONNECT);
    let Some(uri) = uri else {
        let message = format!("There is no {} here.", parts.uri.path());
        return Err(ApiError::http(StatusCode::NOT_FOUND, "not_found", message));
    };
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    for name in FORWARDED {
        for value in parts.headers.get_all(&name) {
            headers.append(name.clone(), value.clone());
        }
    }
    headers.insert(HOST, upstream.host.clone());
    headers.insert(AUTHORIZATION, upstream.authorization.clone());
    if canary {
        headers.insert(CANARY, HeaderValue::from_static("1"));
    }
    Ok(request)
}

/// The headers of an answer that are for the client.
fn end_to_end(head: &response::Parts) -> HeaderMap {
    let named: Vec<HeaderName> = head
        .headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    let mut headers = head.headers.clone();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
    headers
}

/// What ends a request from outside: the other gateway is found dead, or this one ends.
pub(super) struct Interruption {
    losses: watch::Receiver<u64>,
    losses_before: u64,
    cut_off: watch::Receiver<bool>,
}

impl Interruption {
    pub(super) fn new(proxy: &Proxy, upstream: &Upstream) -> Self {
        let losses = upstream.losses.subscribe();
        let losses_before = *losses.borrow();
        Self { losses, losses_before, cut_off: proxy.cut_off.subscribe() }
    }

    /// Waits for it. Can be dropped and called again.
    pub(super) async fn wait(&mut self) -> ApiError {
        let before = self.losses_before;
        // The senders outlive this: whoever holds it holds the proxy and the upstream.
        tokio::select! {
            _ = self.losses.wait_for(|losses| *losses != before) => {
                not_ready("the node with rank 0 does not answer any more")
            }
            _ = self.cut_off.wait_for(|cut_off| *cut_off) => draining(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_about_a_connection_stop_here() {
        let rows = [
            ("content-type", "text/event-stream", true),
            ("retry-after", "5", true),
            ("x-should-retry", "false", true),
            ("connection", "close, x-private", false),
            ("x-private", "1", false),
            ("keep-alive", "timeout=5", false),
            ("transfer-encoding", "chunked", false),
            ("upgrade", "h2c", false),
            ("trailer", "x", false),
        ];
        let mut answer = Response::new(());
        for (name, value, _) in rows {
            answer.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        let kept = end_to_end(&answer.into_parts().0);
        for (name, _, stays) in rows {
            assert_eq!(kept.contains_key(name), stays, "{name}");
        }
    }

    #[test]
    fn only_the_nodes_own_word_and_key_go_on() {
        let upstream = Upstream {
            address: ([127, 0, 0, 1], 1).into(),
            authorization: HeaderValue::from_static("Bearer pair"),
            host: HeaderValue::from_static("127.0.0.1:1"),
            losses: watch::Sender::new(0),
        };
        let request = Request::builder()
            .uri("http://elsewhere/v1/models?a=b")
            .header(HOST, "elsewhere")
            .header(AUTHORIZATION, "Bearer client")
            .header(CANARY, "1")
            .header(CONNECTION, "x-request-id")
            .header(REQUEST_ID, "abc")
            .body(())
            .unwrap();
        let parts = request.into_parts().0;
        for canary in [false, true] {
            let sent = outgoing(&parts, Bytes::new(), &upstream, canary).unwrap();
            assert_eq!(sent.uri(), "/v1/models?a=b");
            let mut expected = HeaderMap::new();
            expected.insert(HOST, HeaderValue::from_static("127.0.0.1:1"));
            expected.insert(AUTHORIZATION, HeaderValue::from_static("Bearer pair"));
            expected.insert(REQUEST_ID, HeaderValue::from_static("abc"));
            if canary {
                expected.insert(CANARY, HeaderValue::from_static("1"));
            }
            assert_eq!(sent.headers(), &expected);
        }
    }
}
