//! The canary: one small request through the gateway, as a client would send it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tandem_policy::{CanaryOutcome, CanarySeen};

use tracing::warn;

use super::{
    child::{Facts, Shared},
    health::reachable,
};

/// Most bytes of the answer that are read, beside the model's name: a few tokens and their envelope.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Most characters of the answer's text that policy judges.
const TEXT_CHARS_MAX: usize = 512;

/// Most characters of a refusal that are told.
const REFUSAL_CHARS_MAX: usize = 300;

/// How it is asked.
#[derive(Clone, Copy)]
enum Way {
    /// As a user in a chat.
    Chat,
    /// As plain text to go on with: it needs no chat template, and what it proves is the same.
    Plain,
}

impl Way {
    const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Plain => "/v1/completions",
        }
    }

    /// Something that every model has an answer to. Greedy: the same question has the same answer, so
    /// an odd one is no accident of sampling.
    fn body(self, model: &str, max_tokens: u32) -> Value {
        let mut body = json!({"model": model, "max_tokens": max_tokens, "temperature": 0});
        match self {
            Self::Chat => {
                let message = json!({"role": "user", "content": "Say hello and count to five."});
                body["messages"] = json!([message]);
            }
            Self::Plain => body["prompt"] = "One, two, three, four,".into(),
        }
        body
    }
}

/// One request to be sent.
pub(super) struct Canary {
    pub(super) epoch: u64,
    pub(super) number: u32,
    pub(super) listen: SocketAddr,
    pub(super) model: String,
    /// The key that this supervisor's gateway knows its canaries by.
    pub(super) key: String,
    pub(super) max_tokens: u32,
    pub(super) timeout: Duration,
}

impl Canary {
    fn is(&self, known: &CanarySeen) -> bool {
        (known.epoch, known.number) == (self.epoch, self.number)
    }

    fn seen(&self, outcome: Option<CanaryOutcome>) -> CanarySeen {
        let at_ms = tandem_host::now().boot_ms;
        CanarySeen { epoch: self.epoch, number: self.number, outcome, at_ms }
    }
}

/// Sends it on a thread of its own, so that nothing waits for it. One that was sent is not sent
/// again.
pub(super) fn send(shared: Shared, canary: Canary) {
    {
        let mut facts = shared.facts();
        if facts.canary.as_ref().is_some_and(|known| canary.is(known)) {
            return;
        }
        facts.canary = Some(canary.seen(None));
    }
    std::thread::spawn(move || {
        let outcome = ask(&shared, &canary);
        shared.change(|facts| settle(facts, &canary, outcome));
    });
}

/// Keeps what came of it, unless another was sent meanwhile.
fn settle(facts: &mut Facts, canary: &Canary, outcome: CanaryOutcome) {
    if facts.canary.as_ref().is_some_and(|known| canary.is(known)) {
        facts.canary = Some(canary.seen(Some(outcome)));
    }
}

/// Asks as a chat, and as plain text where the gateway refuses that: a model without a chat template,
/// or one whose template refuses a lone question, serves nevertheless. Once that was so in an epoch, it
/// is asked so from then on.
fn ask(shared: &Shared, canary: &Canary) -> CanaryOutcome {
    let is_plain = shared.facts().plain_canary_epoch == Some(canary.epoch);
    let ends = Instant::now() + canary.timeout;
    let chat = if is_plain { None } else { Some(ask_by(canary, Way::Chat, ends)) };
    let refused = match chat {
        Some(CanaryOutcome::Refused(why)) => Some(why),
        Some(outcome) => return outcome,
        None => None,
    };
    match (ask_by(canary, Way::Plain, ends), refused) {
        (CanaryOutcome::Refused(plain), Some(chat)) if plain != chat => {
            CanaryOutcome::Refused(format!("as a chat: {chat}; as plain text: {plain}"))
        }
        (CanaryOutcome::Answered { text, tokens }, Some(chat)) => {
            warn!("a chat is refused ({chat}), so serving is proven by /v1/completions");
            shared.facts().plain_canary_epoch = Some(canary.epoch);
            CanaryOutcome::Answered { text, tokens }
        }
        (outcome, _) => outcome,
    }
}

fn ask_by(canary: &Canary, way: Way, ends: Instant) -> CanaryOutcome {
    let timeout = ends.saturating_duration_since(Instant::now());
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(timeout.max(Duration::from_millis(1))))
        .http_status_as_error(false)
        .proxy(None)
        .build()
        .into();
    let url = format!("http://{}{}", reachable(canary.listen), way.path());
    let answer = agent
        .post(&url)
        .header("authorization", &format!("Bearer {}", canary.key))
        .send_json(way.body(&canary.model, canary.max_tokens));
    let mut answer = match answer {
        Ok(answer) => answer,
        Err(error) => return CanaryOutcome::Failed(error.to_string()),
    };
    let status = answer.status().as_u16();
    // The name of the model is in it, written as JSON.
    let name_bytes = (canary.model.len() as u64).saturating_mul(6);
    let limit = ANSWER_BYTES_MAX.saturating_add(name_bytes);
    let text = answer.body_mut().with_config().limit(limit).read_to_string();
    judge(way, status, text)
}

/// What an answer means: what another start of the ranks can't change is told apart from what it may.
fn judge(way: Way, status: u16, text: Result<String, ureq::Error>) -> CanaryOutcome {
    match (status, text) {
        (408 | 429 | 503 | 504, _) => CanaryOutcome::Busy,
        (400..=499, text) => CanaryOutcome::Refused(refusal(status, text.ok().as_deref())),
        (200, Ok(text)) => understand(way, &text).unwrap_or_else(|| {
            CanaryOutcome::Refused("the answer has not the form of a completion".into())
        }),
        (200, Err(ureq::Error::BodyExceedsLimit(bytes))) => {
            CanaryOutcome::Refused(format!("the answer is longer than {bytes} bytes"))
        }
        (200, Err(error)) => CanaryOutcome::Failed(format!("the answer can't be read: {error}")),
        (status, text) => CanaryOutcome::Failed(refusal(status, text.ok().as_deref())),
    }
}

/// The status of a refusal, and what its error says, in one line.
fn refusal(status: u16, text: Option<&str>) -> String {
    let error: Option<Value> = text.and_then(|text| serde_json::from_str(text).ok());
    let message = error.as_ref().and_then(|error| error.get("error")?.get("message")?.as_str());
    let told = format!("the gateway answered with status {status}");
    let Some(message) = message else { return told };
    let line = message.chars().map(|c| if c.is_control() { ' ' } else { c });
    format!("{told}: {}", line.take(REFUSAL_CHARS_MAX).collect::<String>())
}

fn understand(way: Way, text: &str) -> Option<CanaryOutcome> {
    let answer: Value = serde_json::from_str(text).ok()?;
    let choice = answer.get("choices")?.get(0)?;
    let part = |of: &Value, name: &str| {
        of.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let whole = match way {
        Way::Chat => {
            let message = choice.get("message")?;
            // A model that reasons may spend all tokens of a canary on it.
            part(message, "reasoning_content") + &part(message, "content")
        }
        Way::Plain => choice.get("text")?.as_str()?.to_owned(),
    };
    let tokens = answer.get("usage")?.get("completion_tokens")?.as_u64()?;
    Some(CanaryOutcome::Answered {
        text: whole.chars().take(TEXT_CHARS_MAX).collect(),
        tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
    })
}

#[cfg(test)]
mod tests;
