//! `GET /v1/models` and `GET /v1/models/{id}`.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
};
use serde_json::{Value, json};

use crate::{app::App, error::ApiError};

/// The served model, under its id and each alias.
pub(super) async fn list(State(app): State<Arc<App>>) -> Json<Value> {
    let names = std::iter::once(&app.model_id).chain(&app.aliases);
    let models: Vec<Value> = names.map(|name| card(&app, name)).collect();
    Json(json!({"object": "list", "data": models}))
}

/// Ids may hold slashes (`owner/name`).
pub(super) async fn retrieve(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path(id) = id.map_err(|_| ApiError::model_not_found("", &app.model_id))?;
    Ok(Json(card(&app, app.served_name(&id)?)))
}

fn card(app: &App, name: &str) -> Value {
    let context_tokens = app.engine.status().card.map(|card| card.context_tokens);
    json!({
        "id": name,
        "object": "model",
        "created": app.created,
        "owned_by": "tandem",
        // As vLLM names it; null while the engine is away.
        "max_model_len": context_tokens,
    })
}
