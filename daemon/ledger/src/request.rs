//! One served request, as history keeps it: sizes, times and its end, never its text.

use rusqlite::{Connection, params};
use serde::{Deserialize, Deserializer, Serialize, de::Error};

use crate::event_row::signed;

/// Longest id of a request, in bytes. The gateway's own are shorter than half of it.
pub const ID_BYTES_MAX: usize = 128;

/// Longest name of a model, in bytes: as long as a file's name.
pub const MODEL_BYTES_MAX: usize = 255;

/// One request that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The gateway's id for it; at most [`ID_BYTES_MAX`] bytes, not empty.
    #[serde(deserialize_with = "id")]
    pub id: String,
    /// When it came, in milliseconds since 1970.
    pub wall_ms: u64,
    /// The model that was asked for; at most [`MODEL_BYTES_MAX`] bytes.
    #[serde(deserialize_with = "model")]
    pub model: String,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens of the prompt that were not computed again.
    pub cached_tokens: u32,
    /// Tokens generated.
    pub completion_tokens: u32,
    /// Milliseconds until the first token; `None` if there was none.
    pub first_token_ms: Option<u64>,
    /// Milliseconds until its end.
    pub total_ms: u64,
    /// How it ended.
    pub finish: Finish,
    /// HTTP status of the answer.
    pub status: u16,
    /// Whether the supervisor sent it to prove serving.
    pub canary: bool,
    /// The epoch that ended it; `None` if none ran it.
    pub epoch: Option<u64>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// By the model or a stop text.
    Stop,
    /// At its limit of tokens.
    Length,
    /// By the client.
    Cancelled,
    /// By the gateway, which ended before it.
    Drained,
    /// By a failure.
    Error,
}

impl Finish {
    /// One word, as the column has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Cancelled => "cancelled",
            Self::Drained => "drained",
            Self::Error => "error",
        }
    }
}

impl Request {
    /// Whether its texts are within their bounds.
    pub fn is_bounded(&self) -> bool {
        bounded(&self.id, 1, ID_BYTES_MAX) && bounded(&self.model, 0, MODEL_BYTES_MAX)
    }

    /// Adds it unless its id is known; returns whether it was added.
    pub(crate) fn insert(&self, connection: &Connection) -> rusqlite::Result<bool> {
        let sql = "INSERT OR IGNORE INTO requests (id, wall_ms, model, prompt_tokens, \
                   cached_tokens, completion_tokens, first_token_ms, total_ms, finish, status, \
                   canary, epoch) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
        let mut statement = connection.prepare_cached(sql)?;
        let added = statement.execute(params![
            self.id,
            signed(self.wall_ms),
            self.model,
            self.prompt_tokens,
            self.cached_tokens,
            self.completion_tokens,
            self.first_token_ms.map(signed),
            signed(self.total_ms),
            self.finish.name(),
            self.status,
            self.canary,
            self.epoch.map(signed),
        ])?;
        Ok(added == 1)
    }
}

fn bounded(text: &str, min: usize, max: usize) -> bool {
    (min..=max).contains(&text.len())
}

fn id<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    if bounded(&text, 1, ID_BYTES_MAX) {
        return Ok(text);
    }
    Err(D::Error::custom(format!("an id has 1 to {ID_BYTES_MAX} bytes, not {}", text.len())))
}

fn model<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    if bounded(&text, 0, MODEL_BYTES_MAX) {
        return Ok(text);
    }
    Err(D::Error::custom(format!(
        "a model's name has at most {MODEL_BYTES_MAX} bytes, not {}",
        text.len()
    )))
}
