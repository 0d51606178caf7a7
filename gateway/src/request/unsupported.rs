//! Fields of other servers that would change the answer in ways this one does not know. They are
//! refused by name: an answer that only looks like what was asked for is worse than none. What says
//! no more than "not that" (null, false, empty) is taken.

use serde_json::Value;

use crate::{error::ApiError, request::fields::Fields};

const FREE: &str = "Answers are not held to a form";
const ENDS: &str = "An answer ends where the model ends it";

const FIELDS: [(&str, &str); 13] = [
    // vLLM.
    ("guided_json", FREE),
    ("guided_regex", FREE),
    ("guided_choice", FREE),
    ("guided_grammar", FREE),
    ("structured_outputs", FREE),
    ("ignore_eos", ENDS),
    ("min_tokens", ENDS),
    ("use_beam_search", "Tokens are sampled one by one"),
    // SGLang.
    ("regex", FREE),
    ("ebnf", FREE),
    // llama.cpp.
    ("grammar", FREE),
    ("json_schema", FREE),
    // TGI.
    ("decoder_input_details", "Prompts are not told again"),
];

pub(super) fn refuse(fields: &Fields) -> Result<(), ApiError> {
    match FIELDS.iter().find(|(name, _)| fields.get(name).is_some_and(asks)) {
        Some((name, what)) => Err(ApiError::unsupported(name, what)),
        None => Ok(()),
    }
}

/// Whether a value asks for something.
pub(super) fn asks(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(wanted) => *wanted,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}
