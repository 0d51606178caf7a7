//! What operators may ask of the supervisor, over a socket that only root can open.
//!
//! One connection, one request, one reply; each a line of JSON. A request becomes an [`Order`] with
//! a number; it is answered once the supervisor has obeyed it *and* saved that it did.
//!
//! [`Order`]: tandem_policy::Order

mod client;
mod orders;
mod server;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use client::{ControlError, ask};
pub use orders::Orders;
pub use server::ControlServer;

/// Longest request or reply, in bytes with its line end: many times what the longest needs.
pub const FRAME_BYTES_MAX: usize = 4 << 10;

/// How long the supervisor may take to obey and save: a turn a second, and a slow disk.
pub const OBEY_TIMEOUT: Duration = Duration::from_secs(5);

/// Shortest hold, in milliseconds: one turn.
pub const HOLD_MS_MIN: u64 = 1_000;

/// Longest hold, in milliseconds: 30 days. What is to last longer is asked for without an end.
pub const HOLD_MS_MAX: u64 = 30 * 86_400_000;

/// Longest reason of a reboot, in characters: a sentence.
pub const REASON_CHARS_MAX: usize = 200;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Whether a supervisor is there.
    Ping,
    /// End running requests, unload the ranks, and stay so.
    Drain,
    /// Serve again.
    Resume,
    /// Do nothing by yourself.
    Hold {
        /// For so many milliseconds, [`HOLD_MS_MIN`] to [`HOLD_MS_MAX`]; without it until released.
        for_ms: Option<u64>,
    },
    /// End a hold.
    Release,
    /// Reboot, once nothing is served.
    Reboot {
        /// All nodes together, or this one alone.
        all: bool,
        /// Why, for the others and the history: 1 to [`REASON_CHARS_MAX`] characters.
        reason: String,
    },
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// A supervisor is there.
    Pong,
    /// The order was obeyed and that is on disk.
    Obeyed {
        /// Its number.
        order: u64,
    },
    /// It was not.
    Error {
        /// Why, as a word.
        why: Why,
        /// Why, and what to do.
        message: String,
    },
}

/// Why a request was not obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The client is neither root nor the supervisor's own user.
    Forbidden,
    /// It is no request, or one with impossible values.
    Malformed,
    /// Too many requests wait or too many clients are connected.
    Busy,
    /// The supervisor did not say in time that it obeyed.
    Unconfirmed,
}
