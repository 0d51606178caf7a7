//! `GET /health`: 200 only if a request would be taken now.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::header::CONTENT_LENGTH,
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::app::App;

pub(super) async fn show(State(app): State<Arc<App>>) -> Response {
    let status = app.engine.status();
    match app.ready() {
        Ok(card) => Json(json!({
            "status": "ok",
            "model": app.model_id,
            "architecture": card.architecture,
            "context_tokens": card.context_tokens,
            "epoch": status.epoch,
        }))
        .into_response(),
        Err(error) => {
            let body = json!({
                "status": "unavailable",
                "reason": error.message,
                "phase": status.phase,
                "epoch": status.epoch,
            });
            // Status and Retry-After are those of any refusal now; only the body is of its own.
            let mut answer = error.into_response();
            *answer.body_mut() = Body::from(body.to_string());
            answer.headers_mut().remove(CONTENT_LENGTH);
            answer
        }
    }
}
