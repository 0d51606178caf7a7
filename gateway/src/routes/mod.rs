//! The routes and what stands before them: request ids, keys, refusals of unknown paths.

mod chat;
mod completions;
mod generate;
mod health;
mod models;
mod request_body;

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};

use crate::{
    app::{App, random_u64},
    auth::Denied,
    error::ApiError,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id of a client that is echoed: two UUIDs fit, and it stays one short log field.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// All routes. `/health` tells no secrets and is open; the rest needs a key where one is asked
/// for, and so do unknown paths, which would otherwise map the server for strangers.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat::create))
        .route("/v1/completions", post(completions::create))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::retrieve))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), check_key))
        .merge(
            Router::new()
                .route("/health", get(health::show))
                .method_not_allowed_fallback(wrong_method),
        )
        .layer(middleware::from_fn(name_request))
        .with_state(app)
}

async fn unknown_path(State(app): State<Arc<App>>, request: Request) -> ApiError {
    let message = format!("There is no {} here.", request.uri().path());
    request_body::discard_unread(&app, request).await;
    ApiError::http(StatusCode::NOT_FOUND, "not_found", message)
}

async fn wrong_method(request: Request) -> ApiError {
    let message = format!("{} does not take {}.", request.uri().path(), request.method());
    ApiError::http(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

/// Every answer carries the request's id: the client's own, if it is one, else a new one.
async fn name_request(request: Request, next: Next) -> Response {
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
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let from_loopback = peer.ip().to_canonical().is_loopback();
    let presented = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let hosts = headers.get_all(header::HOST).iter().map(HeaderValue::as_bytes);
    let denied = match app.keys.admit(presented, hosts, from_loopback) {
        Ok(()) => return next.run(request).await,
        Err(denied) => denied,
    };
    request_body::discard_unread(&app, request).await;
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

/// Whether a request is one of the supervisor's own.
fn is_canary(app: &App, request: &Request) -> bool {
    let presented = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    app.keys.is_canary(presented)
}
