//! The routes of a gateway that serves.

mod chat;
mod completions;
mod generate;
mod health;
mod models;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    routing::{get, post},
};

use crate::{
    app::App,
    door::{self, Door},
    error::ApiError,
    request_body,
};

/// All routes, for clients. `/health` tells no secrets and is open; the rest needs a key where one
/// is asked for, and so do unknown paths, which would otherwise map the server for strangers.
pub(crate) fn for_clients(app: &Arc<App>, door: &Arc<Door>) -> Router {
    let router = door.before(keyed()).merge(health());
    door::named(router).with_state(Arc::clone(app))
}

/// All routes, for the other nodes' gateways, which have their key for each.
pub(crate) fn for_peers(app: &Arc<App>, door: &Arc<Door>) -> Router {
    let router = door.before(keyed().merge(health()));
    door::named(router).with_state(Arc::clone(app))
}

fn keyed() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/chat/completions", post(chat::create))
        .route("/v1/completions", post(completions::create))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::retrieve))
        .fallback(unknown_path)
        .method_not_allowed_fallback(door::wrong_method)
}

fn health() -> Router<Arc<App>> {
    Router::new()
        .route("/health", get(health::show))
        .method_not_allowed_fallback(door::wrong_method)
}

async fn unknown_path(State(app): State<Arc<App>>, request: Request) -> ApiError {
    let message = format!("There is no {} here.", request.uri().path());
    request_body::discard_unread(app.settings.read_timeout(), request).await;
    ApiError::http(StatusCode::NOT_FOUND, "not_found", message)
}
