//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::Response,
};

use super::generate;
use crate::{
    answer::Api,
    app::{App, Plan},
    chat_template::RenderError,
    conversation::{self, Ending},
    door,
    error::ApiError,
    model::Model,
    reading::Reading,
    reasoning::ReasoningSplitter,
    request::ChatRequest,
    request_body,
};

pub(super) async fn create(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, ApiError> {
    let is_canary = door::is_canary(&request);
    let fields = request_body::fields(&app, request).await?;
    let chat = ChatRequest::read(&fields, &app.defaults()?)?;
    drop(fields);
    let admission = app.admit(chat.params.n, is_canary)?;
    let params = chat.params.clone();
    let work = move |model: &Model, reading: &Reading| render(model, reading, chat);
    let (admission, rendered) = app.with_model(admission, work).await?;
    let plan = Plan {
        prompts: vec![rendered.prompt],
        params,
        param: "messages",
        splitter: rendered.splitter,
    };
    generate::answer(&app, Api::Chat, admission, plan).await
}

struct Rendered {
    prompt: Vec<u32>,
    splitter: ReasoningSplitter,
}

fn render(model: &Model, reading: &Reading, chat: ChatRequest) -> Result<Rendered, ApiError> {
    let Some(template) = &model.template else {
        let message = "This model has no chat template; use /v1/completions.";
        return Err(ApiError::invalid(message));
    };
    let begun = match chat.ending {
        Ending::Open => chat.messages.last().and_then(|last| last["content"].as_str()),
        _ => None,
    };
    let begun = begun.map(str::to_owned);
    let rendered =
        conversation::prompt(template, chat.messages, &chat.template_kwargs, chat.ending);
    let text = rendered.map_err(|error| match error {
        RenderError::Raised(why) => {
            ApiError::field("messages", format_args!("are refused by the template: {why}"))
        }
        RenderError::TooLarge => ApiError::field("messages", "are too much for the template"),
        RenderError::Failed(why) => {
            ApiError::field("messages", format_args!("make the template fail: {why}"))
        }
    })?;
    // The template writes all special tokens itself.
    let prompt = reading.encode(&model.tokenizer, &text, false, "messages")?;
    if prompt.is_empty() {
        return Err(ApiError::field("messages", "render to an empty prompt"));
    }
    let splitter = match begun {
        Some(begun) => ReasoningSplitter::within(&begun, &text, &model.reasoning),
        None => ReasoningSplitter::after(&text, &model.reasoning),
    };
    Ok(Rendered { prompt, splitter })
}
