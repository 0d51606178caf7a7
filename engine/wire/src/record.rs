//! The history of requests: one line of JSON a finished request, on a supervised gateway's standard
//! output.

use serde::{Deserialize, Serialize};

/// A request that ended. Prompts and answers are never in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestRecord {
    /// The id that its client was told.
    pub id: String,
    /// When it came, in milliseconds since 1970.
    pub wall_ms: u64,
    /// The model that answered.
    pub model: String,
    /// Tokens of its prompts.
    pub prompt_tokens: u32,
    /// Tokens generated for it.
    pub completion_tokens: u32,
    /// Milliseconds until its first text; absent if there was none.
    pub first_token_ms: Option<u64>,
    /// Milliseconds until it ended.
    pub total_ms: u64,
    /// `stop`, `length`, `cancelled` (by the client), `drained` (cut off when the gateway ended) or
    /// `error`.
    pub finish: String,
    /// The HTTP status that it would have been answered with, had it not been a stream.
    pub status: u16,
    /// Whether the supervisor sent it to prove serving.
    pub canary: bool,
}
