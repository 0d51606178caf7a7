//! `POST /v1/chat/completions`.

use serde_json::{Map, Value};

use crate::{
    conversation::Ending,
    error::ApiError,
    request::{
        fields::{Fields, shown},
        message,
        params::{Defaults, Params},
        unsupported,
    },
};

/// A checked request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ChatRequest {
    /// Not empty; each an object with `role` and, as a string, `content`.
    pub(crate) messages: Vec<Value>,
    /// Further variables for the chat template.
    pub(crate) template_kwargs: Map<String, Value>,
    pub(crate) ending: Ending,
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
        let messages = message::read_all(fields.get("messages"))?;
        let ending = ending(fields, &messages)?;
        Ok(Self { messages, template_kwargs, ending, params })
    }
}

/// Fields that would change the answer in ways this server does not know.
fn refuse_unsupported(fields: &Fields) -> Result<(), ApiError> {
    let not_empty = |name: &str| {
        fields.get(name).is_some_and(|value| value.as_array().is_none_or(|all| !all.is_empty()))
    };
    // Those that are not to be called change nothing.
    for (name, choice) in [("tools", "tool_choice"), ("functions", "function_call")] {
        if not_empty(name) && fields.get(choice).is_none_or(|choice| choice != "none") {
            return Err(ApiError::unsupported(name, "Calling tools is not supported"));
        }
    }
    for name in ["tool_choice", "function_call"] {
        if fields.get(name).is_some_and(|choice| choice != "none" && choice != "auto") {
            return Err(ApiError::unsupported(name, "Calling tools is not supported"));
        }
    }
    if fields.get("echo").is_some_and(unsupported::asks) {
        return Err(ApiError::unsupported("echo", "An answer is only what is new"));
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

/// How the prompt ends. An assistant's last message is followed by a new turn, as by vLLM, unless the
/// request says to go on with it: by `continue_final_message` (vLLM, TGI, SGLang) or by the
/// message's own `prefix` (DeepSeek, Mistral). What contradicts itself is refused.
fn ending(fields: &Fields, messages: &[Value]) -> Result<Ending, ApiError> {
    let head = fields.boolean("add_generation_prompt")?;
    let go_on = fields.boolean("continue_final_message")?;
    let mut prefix = false;
    for (index, message) in messages.iter().enumerate() {
        let name = format!("messages[{index}].prefix");
        match message.get("prefix") {
            None | Some(Value::Bool(false)) => {}
            Some(Value::Bool(true)) if index + 1 < messages.len() => {
                return Err(ApiError::field(name, "may be true only for the last message"));
            }
            Some(Value::Bool(true)) if go_on == Some(false) => {
                return Err(ApiError::field(name, "and 'continue_final_message': false differ"));
            }
            Some(Value::Bool(true)) => prefix = true,
            Some(other) => {
                let problem = format_args!("must be true or false, not {}", shown(other));
                return Err(ApiError::field(name, problem));
            }
        }
    }
    if !prefix && go_on != Some(true) {
        return Ok(if head == Some(false) { Ending::Closed } else { Ending::NewTurn });
    }
    let name = if prefix { "prefix" } else { "continue_final_message" };
    let last = messages.last().unwrap_or(&Value::Null);
    let problem = if head == Some(true) {
        "goes on with the last message and 'add_generation_prompt' begins a new one; give one"
    } else if last["role"] != "assistant" {
        "goes on with an assistant's message, and the last one is not an assistant's"
    } else if last.get("tool_calls").is_some() {
        "goes on with the text of the last message, which ends in 'tool_calls'"
    } else {
        return Ok(Ending::Open);
    };
    Err(ApiError::field(name, problem))
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
