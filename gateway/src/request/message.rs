//! The messages of a conversation, as chat templates expect them.
//!
//! Clients send the whole history with every turn, so what one turn left behind comes back for ever:
//! an answer that was all reasoning, a refusal, a tool that said nothing. All of it is taken, as
//! mlx-lm, vLLM and llama.cpp take it; only what would be lost in silence (an image) is refused.

use serde_json::{Map, Value, json};

use crate::{error::ApiError, request::fields::shown};

const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

/// Types of content parts that are the message's text, and the field that it stands in.
const TEXT_PARTS: [(&str, &str); 4] =
    [("text", "text"), ("input_text", "text"), ("output_text", "text"), ("refusal", "refusal")];
/// The same for parts that are what the model thought before it spoke.
const REASONING_PARTS: [(&str, &str); 2] = [("thinking", "thinking"), ("reasoning", "text")];
/// Thoughts that only their maker can read.
const SEALED_PART: &str = "redacted_thinking";

/// All messages, not empty.
pub(super) fn read_all(value: Option<&Value>) -> Result<Vec<Value>, ApiError> {
    let value = value.ok_or_else(|| ApiError::field("messages", "is required"))?;
    match value {
        Value::Array(all) if !all.is_empty() => {
            all.iter().enumerate().map(|(index, one)| read(index, one)).collect()
        }
        _ => Err(ApiError::field("messages", "must be an array of at least one message")),
    }
}

/// Everything the client gave, but nulls, with `content` as one string.
fn read(index: usize, value: &Value) -> Result<Value, ApiError> {
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
    // Templates ask whether a field is there, and clients' libraries write null for one that is not.
    let mut message: Map<String, Value> = given
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let Spoken { text, reasoning } = spoken(&name, message.get("content"))?;
    message.insert("content".into(), text.into());
    if let Some(reasoning) = reasoning {
        message.entry("reasoning_content").or_insert_with(|| reasoning.into());
    }
    in_todays_words(role, &mut message);
    if let Some(calls) = message.remove("tool_calls") {
        let calls = tool_calls(&name, calls)?;
        // An empty list would have some templates begin a call and never end it.
        if !calls.is_empty() {
            message.insert("tool_calls".into(), calls.into());
        }
    }
    Ok(Value::Object(message))
}

/// What a message says.
#[derive(Default)]
struct Spoken {
    text: String,
    reasoning: Option<String>,
}

/// Of no content, a string or an array of parts. Parts are joined by line breaks, as vLLM and
/// llama.cpp join them.
fn spoken(message: &str, content: Option<&Value>) -> Result<Spoken, ApiError> {
    let parts = match content {
        None => return Ok(Spoken::default()),
        Some(Value::String(text)) => {
            return Ok(Spoken { text: text.clone(), ..Spoken::default() });
        }
        Some(Value::Array(parts)) => parts,
        Some(_) => {
            let problem = "must be a string or an array of text parts";
            return Err(ApiError::field(format_args!("{message}.content"), problem));
        }
    };
    let (mut texts, mut thoughts) = (Vec::new(), Vec::new());
    for (index, part) in parts.iter().enumerate() {
        match part_of(part) {
            Some(Part::Text(text)) => texts.push(text),
            Some(Part::Reasoning(text)) => thoughts.push(text),
            Some(Part::Nothing) => {}
            None => {
                let name = format!("{message}.content[{index}]");
                let problem =
                    "must be {\"type\": \"text\", \"text\": …} or a string; only text is read";
                return Err(ApiError::field(name, problem));
            }
        }
    }
    let reasoning = (!thoughts.is_empty()).then(|| thoughts.join("\n"));
    Ok(Spoken { text: texts.join("\n"), reasoning })
}

enum Part {
    Text(String),
    Reasoning(String),
    Nothing,
}

/// `None`: a part that is not text.
fn part_of(part: &Value) -> Option<Part> {
    let fields = match part {
        Value::String(text) => return Some(Part::Text(text.clone())),
        Value::Null => return Some(Part::Nothing),
        Value::Object(fields) => fields,
        _ => return None,
    };
    let kind = match fields.get("type") {
        // Some clients leave the type of a text out.
        None | Some(Value::Null) => "text",
        Some(kind) => kind.as_str()?,
    };
    if kind == SEALED_PART {
        return Some(Part::Nothing);
    }
    let field = |kinds: &[(&str, &'static str)]| {
        kinds.iter().find(|(known, _)| *known == kind).map(|(_, field)| *field)
    };
    if let Some(field) = field(&TEXT_PARTS) {
        return text_in(fields, field).map(|text| text.map_or(Part::Nothing, Part::Text));
    }
    let field = field(&REASONING_PARTS)?;
    text_in(fields, field).map(|text| text.map_or(Part::Nothing, Part::Reasoning))
}

/// The text of a part; inside `None` where it is absent although the part is of that type.
fn text_in(fields: &Map<String, Value>, field: &str) -> Option<Option<String>> {
    match fields.get(field) {
        Some(Value::String(text)) => Some(Some(text.clone())),
        // With a type, an empty part; without one, it is some other thing.
        Some(Value::Null) | None => fields.contains_key("type").then_some(None),
        // Mistral's API has texts inside of a thought.
        Some(Value::Array(inner)) => {
            let texts: Option<String> = inner.iter().map(|part| part["text"].as_str()).collect();
            texts.map(Some)
        }
        Some(_) => None,
    }
}

/// Templates walk through the arguments of past calls; OpenAI's API carries them as JSON in a
/// string.
fn tool_calls(message: &str, calls: Value) -> Result<Vec<Value>, ApiError> {
    let Value::Array(mut calls) = calls else {
        let name = format!("{message}.tool_calls");
        return Err(ApiError::field(name, "must be an array"));
    };
    for call in &mut calls {
        let arguments = call.pointer_mut("/function/arguments");
        let Some(arguments) = arguments else { continue };
        let parsed = arguments.as_str().and_then(|text| serde_json::from_str(text).ok());
        if let Some(object @ Value::Object(_)) = parsed {
            *arguments = object;
        }
    }
    Ok(calls)
}

/// OpenAI's first form of tools (`functions`) said in today's, which is what templates know: the
/// role `function` is a tool's, and `function_call` the only entry of `tool_calls`.
fn in_todays_words(role: &str, message: &mut Map<String, Value>) {
    if role == "function" {
        message.insert("role".into(), "tool".into());
    }
    let call = message.remove("function_call").filter(Value::is_object);
    if let Some(function) = call
        && !message.contains_key("tool_calls")
    {
        message.insert("tool_calls".into(), json!([{"type": "function", "function": function}]));
    }
}

#[cfg(test)]
mod tests;
