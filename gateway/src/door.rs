//! What stands before the routes of a listener: request ids and keys.

use std::{borrow::Cow, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    http::{Extensions, HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};

use crate::{
    Settings,
    app::random_u64,
    arrival::Arrival,
    auth::{Denied, Keys},
    connections::Standing,
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
    request.extensions().get() == Some(&Standing::Canary)
}

/// Gives a request that has arrived whole its place, if there is one.
pub(crate) fn arrived(extensions: &Extensions) -> Result<(), ApiError> {
    let standing = extensions.get().copied().unwrap_or(Standing::Keyless);
    extensions.get::<Arrival>().map_or(Ok(()), |arrival| arrival.whole(standing))
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
    let route = route_of(&request);
    // For the gateway that it may be forwarded to.
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let mut response = next.run(request).await;
    let status = response.status();
    let request_id = told_id(&id);
    // Not being ready is said once, when it changes; whoever polls would fill the log with it.
    if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
        tracing::warn!(request_id = &*request_id, route, status = status.as_u16(), "refused");
    } else {
        tracing::debug!(request_id = &*request_id, route, status = status.as_u16(), "answered");
    }
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// The id as the log tells it. Lines of the log are matched against signatures of crashes, so no word
/// of a client is in them: an id that is only digits is told as it is, another by its hash.
fn told_id(id: &HeaderValue) -> Cow<'_, str> {
    let id = id.to_str().unwrap_or_default();
    let is_number = |id: &str| id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    if is_number(id.strip_prefix("req-").unwrap_or(id)) {
        return id.into();
    }
    let digest = Sha256::digest(id.as_bytes());
    let start: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("sha256-{start}").into()
}

/// What was asked, in words of our own.
fn route_of(request: &Request) -> &'static str {
    let routes = ["/v1/chat/completions", "/v1/completions", "/v1/models", "/health"];
    routes.into_iter().find(|route| request.uri().path() == *route).unwrap_or("another path")
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
    let is_marked = headers.contains_key(&CANARY);
    // A target may name a host too, and then it is that one which is asked (RFC 9112, section 3.2.2).
    let target = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    let hosts = headers.get_all(header::HOST).iter().map(HeaderValue::as_bytes).chain(target);
    let denied = match door.keys.admit(presented, is_marked, hosts, from_loopback) {
        Ok(standing) => {
            let arrival = request.extensions().get::<Arrival>();
            let is_health = request.uri().path() == "/health";
            if let Some(Err(error)) = arrival.map(|arrival| arrival.admits(standing))
                && !is_health
            {
                return error.into_response();
            }
            request.extensions_mut().insert(standing);
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

    #[test]
    fn no_word_of_a_client_gets_into_the_log() {
        for own in ["req-0123456789abcdef", "2f1d3a6e-7b1c-4c5d-9e8f-0a1b2c3d4e5f", "42"] {
            assert_eq!(told_id(&HeaderValue::from_static(own)), own);
        }
        for planted in ["trust_remote_code", "OS_REASON_JETSAM", "req-panic", "dead-beef:x"] {
            let told = told_id(&HeaderValue::from_static(planted)).into_owned();
            let hex = told.strip_prefix("sha256-").unwrap();
            assert!(hex.len() == 16 && hex.bytes().all(|b| b.is_ascii_hexdigit()), "{told}");
        }
        let request = |path: &str| Request::builder().uri(path).body(Body::empty()).unwrap();
        assert_eq!(route_of(&request("/v1/models?a=trust_remote_code")), "/v1/models");
        assert_eq!(route_of(&request("/trust_remote_code")), "another path");
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
