//! `POST /v1/completions`.

use serde_json::Value;

use crate::{
    error::ApiError,
    request::{
        fields::{Fields, shown, whole},
        params::{Defaults, Params},
    },
};

/// Most log-probabilities a position, as OpenAI's completions allow.
const LOGPROBS_MAX: u64 = 5;

/// A checked request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CompletionRequest {
    /// Not empty.
    pub(crate) prompts: Vec<Prompt>,
    pub(crate) params: Params,
}

/// One prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Prompt {
    /// To be tokenised.
    Text(String),
    /// Tokenised by the client; not empty.
    Tokens(Vec<u32>),
}

impl CompletionRequest {
    /// Checks the fields.
    pub(crate) fn read(fields: &Fields, defaults: &Defaults) -> Result<Self, ApiError> {
        if fields.boolean("echo")?.unwrap_or(false) {
            return Err(ApiError::unsupported("echo", "Prompts are not echoed"));
        }
        if fields.string("suffix")?.is_some_and(|suffix| !suffix.is_empty()) {
            return Err(ApiError::unsupported("suffix", "Text is not inserted before a suffix"));
        }
        let mut params = Params::read(fields, defaults)?;
        if fields.integer("best_of", 1, 20)?.is_some_and(|best_of| best_of != u64::from(params.n)) {
            return Err(ApiError::unsupported("best_of", "All of the 'n' choices are returned"));
        }
        params.logprobs = fields.integer("logprobs", 0, LOGPROBS_MAX)?.map(|k| k as u8);
        let prompts = prompts(fields.get("prompt"))?;
        if prompts.len() > defaults.max_choices as usize {
            let (most, count) = (defaults.max_choices, prompts.len());
            let problem = format_args!("may hold up to {most} prompts, not {count}");
            return Err(ApiError::field("prompt", problem));
        }
        Ok(Self { prompts, params })
    }
}

/// A string, an array of strings, an array of token ids, or an array of such arrays.
fn prompts(value: Option<&Value>) -> Result<Vec<Prompt>, ApiError> {
    let value = value.ok_or_else(|| ApiError::field("prompt", "is required"))?;
    let bad = || {
        let problem = format_args!(
            "must be a string, an array of strings, an array of token ids or an array of such \
             arrays, none of them empty, not {}",
            shown(value)
        );
        ApiError::field("prompt", problem)
    };
    match value {
        Value::String(text) => Ok(vec![Prompt::Text(text.clone())]),
        Value::Array(items) if items.first().is_some_and(Value::is_number) => {
            Ok(vec![Prompt::Tokens(tokens(items).ok_or_else(bad)?)])
        }
        Value::Array(items) if !items.is_empty() => items
            .iter()
            .map(|item| match item {
                Value::String(text) => Ok(Prompt::Text(text.clone())),
                Value::Array(ids) => Ok(Prompt::Tokens(tokens(ids).ok_or_else(bad)?)),
                _ => Err(bad()),
            })
            .collect(),
        _ => Err(bad()),
    }
}

fn tokens(items: &[Value]) -> Option<Vec<u32>> {
    let ids: Option<Vec<u32>> = items.iter().map(|item| u32::try_from(whole(item)?).ok()).collect();
    ids.filter(|ids| !ids.is_empty())
}
