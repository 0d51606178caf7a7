//! The canary: one small request through the gateway, as a client would send it.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use tandem_policy::{CanaryOutcome, CanarySeen};

use super::{child::Shared, health::reachable};

/// Most bytes of the answer that are read: a few tokens and their envelope.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Most characters of the answer's text that policy judges.
const TEXT_CHARS_MAX: usize = 512;

/// What is asked: something that every model has an answer to.
const PROMPT: &str = "Say hello and count to five.";

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
    fn seen(&self, outcome: Option<CanaryOutcome>) -> CanarySeen {
        let at_ms = tandem_host::now().boot_ms;
        CanarySeen { epoch: self.epoch, number: self.number, outcome, at_ms }
    }
}

/// Sends it on a thread of its own, so that nothing waits for it. One that was sent is not sent
/// again.
pub(super) fn send(shared: Shared, canary: Canary) {
    let is_same = |known: &CanarySeen| (known.epoch, known.number) == (canary.epoch, canary.number);
    {
        let mut facts = shared.facts();
        if facts.canary.as_ref().is_some_and(is_same) {
            return;
        }
        facts.canary = Some(canary.seen(None));
    }
    std::thread::spawn(move || {
        let outcome = ask(&canary).unwrap_or_else(CanaryOutcome::Failed);
        shared.change(|facts| facts.canary = Some(canary.seen(Some(outcome))));
    });
}

fn ask(canary: &Canary) -> Result<CanaryOutcome, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(canary.timeout))
        .http_status_as_error(false)
        .proxy(None)
        .build()
        .into();
    let url = format!("http://{}/v1/chat/completions", reachable(canary.listen));
    // Greedy: the same question has the same answer, so an odd one is no accident of sampling.
    let body = json!({
        "model": canary.model,
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": canary.max_tokens,
        "temperature": 0,
    });
    let mut answer = agent
        .post(&url)
        .header("authorization", &format!("Bearer {}", canary.key))
        .send_json(&body)
        .map_err(|error| error.to_string())?;
    let status = answer.status().as_u16();
    if matches!(status, 429 | 503) {
        return Ok(CanaryOutcome::Busy);
    }
    let text = answer
        .body_mut()
        .with_config()
        .limit(ANSWER_BYTES_MAX)
        .read_to_string()
        .map_err(|error| format!("the answer can't be read: {error}"))?;
    if status != 200 {
        return Err(format!("the gateway answered with status {status}"));
    }
    understand(&text).ok_or_else(|| "the answer has not the form of a chat completion".into())
}

fn understand(text: &str) -> Option<CanaryOutcome> {
    let answer: Value = serde_json::from_str(text).ok()?;
    let message = answer.get("choices")?.get(0)?.get("message")?;
    let part = |name: &str| message.get(name).and_then(Value::as_str).unwrap_or_default();
    // A model that reasons may spend all tokens of a canary on it.
    let whole = format!("{}{}", part("reasoning_content"), part("content"));
    let tokens = answer.get("usage")?.get("completion_tokens")?.as_u64()?;
    Some(CanaryOutcome::Answered {
        text: whole.chars().take(TEXT_CHARS_MAX).collect(),
        tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_understood_or_is_none() {
        let text = r#"{"choices":[{"message":{"reasoning_content":"Hm. ","content":"Hello"}}],
                       "usage":{"completion_tokens":2}}"#;
        let expected = CanaryOutcome::Answered { text: "Hm. Hello".into(), tokens: 2 };
        assert_eq!(understand(text), Some(expected));
        for odd in ["", "{}", "[]", r#"{"choices":[]}"#, r#"{"choices":[{"message":{}}]}"#] {
            assert_eq!(understand(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_gateway_that_is_not_there_is_a_failure_and_no_wait() {
        let canary = Canary {
            epoch: 1,
            number: 1,
            listen: "127.0.0.1:9".parse().unwrap(),
            model: "m".into(),
            key: "k".into(),
            max_tokens: 1,
            timeout: Duration::from_secs(5),
        };
        assert!(ask(&canary).is_err());
    }
}
