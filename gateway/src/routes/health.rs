//! `GET /health`: 200 only if a request would be taken now.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::header::CONTENT_LENGTH,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::{app::App, engine_link::Load};

/// Who waits for the engine. `silent_ms` tells a queue that moves from one that does not: how long the
/// engine has got nothing done while somebody waits, null if nobody does.
fn requests(load: Load) -> Value {
    let Load { waiting, running, ending, silent_since } = load;
    let silent_ms = silent_since.map(|since| since.elapsed().as_millis() as u64);
    json!({"waiting": waiting, "running": running, "ending": ending, "silent_ms": silent_ms})
}

pub(super) async fn show(State(app): State<Arc<App>>) -> Response {
    let status = app.engine.status();
    let requests = requests(app.engine.load());
    match app.ready() {
        Ok(card) => Json(json!({
            "status": "ok",
            "model": app.model_id,
            "architecture": card.architecture,
            "context_tokens": card.context_tokens,
            "epoch": status.epoch,
            "requests": requests,
        }))
        .into_response(),
        Err(error) => {
            let body = json!({
                "status": "unavailable",
                "reason": error.message,
                "phase": status.phase,
                "epoch": status.epoch,
                "requests": requests,
            });
            // Status and Retry-After are those of any refusal now; only the body is of its own.
            let mut answer = error.into_response();
            *answer.body_mut() = Body::from(body.to_string());
            answer.headers_mut().remove(CONTENT_LENGTH);
            answer
        }
    }
}
