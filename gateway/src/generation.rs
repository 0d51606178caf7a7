//! A request with the engine: merges the choices' events and turns them into text.

use std::sync::Arc;

use tandem_wire::FinishReason;

use crate::{
    choice::{Choice, Delta},
    engine_link::{Failure, Progress, Run},
    error::ApiError,
    model::Model,
    record::Recorder,
    settle::Visit,
};

/// All choices of one request. Dropping it frees its places and stops the engine's work for it.
pub(crate) struct Generation {
    run: Run,
    choices: Vec<Choice>,
    prompt_tokens: usize,
    model: Arc<Model>,
    timeout_ms: u64,
    recorder: Recorder,
    /// Choices that have not ended.
    open: usize,
    /// How often the engine lost a choice, and it was submitted again.
    losses: u32,
    visit: Visit,
}

/// What happens to a request.
#[derive(Debug, PartialEq)]
pub(crate) enum News {
    Update(Update),
    /// The engine lost it for the so-many-th time since its last token. It goes on where it was.
    Lost {
        losses: u32,
    },
}

/// News of one choice.
#[derive(Debug, PartialEq)]
pub(crate) struct Update {
    /// The choice's number.
    pub(crate) index: u32,
    pub(crate) delta: Delta,
    /// Why it ended, with its last delta.
    pub(crate) finish: Option<FinishReason>,
}

/// Tokens counted over all choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
}

impl Generation {
    pub(crate) fn new(
        run: Run,
        choices: Vec<Choice>,
        prompt_tokens: usize,
        model: Arc<Model>,
        timeout_ms: u64,
        recorder: Recorder,
        visit: Visit,
    ) -> Self {
        let open = choices.len();
        Self { run, choices, prompt_tokens, model, timeout_ms, recorder, open, losses: 0, visit }
    }

    /// How often the engine lost a choice, and it was submitted again.
    pub(crate) fn losses(&self) -> u32 {
        self.losses
    }

    /// How many choices there are.
    pub(crate) fn choice_count(&self) -> usize {
        self.choices.len()
    }

    /// The next thing a client should know; `None` once all choices ended. After an error the
    /// request is over. Can be dropped and called again without loss.
    pub(crate) async fn next(&mut self) -> Option<Result<News, ApiError>> {
        loop {
            let (index, progress) = self.run.next().await?;
            let Some(choice) = self.choices.get_mut(index as usize) else {
                continue;
            };
            let tokenizer = &self.model.tokenizer;
            let (delta, finish) = match progress {
                Progress::Token(token) => {
                    self.visit.pays();
                    let (delta, stopped) = choice.push(tokenizer, &self.model.stop_tokens, &token);
                    if stopped {
                        self.run.cancel(index);
                    }
                    (delta, stopped.then_some(FinishReason::Stop))
                }
                Progress::Lost { losses } => {
                    self.losses += 1;
                    return Some(Ok(News::Lost { losses }));
                }
                Progress::Done(reason) => {
                    let (delta, reason) = choice.finish(tokenizer, reason);
                    (delta, Some(reason))
                }
                Progress::Failed(failure) => {
                    let is_drain = failure == Failure::ShuttingDown;
                    let error = self.error(failure);
                    let finish = if is_drain { "drained" } else { "error" };
                    let tokens = self.usage().completion_tokens;
                    self.recorder.fail(finish, error.status.as_u16(), tokens);
                    return Some(Err(error));
                }
            };
            if finish.is_some() || !delta.is_empty() {
                self.record(&delta, finish);
                return Some(Ok(News::Update(Update { index, delta, finish })));
            }
        }
    }

    /// Keeps the record: its first text, and its end with the last choice's.
    fn record(&mut self, delta: &Delta, finish: Option<FinishReason>) {
        if !delta.is_empty() {
            self.recorder.first_text();
        }
        self.recorder.count(self.usage().completion_tokens);
        if let Some(reason) = finish {
            self.open = self.open.saturating_sub(1);
            if self.open == 0 {
                self.recorder.finish(reason, self.usage().completion_tokens);
            }
        }
    }

    /// Tokens so far.
    pub(crate) fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt_tokens as u64,
            completion_tokens: self.choices.iter().map(|choice| u64::from(choice.tokens)).sum(),
        }
    }

    fn error(&self, failure: Failure) -> ApiError {
        match failure {
            Failure::Invalid(message) => {
                ApiError::invalid(format!("The engine refuses the request: {message}"))
            }
            Failure::TimedOut => ApiError::timeout(self.timeout_ms),
            Failure::EngineFault(message) => ApiError::internal(message),
            Failure::ShuttingDown => {
                ApiError::unavailable("draining", "The gateway is shutting down.")
            }
        }
    }
}
