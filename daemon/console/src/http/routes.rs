//! The paths, and what is refused before one is looked at.

use axum::{
    Router,
    body::HttpBody,
    extract::{Request, State},
    http::{
        HeaderValue, StatusCode,
        header::{AGE, CACHE_CONTROL, CONTENT_TYPE},
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use tracing::error;

use super::{events, host, metrics, places::Places, ready};
use crate::publish::Published;

/// The media type of OpenMetrics text 1.0.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone)]
struct Endpoint {
    published: Published,
    listeners: Places,
}

pub(super) fn router(published: Published) -> Router {
    let listeners = Places::new(events::LISTENERS_MAX);
    Router::new()
        .route("/status", get(status))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .route("/events", get(listen))
        .fallback(|| async {
            refuse(
                StatusCode::NOT_FOUND,
                "no such path; there are /status /healthz /readyz /metrics /events",
            )
        })
        .method_not_allowed_fallback(|| async {
            refuse(StatusCode::METHOD_NOT_ALLOWED, "this endpoint is read only; use GET")
        })
        .layer(middleware::from_fn(guard))
        .with_state(Endpoint { published, listeners })
}

/// An error of this endpoint: `{"error": "..."}`.
pub(super) fn refuse(code: StatusCode, why: &str) -> Response {
    let body = format!("{}\n", serde_json::json!({ "error": why }));
    (code, [(CONTENT_TYPE, "application/json")], body).into_response()
}

async fn guard(request: Request, next: Next) -> Response {
    if !host::is_loopback(request.headers(), request.uri()) {
        return refuse(
            StatusCode::FORBIDDEN,
            "ask for localhost, 127.0.0.1 or [::1]; no other name is answered",
        );
    }
    // Nothing here takes a body, so none is read.
    if !request.body().is_end_stream() {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, "send no body");
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn status(State(endpoint): State<Endpoint>) -> Response {
    let Some(snapshot) = endpoint.published.snapshot() else {
        return refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "the supervisor has published no status yet",
        );
    };
    // The age tells a reader whether the supervisor still takes its turns.
    let age = HeaderValue::from(snapshot.age().as_secs());
    match serde_json::to_string(&*snapshot.status) {
        Ok(json) => {
            ([(CONTENT_TYPE, HeaderValue::from_static("application/json")), (AGE, age)], json)
                .into_response()
        }
        Err(problem) => {
            error!("the status can't be written as JSON: {problem}");
            refuse(StatusCode::INTERNAL_SERVER_ERROR, "the status can't be written as JSON")
        }
    }
}

async fn readyz(State(endpoint): State<Endpoint>) -> Response {
    let snapshot = endpoint.published.snapshot();
    match ready::check(snapshot.as_ref().map(|last| (&*last.status, last.age()))) {
        Ok(()) => "ready\n".into_response(),
        Err(why) => {
            let line = why.replace(char::is_control, " ");
            (StatusCode::SERVICE_UNAVAILABLE, format!("{line}\n")).into_response()
        }
    }
}

async fn scrape(State(endpoint): State<Endpoint>) -> Response {
    let published = &endpoint.published;
    let snapshot = published.snapshot();
    let last = snapshot.as_ref().map(|last| (&*last.status, last.age()));
    match metrics::encode(published.build(), last, &published.counters()) {
        Ok(text) => ([(CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(problem) => {
            error!("the metrics can't be written: {problem}");
            refuse(StatusCode::INTERNAL_SERVER_ERROR, "the metrics can't be written")
        }
    }
}

async fn listen(State(endpoint): State<Endpoint>) -> Response {
    events::listen(&endpoint.published, &endpoint.listeners)
}
