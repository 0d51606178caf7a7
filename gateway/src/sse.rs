//! Server-sent events: one generation as a stream of `data:` lines.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    body::Body,
    http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use serde_json::Value;

use crate::{
    answer::{Api, Header},
    choice::Delta,
    engine_link::LOSSES_MAX,
    error::ApiError,
    generation::{Generation, News, Update},
    settings::KeepAlive,
};

/// A comment: clients skip it, proxies see that the stream is alive.
const KEEP_ALIVE: &str = ": keep-alive\n\n";

/// How a silent stream shows that it lives.
#[derive(Clone, Copy)]
pub(crate) struct LifeSigns {
    pub(crate) every: Duration,
    pub(crate) kind: KeepAlive,
}
const DONE: &str = "data: [DONE]\n\n";

struct EventStream {
    header: Header,
    /// `None` once it ended.
    generation: Option<Generation>,
    include_usage: bool,
    life_signs: LifeSigns,
    /// Of the last comment that told of a loss, until there is text again: all choices are lost at once.
    told_losses: u32,
    ready: VecDeque<String>,
}

/// The answer to a streaming request. The client's going away drops the body, and with it the
/// generation, which stops the engine. A client that reads slowly delays nobody: its tokens wait
/// in the link's channel, at most `max_tokens` of them.
pub(crate) fn respond(
    header: Header,
    generation: Generation,
    include_usage: bool,
    life_signs: LifeSigns,
) -> Response {
    let mut events = EventStream {
        header,
        generation: None,
        include_usage,
        life_signs,
        told_losses: 0,
        ready: VecDeque::new(),
    };
    if events.header.api == Api::Chat {
        for index in 0..generation.choice_count() {
            let chunk = events.header.role_chunk(index, events.no_usage());
            events.push(&chunk);
        }
    }
    events.generation = Some(generation);
    let body = Body::from_stream(stream::unfold(events, |mut events| async move {
        let text = events.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), events))
    }));
    let headers = [
        (CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (CACHE_CONTROL, "no-cache"),
        // nginx buffers answers unless told not to.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, body).into_response()
}

/// The end of a stream that fails.
pub(crate) fn last_words(error: &ApiError) -> String {
    format!("data: {}\n\n{DONE}", error.to_json())
}

impl EventStream {
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(text) = self.ready.pop_front() {
                return Some(text);
            }
            let generation = self.generation.as_mut()?;
            match tokio::time::timeout(self.life_signs.every, generation.next()).await {
                Err(_) => self.show_life(),
                Ok(Some(Ok(News::Update(update)))) => self.update(&update),
                Ok(Some(Ok(News::Lost { losses }))) => self.lost(losses),
                Ok(Some(Err(error))) => self.fail(&error),
                Ok(None) => self.end(),
            }
        }
    }

    fn show_life(&mut self) {
        match self.life_signs.kind {
            KeepAlive::Comment => self.ready.push_back(KEEP_ALIVE.to_owned()),
            KeepAlive::Chunk => {
                let chunk = self.header.delta_chunk(0, &Delta::default(), self.no_usage());
                self.push(&chunk);
            }
        }
    }

    /// A comment, since nothing is wrong yet; if it happens too often, an error ends the stream.
    fn lost(&mut self, losses: u32) {
        if self.told_losses != losses {
            self.told_losses = losses;
            self.ready.push_back(format!(
                ": the engine was lost; the answer goes on with the next one (attempt {losses} of \
                 at most {LOSSES_MAX})\n\n"
            ));
        }
    }

    fn update(&mut self, update: &Update) {
        self.told_losses = 0;
        if !update.delta.is_empty() {
            let chunk = self.header.delta_chunk(update.index, &update.delta, self.no_usage());
            self.push(&chunk);
        }
        if let Some(finish) = update.finish {
            let chunk = self.header.finish_chunk(update.index, finish, self.no_usage());
            self.push(&chunk);
        }
    }

    fn fail(&mut self, error: &ApiError) {
        tracing::warn!(request = self.header.id, "a stream ends early: {}", error.message);
        self.ready.push_back(last_words(error));
        self.generation = None;
    }

    fn end(&mut self) {
        let usage = self.generation.take().map(|generation| generation.usage());
        if let Some(usage) = usage.filter(|_| self.include_usage) {
            let chunk = self.header.usage_chunk(usage);
            self.push(&chunk);
        }
        self.ready.push_back(DONE.to_owned());
    }

    /// With `include_usage` every chunk but the last carries a null.
    fn no_usage(&self) -> Option<Value> {
        self.include_usage.then_some(Value::Null)
    }

    fn push(&mut self, event: &Value) {
        self.ready.push_back(format!("data: {event}\n\n"));
    }
}
