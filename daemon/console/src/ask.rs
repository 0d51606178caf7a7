//! The commands' end of the status endpoint.

use std::time::Duration;

use serde_json::Value;
use tandem_policy::{SCHEMA, Status};

use crate::{exit, http::AGE_MAX};

/// Most bytes of a status that are read: far more than the largest takes.
const STATUS_BYTES_MAX: u64 = 4 << 20;

/// Longest wait for the whole answer: it is on this machine and needs no turn.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How often a busy supervisor is asked before that is said.
const TRIES_MAX: u32 = 4;

/// Pause before it is asked again.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// A status as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// As it was understood.
    pub status: Status,
    /// As it came, for `--json`.
    pub json: String,
    /// How long ago the supervisor published it.
    pub age: Duration,
}

/// No status that can be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Nobody answers, or not with a status.
    #[error(
        "no supervisor answers at {url}: {why}\n\
         Is one running with this config? (--config or --url names another)"
    )]
    Unreachable {
        /// Who was asked.
        url: String,
        /// What came instead.
        why: String,
    },
    /// It answers, but not with its status: it has no place, or nothing to tell yet.
    #[error("the supervisor at {url} answers, but not with its status: {why}")]
    Busy {
        /// Who was asked.
        url: String,
        /// What it said.
        why: String,
    },
    /// A supervisor of another version answers.
    #[error(
        "the supervisor at {url} answers in schema {theirs}, this command reads {SCHEMA}; \
         use the same version of both"
    )]
    Schema {
        /// Who was asked.
        url: String,
        /// Its schema, or `none`.
        theirs: String,
    },
}

impl Asked {
    /// Whether the supervisor has stopped taking turns: what it said last proves nothing now.
    pub fn is_stale(&self) -> bool {
        self.age >= AGE_MAX
    }

    /// The exit code that this status stands for.
    pub fn exit_code(&self) -> i32 {
        if self.is_stale() { exit::UNAVAILABLE } else { exit::of(&self.status) }
    }
}

/// Asks a supervisor for its status.
///
/// # Errors
///
/// If none answers, or one of another version does.
pub fn status(url: &str) -> Result<Asked, AskError> {
    let unreachable = |why: String| AskError::Unreachable { url: url.to_owned(), why };
    let mut left = TRIES_MAX;
    let (json, age) = loop {
        left -= 1;
        match get(url) {
            Ok(got) => break got,
            // Others come and go within moments.
            Err(why) if left > 0 && why.may_pass() => std::thread::sleep(TRY_AGAIN),
            Err(No::Place(why)) => return Err(AskError::Busy { url: url.to_owned(), why }),
            Err(No::Answer { why, .. }) => return Err(unreachable(why)),
        }
    };
    let value: Value = serde_json::from_str(&json).map_err(|e| unreachable(e.to_string()))?;
    let schema = value.get("schema").and_then(Value::as_u64);
    if schema != Some(u64::from(SCHEMA)) {
        let theirs = schema.map_or_else(|| "none".into(), |schema| schema.to_string());
        return Err(AskError::Schema { url: url.to_owned(), theirs });
    }
    let status = serde_json::from_value(value).map_err(|e| unreachable(e.to_string()))?;
    Ok(Asked { status, json, age })
}

/// Why nothing came.
enum No {
    /// It has no place or no status (503).
    Place(String),
    /// Nothing, or not a status.
    Answer { why: String, was_cut: bool },
}

impl No {
    /// Whether it may be otherwise in a moment.
    const fn may_pass(&self) -> bool {
        matches!(self, Self::Place(_) | Self::Answer { was_cut: true, .. })
    }
}

impl From<ureq::Error> for No {
    fn from(error: ureq::Error) -> Self {
        use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        let cuts = [BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof];
        let was_cut = matches!(&error, ureq::Error::Io(io) if cuts.contains(&io.kind()));
        Self::Answer { why: error.to_string(), was_cut }
    }
}

fn get(url: &str) -> Result<(String, Duration), No> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .build()
        .into();
    let mut answer = agent.get(format!("{}/status", url.trim_end_matches('/'))).call()?;
    let age = answer.headers().get("age").and_then(|age| age.to_str().ok()?.parse().ok());
    let text = answer.body_mut().with_config().limit(STATUS_BYTES_MAX).read_to_string()?;
    if !answer.status().is_success() {
        let why = serde_json::from_str::<Value>(&text).ok();
        let why = why.as_ref().and_then(|v| v.get("error")?.as_str());
        let why = why.unwrap_or("no reason given");
        return Err(if answer.status() == 503 {
            No::Place(why.to_owned())
        } else {
            No::Answer { why: format!("{}: {why}", answer.status()), was_cut: false }
        });
    }
    // Without an age it is another's endpoint or an old one; the schema tells.
    Ok((text, Duration::from_secs(age.unwrap_or(0))))
}
