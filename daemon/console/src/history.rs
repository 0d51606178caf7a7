//! What the commands ask of the ledger.

use serde::Serialize;
use tandem_policy::Event;

use crate::exit;

/// Most events of one answer.
pub const EVENTS_MAX: usize = 10_000;

/// The supervisor's history.
pub trait History {
    /// Events with their ids, oldest first: the first after `since`, or without it the last ones.
    ///
    /// # Errors
    ///
    /// If the history can't be read.
    fn events(&self, wanted: &Wanted<'_>) -> Result<Vec<(i64, Event)>, HistoryError>;

    /// What was served since then, in milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// If the history can't be read.
    fn figures(&self, since_wall_ms: u64) -> Result<Figures, HistoryError>;

    /// Answers one read-only SQL statement, within bounds.
    ///
    /// # Errors
    ///
    /// [`HistoryError::Refused`] if it is none; else if the history can't be read.
    fn query(&self, sql: &str) -> Result<Rows, HistoryError>;
}

/// Which events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Only later ones than this id.
    pub since: Option<i64>,
    /// At most so many, up to [`EVENTS_MAX`].
    pub limit: usize,
    /// Only of these kinds; empty for all.
    pub kinds: &'a [&'a str],
}

/// What was served in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Requests of clients.
    pub requests: u64,
    /// Those that ended with an error.
    pub failed: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub completion_tokens: u64,
    /// Median and 99th percentile until the first token, in milliseconds.
    pub first_token_ms: Option<(u64, u64)>,
    /// The same until the end.
    pub total_ms: Option<(u64, u64)>,
}

/// What a query found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Rows, each with a cell a column.
    pub rows: Vec<Vec<Cell>>,
    /// Whether rows were left out or cells cut.
    pub truncated: bool,
}

/// One value of SQLite.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Cell {
    /// NULL.
    Null,
    /// An integer.
    Integer(i64),
    /// A number with a fraction.
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

/// Why the history gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// This user may not read it.
    #[error("{0}; use sudo")]
    NeedsRoot(String),
    /// There is none, or it can't be read.
    #[error("{0}")]
    Unavailable(String),
    /// The question was not one that is answered.
    #[error("{0}")]
    Refused(String),
}

impl HistoryError {
    /// The exit code of a command that ends with it.
    pub const fn exit_code(&self) -> i32 {
        match self {
            Self::NeedsRoot(_) => exit::NEEDS_ROOT,
            Self::Unavailable(_) => exit::UNAVAILABLE,
            Self::Refused(_) => exit::USAGE,
        }
    }
}
