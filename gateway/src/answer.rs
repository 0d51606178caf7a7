//! The JSON of answers: whole ones and the chunks of streams, for chat and for completions.

use serde_json::{Value, json};
use tandem_wire::FinishReason;

use crate::{
    choice::{Delta, Spelt, TokenLogprob},
    generation::Usage,
};

/// Which of the two APIs is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    Chat,
    Completions,
}

/// What is the same in all objects of one answer.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) api: Api,
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) model: String,
    /// Whether log-probabilities were asked for.
    pub(crate) logprobs: bool,
}

impl Header {
    /// The whole answer: each choice's text and why it ended.
    pub(crate) fn whole(&self, choices: &[(Delta, FinishReason)], usage: Usage) -> Value {
        let object = match self.api {
            Api::Chat => "chat.completion",
            Api::Completions => "text_completion",
        };
        let choices: Vec<Value> = choices
            .iter()
            .enumerate()
            .map(|(index, (text, finish))| {
                let finish = finish_name(Some(*finish));
                let logprobs = self.logprobs(&text.logprobs);
                match self.api {
                    Api::Chat => {
                        let mut message = json!({"role": "assistant", "content": text.content});
                        if !text.reasoning.is_empty() {
                            message["reasoning_content"] = text.reasoning.as_str().into();
                        }
                        json!({"index": index, "message": message, "logprobs": logprobs,
                               "finish_reason": finish})
                    }
                    Api::Completions => json!({"index": index, "text": text.content,
                                               "logprobs": logprobs, "finish_reason": finish}),
                }
            })
            .collect();
        self.object(object, choices.into(), Some(usage_json(usage)))
    }

    /// The first chunk of a chat choice: who speaks.
    pub(crate) fn role_chunk(&self, index: usize, usage: Option<Value>) -> Value {
        let delta = json!({"role": "assistant", "content": ""});
        let choice = json!({"index": index, "delta": delta, "logprobs": null,
                            "finish_reason": null});
        self.chunk(json!([choice]), usage)
    }

    /// A chunk with new text.
    pub(crate) fn delta_chunk(&self, index: u32, delta: &Delta, usage: Option<Value>) -> Value {
        self.choice_chunk(index, delta, None, usage)
    }

    /// The last chunk of a choice.
    pub(crate) fn finish_chunk(
        &self,
        index: u32,
        finish: FinishReason,
        usage: Option<Value>,
    ) -> Value {
        self.choice_chunk(index, &Delta::default(), Some(finish), usage)
    }

    /// The last chunk of a stream, if usage was asked for.
    pub(crate) fn usage_chunk(&self, usage: Usage) -> Value {
        self.chunk(json!([]), Some(usage_json(usage)))
    }

    fn choice_chunk(
        &self,
        index: u32,
        delta: &Delta,
        finish: Option<FinishReason>,
        usage: Option<Value>,
    ) -> Value {
        let logprobs = match delta.logprobs.as_slice() {
            [] => Value::Null,
            entries => self.logprobs(entries),
        };
        let finish_reason = finish_name(finish);
        let choice = match self.api {
            Api::Chat => {
                let mut text = json!({});
                if !delta.reasoning.is_empty() {
                    text["reasoning_content"] = delta.reasoning.as_str().into();
                }
                if !delta.content.is_empty() {
                    text["content"] = delta.content.as_str().into();
                }
                json!({"index": index, "delta": text, "logprobs": logprobs,
                       "finish_reason": finish_reason})
            }
            Api::Completions => json!({"index": index, "text": delta.content,
                                       "logprobs": logprobs, "finish_reason": finish_reason}),
        };
        self.chunk(json!([choice]), usage)
    }

    fn chunk(&self, choices: Value, usage: Option<Value>) -> Value {
        let object = match self.api {
            Api::Chat => "chat.completion.chunk",
            Api::Completions => "text_completion",
        };
        self.object(object, choices, usage)
    }

    fn object(&self, object: &str, choices: Value, usage: Option<Value>) -> Value {
        let mut value = json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        });
        if let Some(usage) = usage {
            value["usage"] = usage;
        }
        value
    }

    fn logprobs(&self, entries: &[TokenLogprob]) -> Value {
        if !self.logprobs {
            return Value::Null;
        }
        match self.api {
            Api::Chat => chat_logprobs(entries),
            Api::Completions => completion_logprobs(entries),
        }
    }
}

fn chat_logprobs(entries: &[TokenLogprob]) -> Value {
    let one = |spelt: &Spelt| json!({"token": spelt.text, "logprob": spelt.logprob, "bytes": spelt.bytes});
    let content: Vec<Value> = entries
        .iter()
        .map(|entry| {
            let mut value = one(&entry.chosen);
            value["top_logprobs"] = entry.top.iter().map(one).collect();
            value
        })
        .collect();
    json!({"content": content, "refusal": null})
}

fn completion_logprobs(entries: &[TokenLogprob]) -> Value {
    let top = |entry: &TokenLogprob| {
        let mut map = serde_json::Map::new();
        // The chosen token is always among them; of two spelt alike the likelier one stays.
        for spelt in entry.top.iter().chain([&entry.chosen]) {
            map.entry(spelt.text.clone()).or_insert_with(|| spelt.logprob.into());
        }
        Value::Object(map)
    };
    json!({
        "tokens": entries.iter().map(|entry| entry.chosen.text.as_str()).collect::<Vec<_>>(),
        "token_logprobs": entries.iter().map(|entry| entry.chosen.logprob).collect::<Vec<_>>(),
        "top_logprobs": entries.iter().map(top).collect::<Vec<_>>(),
        "text_offset": entries.iter().map(|entry| entry.text_offset).collect::<Vec<_>>(),
    })
}

fn usage_json(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    })
}

const fn finish_name(finish: Option<FinishReason>) -> Option<&'static str> {
    match finish {
        Some(FinishReason::Stop) => Some("stop"),
        Some(FinishReason::Length) => Some("length"),
        None => None,
    }
}
