//! The routes of a gateway that serves.

mod chat;
mod completions;
mod generate;
mod health;
mod models;

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::{Request, State},
    http::{StatusCode, Uri},
    routing::{get, post},
};
use tower_service::Service as _;

use crate::{
    app::App,
    door::{self, Door},
    error::ApiError,
    request_body,
};

/// All routes, for clients. `/health` tells no secrets and is open; the rest needs a key where one
/// is asked for, and so do unknown paths, which would otherwise map the server for strangers.
pub(crate) fn for_clients(app: &Arc<App>, door: &Arc<Door>) -> Router {
    let router = door.before(keyed(app)).merge(health());
    door::named(router).with_state(Arc::clone(app))
}

/// All routes, for the other nodes' gateways, which have their key for each.
pub(crate) fn for_peers(app: &Arc<App>, door: &Arc<Door>) -> Router {
    let router = door.before(keyed(app).merge(health()));
    door::named(router).with_state(Arc::clone(app))
}

/// The API, by the paths that clients make of its base address: with and without `/v1`, with slashes
/// too many.
fn keyed(app: &Arc<App>) -> Router<Arc<App>> {
    let tidied = api().fallback(unknown_path).with_state(Arc::clone(app));
    api().fallback(move |request: Request| {
        let mut tidied = tidied.clone();
        async move {
            let request = tidy_path(request);
            // Routes never fail: their errors are answers.
            let Ok(answer) = tidied.call(request).await;
            answer
        }
    })
}

fn api() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/chat/completions", post(chat::create))
        .route("/v1/completions", post(completions::create))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::retrieve))
        .method_not_allowed_fallback(door::wrong_method)
}

fn health() -> Router<Arc<App>> {
    Router::new()
        .route("/health", get(health::show))
        .method_not_allowed_fallback(door::wrong_method)
}

async fn unknown_path(
    State(app): State<Arc<App>>,
    asked: Option<Extension<AskedPath>>,
    request: Request,
) -> ApiError {
    let path = asked.map_or_else(|| request.uri().path().to_owned(), |asked| asked.0.0);
    request_body::discard_unread(app.settings.read_timeout(), request).await;
    let message = format!(
        "There is no {path} here; there are /v1/chat/completions, /v1/completions, /v1/models and \
         /health."
    );
    ApiError::http(StatusCode::NOT_FOUND, "not_found", message)
}

/// The path as the client wrote it.
#[derive(Clone)]
struct AskedPath(String);

/// The request under the path that it means, if there is such a path.
fn tidy_path(mut request: Request) -> Request {
    let asked = request.uri().path().to_owned();
    let mut parts = request.uri().clone().into_parts();
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    parts.path_and_query = format!("{}{query}", tidied(&asked)).parse().ok();
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request.extensions_mut().insert(AskedPath(asked));
    request
}

/// Clients put the API's base address before a path: `/v1/` and `/v1/models`, or no `/v1`, or two.
fn tidied(path: &str) -> String {
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let versions = parts.iter().take_while(|part| **part == "v1").count();
    parts.drain(..versions);
    let mut tidied = "/v1".to_owned();
    for part in parts {
        tidied.push('/');
        tidied.push_str(part);
    }
    tidied
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn paths_are_tidied_to_those_of_the_api() {
        let chat = "/v1/chat/completions";
        for (asked, meant) in [
            ("/v1/chat/completions/", chat),
            ("//v1/chat/completions", chat),
            ("/v1//chat//completions//", chat),
            ("/chat/completions", chat),
            ("/v1/v1/chat/completions", chat),
            ("/models", "/v1/models"),
            ("/models/owner/name/", "/v1/models/owner/name"),
            ("/completions", "/v1/completions"),
            ("/", "/v1"),
            ("", "/v1"),
            ("/api/tags", "/v1/api/tags"),
        ] {
            assert_eq!(tidied(asked), meant, "{asked}");
        }
    }

    #[test]
    fn the_query_and_the_asked_path_stay() {
        let request = Request::builder().uri("/models/?a=b").body(Body::empty()).unwrap();
        let request = tidy_path(request);
        assert_eq!(request.uri(), "/v1/models?a=b");
        assert_eq!(request.extensions().get::<AskedPath>().unwrap().0, "/models/");
    }
}
