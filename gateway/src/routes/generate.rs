//! The end of both generating routes: stream, or gather and answer at once.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderName, HeaderValue},
    response::{IntoResponse, Response},
};
use tandem_wire::FinishReason;

use crate::{
    answer::{Api, Header},
    app::{Admission, App, Plan, random_u64, unix_time_s},
    choice::Delta,
    error::ApiError,
    generation::{Generation, News},
    sse::{self, LifeSigns},
};

/// Of a whole answer: how often the engine lost a choice of it, which then went on with the next one.
const RESUBMISSIONS: HeaderName = HeaderName::from_static("x-tandem-resubmissions");

/// Generates what is planned and answers.
pub(super) async fn answer(
    app: &App,
    api: Api,
    admission: Admission,
    plan: Plan,
) -> Result<Response, ApiError> {
    let prefix = match api {
        Api::Chat => "chatcmpl",
        Api::Completions => "cmpl",
    };
    let header = Header {
        api,
        id: format!("{prefix}-{:016x}{:016x}", random_u64()?, random_u64()?),
        created: unix_time_s(),
        model: app.model_id.clone(),
        logprobs: plan.params.logprobs.is_some(),
    };
    let (stream, include_usage) = (plan.params.stream, plan.params.include_usage);
    let generation = app.start(&header.id, admission, plan)?;
    if stream {
        let every = Duration::from_millis(app.settings.keep_alive_ms);
        let life_signs = LifeSigns { every, kind: app.settings.keep_alive };
        return Ok(sse::respond(header, generation, include_usage, life_signs));
    }
    gather(&header, generation).await
}

/// If the client goes away, this future is dropped, and the generation with it.
async fn gather(header: &Header, mut generation: Generation) -> Result<Response, ApiError> {
    let mut texts: Vec<(Delta, FinishReason)> =
        (0..generation.choice_count()).map(|_| (Delta::default(), FinishReason::Stop)).collect();
    while let Some(news) = generation.next().await {
        let News::Update(update) = news? else {
            continue;
        };
        let Some((text, finish)) = texts.get_mut(update.index as usize) else {
            continue;
        };
        text.extend(update.delta);
        if let Some(reason) = update.finish {
            *finish = reason;
        }
    }
    let mut answer = Json(header.whole(&texts, generation.usage())).into_response();
    if generation.losses() > 0 {
        answer.headers_mut().insert(RESUBMISSIONS, HeaderValue::from(generation.losses()));
    }
    Ok(answer)
}
