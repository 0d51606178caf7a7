//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::Response,
};
use serde_json::Value;

use super::generate;
use crate::{
    answer::Api,
    app::{App, Plan},
    chat_template::RenderError,
    door,
    error::ApiError,
    model::Model,
    reasoning::{ReasoningSplitter, prompt_opens_reasoning},
    request::ChatRequest,
    request_body,
};

pub(super) async fn create(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, ApiError> {
    let is_canary = door::is_canary(&request);
    let fields = request_body::fields(&app, request).await?;
    let mut chat = ChatRequest::read(&fields, &app.defaults()?)?;
    drop(fields);
    let admission = app.admit(chat.params.n, is_canary)?;
    let params = chat.params.clone();
    let work = move |model: &Model| render(model, &mut chat);
    let rendered = app.with_model(&admission, work).await?;
    let plan = Plan {
        prompts: vec![rendered.prompt],
        params,
        param: "messages",
        splitter: rendered.splitter,
        reasoning_opened: rendered.reasoning_opened,
    };
    generate::answer(&app, Api::Chat, admission, plan).await
}

struct Rendered {
    prompt: Vec<u32>,
    splitter: fn(bool) -> ReasoningSplitter,
    reasoning_opened: bool,
}

fn render(model: &Model, chat: &mut ChatRequest) -> Result<Rendered, ApiError> {
    let Some(template) = &model.template else {
        let message = "This model has no chat template; use /v1/completions.";
        return Err(ApiError::invalid(message));
    };
    if !template.knows_developer {
        for message in &mut chat.messages {
            if message["role"] == "developer" {
                message["role"] = Value::from("system");
            }
        }
    }
    let text = template
        .render(&chat.messages, &chat.template_kwargs, chat.add_generation_prompt)
        .map_err(|error| match error {
        RenderError::Raised(why) => {
            ApiError::field("messages", format_args!("are refused by the template: {why}"))
        }
        RenderError::TooLarge => ApiError::field("messages", "are too much for the template"),
        RenderError::Failed(why) => {
            ApiError::field("messages", format_args!("make the template fail: {why}"))
        }
    })?;
    // The template writes all special tokens itself.
    let prompt = model.tokenizer.encode(&text, false).map_err(ApiError::internal)?;
    if prompt.is_empty() {
        return Err(ApiError::field("messages", "render to an empty prompt"));
    }
    let knows_reasoning = template.knows_reasoning;
    Ok(Rendered {
        prompt,
        splitter: if knows_reasoning {
            ReasoningSplitter::new
        } else {
            |_| ReasoningSplitter::off()
        },
        reasoning_opened: knows_reasoning && prompt_opens_reasoning(&text),
    })
}
