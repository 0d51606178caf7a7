//! `POST /v1/chat/completions`.

use serde_json::{Map, Value};

use crate::{
    error::ApiError,
    request::{
        fields::{Fields, shown},
        params::{Defaults, Params},
    },
};

const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

/// A checked request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ChatRequest {
    /// Not empty; each an object with `role` and, as a string, `content`.
    pub(crate) messages: Vec<Value>,
    /// Further variables for the chat template.
    pub(crate) template_kwargs: Map<String, Value>,
    pub(crate) add_generation_prompt: bool,
    pub(crate) params: Params,
}

impl ChatRequest {
    /// Checks the fields.
    pub(crate) fn read(fields: &Fields, defaults: &Defaults) -> Result<Self, ApiError> {
        refuse_unsupported(fields)?;
        let mut params = Params::read(fields, defaults)?;
        params.logprobs = logprobs(fields)?;
        let mut template_kwargs =
            fields.object("chat_template_kwargs")?.cloned().unwrap_or_default();
        if let Some(effort) = fields.string("reasoning_effort")? {
            // Templates of models with such a switch call it by OpenAI's name.
            template_kwargs.insert("reasoning_effort".into(), effort.into());
        }
        Ok(Self {
            messages: messages(fields.get("messages"))?,
            template_kwargs,
            add_generation_prompt: fields.boolean("add_generation_prompt")?.unwrap_or(true),
            params,
        })
    }
}

/// Fields that would change the answer in ways this server does not know.
fn refuse_unsupported(fields: &Fields) -> Result<(), ApiError> {
    let not_empty = |name: &str| {
        fields.get(name).is_some_and(|value| value.as_array().is_none_or(|all| !all.is_empty()))
    };
    for name in ["tools", "functions"] {
        if not_empty(name) {
            return Err(ApiError::unsupported(name, "Calling tools is not supported"));
        }
    }
    for name in ["tool_choice", "function_call"] {
        if fields.get(name).is_some_and(|choice| choice != "none" && choice != "auto") {
            return Err(ApiError::unsupported(name, "Calling tools is not supported"));
        }
    }
    if fields.get("response_format").is_some_and(|format| format["type"] != "text") {
        let what = "Only the response format {\"type\": \"text\"} is supported";
        return Err(ApiError::unsupported("response_format", what));
    }
    let text_only = |value: &Value| value.as_array().is_some_and(|all| all.iter().all(is_text));
    if fields.get("modalities").is_some_and(|value| !text_only(value)) {
        return Err(ApiError::unsupported("modalities", "Only text is answered"));
    }
    for (name, what) in [
        ("audio", "Only text is answered"),
        ("web_search_options", "There is no web search"),
        ("chat_template", "The template is the model's own"),
    ] {
        if fields.get(name).is_some() {
            return Err(ApiError::unsupported(name, what));
        }
    }
    Ok(())
}

fn is_text(value: &Value) -> bool {
    value == "text"
}

fn logprobs(fields: &Fields) -> Result<Option<u8>, ApiError> {
    let wanted = fields.boolean("logprobs")?.unwrap_or(false);
    let top = fields.integer("top_logprobs", 0, 20)?;
    if top.is_some_and(|top| top > 0) && !wanted {
        return Err(ApiError::field("top_logprobs", "needs 'logprobs': true"));
    }
    Ok(wanted.then(|| top.unwrap_or(0) as u8))
}

fn messages(value: Option<&Value>) -> Result<Vec<Value>, ApiError> {
    let value = value.ok_or_else(|| ApiError::field("messages", "is required"))?;
    match value {
        Value::Array(all) if !all.is_empty() => {
            all.iter().enumerate().map(|(index, one)| message(index, one)).collect()
        }
        _ => Err(ApiError::field("messages", "must be an array of at least one message")),
    }
}

/// A message as templates expect it: everything the client gave, with `content` as one string.
fn message(index: usize, value: &Value) -> Result<Value, ApiError> {
    let name = format!("messages[{index}]");
    let Value::Object(given) = value else {
        let problem = format_args!("must be an object, not {}", shown(value));
        return Err(ApiError::field(name, problem));
    };
    let role = given.get("role").and_then(Value::as_str).filter(|role| ROLES.contains(role));
    let Some(role) = role else {
        let problem = format_args!("must be one of {}", ROLES.join(", "));
        return Err(ApiError::field(format_args!("{name}.role"), problem));
    };
    let calls = given.get("tool_calls").filter(|calls| !calls.is_null());
    let content = match given.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => text_of_parts(&name, parts)?,
        // An assistant that only called tools said nothing.
        None | Some(Value::Null) if role == "assistant" && calls.is_some() => String::new(),
        _ => {
            return Err(ApiError::field(
                format_args!("{name}.content"),
                "must be a string or an array of text parts",
            ));
        }
    };
    let mut message = given.clone();
    message.insert("content".into(), content.into());
    if let Some(calls) = calls {
        let calls = tool_calls(&name, calls)?;
        message.insert("tool_calls".into(), calls);
    }
    Ok(Value::Object(message))
}

fn text_of_parts(message: &str, parts: &[Value]) -> Result<String, ApiError> {
    let texts: Result<Vec<&str>, ApiError> = parts
        .iter()
        .enumerate()
        .map(|(index, part)| {
            let text = part["text"].as_str().filter(|_| part["type"] == "text");
            text.ok_or_else(|| {
                let name = format!("{message}.content[{index}]");
                ApiError::field(
                    name,
                    "must be {\"type\": \"text\", \"text\": …}; only text is read",
                )
            })
        })
        .collect();
    Ok(texts?.join("\n"))
}

/// Templates walk through the arguments of past calls; OpenAI's API carries them as JSON in a
/// string.
fn tool_calls(message: &str, calls: &Value) -> Result<Value, ApiError> {
    let Value::Array(calls) = calls else {
        let name = format!("{message}.tool_calls");
        return Err(ApiError::field(name, "must be an array"));
    };
    let mut calls = calls.clone();
    for call in &mut calls {
        let arguments = call.pointer_mut("/function/arguments");
        let Some(arguments) = arguments else { continue };
        let parsed = arguments.as_str().and_then(|text| serde_json::from_str(text).ok());
        if let Some(object @ Value::Object(_)) = parsed {
            *arguments = object;
        }
    }
    Ok(calls.into())
}
