//! `POST /v1/completions`.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::Response,
};

use super::generate;
use crate::{
    answer::Api,
    app::{App, Plan},
    door,
    error::ApiError,
    model::Model,
    reading::Reading,
    reasoning::ReasoningSplitter,
    request::{CompletionRequest, Prompt},
    request_body,
};

pub(super) async fn create(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, ApiError> {
    let is_canary = door::is_canary(&request);
    let fields = request_body::fields(&app, request).await?;
    let defaults = app.defaults()?;
    let CompletionRequest { prompts, params } = CompletionRequest::read(&fields, &defaults)?;
    drop(fields);
    let generations = params.n * prompts.len() as u32;
    if generations > defaults.max_choices {
        let problem = format_args!(
            "times the number of prompts may be up to {}, not {generations}",
            defaults.max_choices
        );
        return Err(ApiError::field("n", problem));
    }
    let admission = app.admit(generations, is_canary)?;
    let work = move |model: &Model, reading: &Reading| {
        let ids = prompts.into_iter().map(|prompt| encode(model, reading, prompt));
        ids.collect::<Result<Vec<_>, _>>()
    };
    let (admission, prompts) = app.with_model(admission, work).await?;
    let plan = Plan { prompts, params, param: "prompt", splitter: ReasoningSplitter::off() };
    generate::answer(&app, Api::Completions, admission, plan).await
}

fn encode(model: &Model, reading: &Reading, prompt: Prompt) -> Result<Vec<u32>, ApiError> {
    let text = match prompt {
        Prompt::Tokens(ids) => return Ok(ids),
        Prompt::Text(text) => text,
    };
    let ids = reading.encode(&model.tokenizer, &text, true, "prompt")?;
    if !ids.is_empty() {
        return Ok(ids);
    }
    let begin = model.bos_token.ok_or_else(|| {
        ApiError::field("prompt", "is empty, and this model has no token to begin a text with")
    })?;
    Ok(vec![begin])
}
