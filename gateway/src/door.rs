//! What stands before the routes of a listener: request ids and keys.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};

use crate::{
    Settings,
    app::random_u64,
    auth::{Denied, Keys},
    error::ApiError,
    request_body,
};

/// Names a request, at every gateway that it passes.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id of a client that is echoed: two UUIDs fit, and it stays one short log field.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// With this, another node's gateway says that a request is its supervisor's own. Anybody else's is
/// ignored.
pub(crate) const CANARY: HeaderName = HeaderName::from_static("x-tandem-canary");

/// Who may come in at one listener, and how long a refused one may send.
pub(crate) struct Door {
    keys: Keys,
    read_timeout: Duration,
}

/// An extension of admitted requests: whether it is the supervisor's own.
#[derive(Clone, Copy)]
struct IsCanary(bool);

impl Door {
    pub(crate) fn new(keys: Keys, settings: &Settings) -> Arc<Self> {
        let read_timeout = Duration::from_millis(settings.read_timeout_ms);
        Arc::new(Self { keys, read_timeout })
    }

    /// Puts the door before routes that need a key.
    pub(crate) fn before<S: Clone + Send + Sync + 'static>(
        self: &Arc<Self>,
        routes: Router<S>,
    ) -> Router<S> {
        routes.layer(middleware::from_fn_with_state(Arc::clone(self), check_key))
    }
}

/// Gives all routes ids.
pub(crate) fn named<S: Clone + Send + Sync + 'static>(routes: Router<S>) -> Router<S> {
    routes.layer(middleware::from_fn(name_request))
}

/// Whether an admitted request is one of the supervisor's own.
pub(crate) fn is_canary(request: &Request) -> bool {
    request.extensions().get::<IsCanary>().is_some_and(|canary| canary.0)
}

/// Answers for a path that takes other methods.
pub(crate) async fn wrong_method(request: Request) -> ApiError {
    let message = format!("{} does not take {}.", request.uri().path(), request.method());
    ApiError::http(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

/// Every answer carries the request's id: the client's own, if it is one, else a new one.
async fn name_request(mut request: Request, next: Next) -> Response {
    let own = request.headers().get(&REQUEST_ID).filter(|id| is_request_id(id)).cloned();
    let id = match own {
        Some(id) => Ok(id),
        None => random_u64().map(|n| {
            let text = format!("req-{n:016x}");
            HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("req"))
        }),
    };
    let id = match id {
        Ok(id) => id,
        Err(error) => return error.into_response(),
    };
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    // For the gateway that it may be forwarded to.
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let mut response = next.run(request).await;
    let status = response.status();
    let request_id = id.to_str().unwrap_or_default();
    // Not being ready is said once, when it changes; whoever polls would fill the log with it.
    if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
        tracing::warn!(request_id, %method, path, status = status.as_u16(), "refused");
    } else {
        tracing::debug!(request_id, %method, path, status = status.as_u16(), "answered");
    }
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

fn is_request_id(id: &HeaderValue) -> bool {
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || b"-_.:".contains(b);
    let bytes = id.as_bytes();
    (1..=REQUEST_ID_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(allowed)
}

async fn check_key(
    State(door): State<Arc<Door>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let from_loopback = peer.ip().to_canonical().is_loopback();
    let presented = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let hosts = headers.get_all(header::HOST).iter().map(HeaderValue::as_bytes);
    let denied = match door.keys.admit(presented, hosts, from_loopback) {
        Ok(()) => {
            let canary = door.keys.is_canary(presented, headers.contains_key(&CANARY));
            request.extensions_mut().insert(IsCanary(canary));
            return next.run(request).await;
        }
        Err(denied) => denied,
    };
    request_body::discard_unread(door.read_timeout, request).await;
    let message = match denied {
        Denied::Missing => "An API key is needed: send 'Authorization: Bearer KEY'.",
        Denied::Wrong => "The API key is not valid.",
        Denied::ForeignHost => {
            let message = "Without a key this server answers only to this machine's own names; \
                           behind a proxy, set gateway.require_key_on_loopback.";
            let error = ApiError::http(StatusCode::FORBIDDEN, "host_not_allowed", message);
            return error.into_response();
        }
    };
    let error = ApiError::http(StatusCode::UNAUTHORIZED, "invalid_api_key", message);
    let mut response = error.into_response();
    let scheme = HeaderValue::from_static("Bearer");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    response
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::get};
    use tower_service::Service;

    use super::*;
    use crate::hash_api_key;

    /// How a request is answered by a door with these keys; `true` if it came in as a canary.
    async fn knock(keys: Keys, key: &str, marked: bool) -> (u16, bool) {
        let shown = |request: Request| async move {
            let mark = HeaderValue::from_static(if is_canary(&request) { "yes" } else { "no" });
            [(HeaderName::from_static("canary"), mark)]
        };
        let door = Door::new(keys, &Settings::default());
        let mut router = door.before(Router::<()>::new().route("/", get(shown)));
        let mut request = Request::new(Body::empty());
        let key = HeaderValue::try_from(format!("Bearer {key}")).unwrap();
        request.headers_mut().insert(header::AUTHORIZATION, key);
        if marked {
            request.headers_mut().insert(CANARY, HeaderValue::from_static("1"));
        }
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([10, 0, 0, 1], 1))));
        let answer = router.call(request).await.unwrap();
        let canary = answer.headers().get("canary").is_some_and(|value| value == "yes");
        (answer.status().as_u16(), canary)
    }

    #[tokio::test]
    async fn a_canary_is_known_by_its_key_or_by_the_word_of_another_node() {
        let settings = Settings { api_keys: vec![hash_api_key("client")], ..Settings::default() };
        let clients = || Keys::new(&settings, Some(&hash_api_key("canary")));
        let peers = || Keys::of_peers(&hash_api_key("pair")).unwrap();
        for (keys, key, marked, expected) in [
            (clients(), "client", false, (200, false)),
            (clients(), "client", true, (200, false)),
            (clients(), "canary", false, (200, true)),
            (clients(), "pair", true, (401, false)),
            (peers(), "pair", false, (200, false)),
            (peers(), "pair", true, (200, true)),
            (peers(), "canary", true, (401, false)),
        ] {
            assert_eq!(knock(keys, key, marked).await, expected, "{key} {marked}");
        }
    }
}
