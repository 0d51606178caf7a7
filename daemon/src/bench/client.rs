//! Streams from a server.

use std::{
    io::{BufRead, BufReader, Read},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use serde_json::{Value, json};

use super::plan::{Section, prompt};

/// Most bytes of one stream that are read. A token is a few hundred bytes of JSON.
const STREAM_BYTES_MAX: u64 = 256 << 20;

/// Most bytes of a model list or of an error.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// A server.
pub(super) struct Client {
    agent: ureq::Agent,
    base: String,
    authorization: Option<String>,
}

/// What one stream brought, and when. Times are seconds since it was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stream {
    pub(super) first_s: Option<f64>,
    pub(super) last_s: Option<f64>,
    pub(super) prompt_tokens: u32,
    /// Of those, the ones the server had in a cache and did not compute.
    pub(super) cached_tokens: u32,
    pub(super) completion_tokens: u32,
}

impl Client {
    pub(super) fn new(url: &str, key: Option<String>, timeout_s: u64) -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(timeout_s)))
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .into();
        let base = url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        Self { agent, base, authorization: key.map(|key| format!("Bearer {key}")) }
    }

    /// The first model that the server lists.
    pub(super) fn first_model(&self) -> anyhow::Result<String> {
        let url = format!("{}/v1/models", self.base);
        let mut request = self.agent.get(&url);
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let answer = request.call().with_context(|| format!("no answer from {url}"))?;
        let status = answer.status();
        let text = read_text(answer.into_body().into_reader())?;
        if !status.is_success() {
            bail!("{url} answers {status}: {text}");
        }
        let list: Value = serde_json::from_str(&text).with_context(|| format!("{url}: no JSON"))?;
        list["data"][0]["id"]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| anyhow!("{url} lists no model; name one with --model"))
    }

    /// All streams of one run of a section, begun together.
    pub(super) fn streams(&self, model: &str, section: &Section) -> anyhow::Result<Vec<Stream>> {
        std::thread::scope(|scope| {
            let started: Vec<_> = (0..section.concurrency)
                .map(|_| {
                    let text = prompt(section.words);
                    scope.spawn(move || self.stream(model, &text, section.max_tokens))
                })
                .collect();
            let finish = |thread: std::thread::ScopedJoinHandle<'_, anyhow::Result<Stream>>| {
                thread.join().unwrap_or_else(|_| Err(anyhow!("a client thread panicked")))
            };
            started.into_iter().map(finish).collect()
        })
    }

    /// One streamed chat.
    pub(super) fn stream(
        &self,
        model: &str,
        text: &str,
        max_tokens: u32,
    ) -> anyhow::Result<Stream> {
        let body = json!({
            "model": model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": true,
            "stream_options": {"include_usage": true},
        });
        let url = format!("{}/v1/chat/completions", self.base);
        let mut request = self.agent.post(&url);
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let start = Instant::now();
        let answer = request.send_json(&body).with_context(|| format!("no answer from {url}"))?;
        let status = answer.status();
        let reader = answer.into_body().into_reader();
        if !status.is_success() {
            bail!("{url} answers {status}: {}", read_text(reader)?);
        }
        read_stream(reader.take(STREAM_BYTES_MAX), || start.elapsed().as_secs_f64())
    }
}

fn read_text(reader: impl Read) -> anyhow::Result<String> {
    let mut text = String::new();
    reader.take(ANSWER_BYTES_MAX).read_to_string(&mut text).context("the answer broke off")?;
    Ok(text)
}

/// Reads server-sent events to their end.
fn read_stream(reader: impl Read, now_s: impl Fn() -> f64) -> anyhow::Result<Stream> {
    let (mut first_s, mut last_s, mut pieces, mut usage) = (None, None, 0, None);
    for line in BufReader::new(reader).lines() {
        let line = line.context("the stream broke off")?;
        let Some(data) = line.strip_prefix("data:").map(str::trim) else {
            continue;
        };
        if data == "[DONE]" {
            break;
        }
        let event: Value = serde_json::from_str(data)
            .with_context(|| format!("not JSON in the stream: {data}"))?;
        if !event["error"].is_null() {
            bail!("the server says: {}", event["error"]);
        }
        if event["usage"].is_object() {
            usage = Some(event["usage"].clone());
        }
        if has_text(&event) {
            let now = now_s();
            first_s.get_or_insert(now);
            last_s = Some(now);
            pieces += 1;
        }
    }
    let usage = usage.unwrap_or_default();
    let number = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
    let count = |key: &str| number(&usage[key]);
    // A token whose text is held back (half a character, an end token) shows no piece: then the
    // end of the stream is the only time there is.
    Ok(Stream {
        first_s: first_s.or_else(|| Some(now_s())),
        last_s: last_s.or_else(|| Some(now_s())),
        prompt_tokens: count("prompt_tokens").unwrap_or(0),
        cached_tokens: number(&usage["prompt_tokens_details"]["cached_tokens"]).unwrap_or(0),
        completion_tokens: count("completion_tokens").unwrap_or(pieces),
    })
}

/// Whether an event brings text, under any of the names that servers give it.
fn has_text(event: &Value) -> bool {
    let choice = &event["choices"][0];
    let delta = &choice["delta"];
    [&delta["content"], &delta["reasoning_content"], &delta["reasoning"], &choice["text"]]
        .iter()
        .any(|text| text.as_str().is_some_and(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_timed_by_its_text_and_counted_by_its_usage() {
        let text = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n\
                    : keep-alive\n\n\
                    data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n\
                    data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"b\"}}]}\n\n\
                    data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":9,\
                    \"prompt_tokens_details\":{\"cached_tokens\":3}}}\n\n\
                    data: [DONE]\n\n";
        let ticks = std::cell::Cell::new(0.0);
        let stream = read_stream(text.as_bytes(), || {
            ticks.set(ticks.get() + 1.0);
            ticks.get()
        })
        .unwrap();
        let expected = Stream {
            first_s: Some(1.0),
            last_s: Some(2.0),
            prompt_tokens: 7,
            cached_tokens: 3,
            completion_tokens: 9,
        };
        assert_eq!(stream, expected);
    }

    #[test]
    fn an_error_in_the_stream_is_an_error() {
        let text = "data: {\"error\":{\"message\":\"no\"}}\n\n";
        let error = read_stream(text.as_bytes(), || 0.0).unwrap_err();
        assert!(error.to_string().contains("no"), "{error}");
    }
}
