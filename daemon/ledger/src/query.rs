//! SQL that somebody typed: one statement that reads, within bounds.

use std::time::Duration;

use rusqlite::{
    Connection, Error, ErrorCode,
    hooks::{AuthAction, AuthContext, Authorization},
    limits::Limit,
    types::ValueRef,
};
use serde::Serialize;

use crate::memory::STATE_BYTES_MAX;

/// Longest SQL text, in bytes; what a person or a script writes is far below.
const SQL_BYTES_MAX: usize = 64 << 10;

/// Longest text or blob that SQLite may make on the way: the state fits, and no function can be
/// asked for a gigabyte.
const VALUE_BYTES_MAX: i32 = 2 * STATE_BYTES_MAX as i32;

/// Longest pattern of LIKE and GLOB: matching takes time that grows with its power.
const PATTERN_BYTES_MAX: i32 = 256;

/// Bounds of one query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryLimits {
    /// Most rows; what follows is left out.
    pub rows_max: usize,
    /// Longest text or blob of a cell, in bytes; the rest is cut off.
    pub cell_bytes_max: usize,
    /// Most bytes of all texts and blobs together; rows that follow are left out.
    pub bytes_max: usize,
    /// Longest time.
    pub time_max: Duration,
}

impl Default for QueryLimits {
    /// More than a person reads, less than hurts: at most 64 MiB in 10 s.
    fn default() -> Self {
        Self {
            rows_max: 10_000,
            cell_bytes_max: 64 << 10,
            bytes_max: 64 << 20,
            time_max: Duration::from_secs(10),
        }
    }
}

/// What a query found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Rows, each with a cell a column.
    pub rows: Vec<Vec<Cell>>,
    /// Whether rows were left out or cells cut.
    pub truncated: bool,
}

/// One value.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Cell {
    /// NULL.
    Null,
    /// An integer.
    Integer(i64),
    /// A number with a fraction.
    Real(f64),
    /// Text; bytes that are not UTF-8 are replaced.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

/// Why a query was not answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// It is not one statement.
    #[error("give one SQL statement; the ledger answers one at a time")]
    NotOne,
    /// It would write, or reach outside the ledger.
    #[error("only statements that read the ledger are allowed, such as SELECT ({0})")]
    Forbidden(String),
    /// The text is too long.
    #[error("the SQL has {bytes} bytes, over the limit of {max}")]
    TooLong {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// It took too long.
    #[error("it took longer than {} s and was stopped; ask for fewer rows", .0.as_secs_f64())]
    TooSlow(Duration),
    /// SQLite can't do it; the message says why.
    #[error("{0}")]
    Sql(#[source] Error),
}

/// Makes all that follows on this connection reads of this one file, whatever the SQL says.
pub(crate) fn guard(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "query_only", true)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, PATTERN_BYTES_MAX)?;
    connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
    connection.set_limit(Limit::SQLITE_LIMIT_WORKER_THREADS, 0)?;
    connection.authorizer(Some(authorize))
}

/// What a statement may do. Everything that is not named is refused: ATTACH, transactions that
/// would hold a snapshot, temporary tables, all that writes.
fn authorize(context: AuthContext<'_>) -> Authorization {
    let is_allowed = match context.action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => true,
        AuthAction::Function { function_name } => {
            // The one loads code, the other tells where in memory code is.
            !["load_extension", "fts3_tokenizer"]
                .iter()
                .any(|refused| refused.eq_ignore_ascii_case(function_name))
        }
        AuthAction::Pragma { pragma_name, pragma_value } => may_ask(pragma_name, pragma_value),
        _ => false,
    };
    if is_allowed { Authorization::Allow } else { Authorization::Deny }
}

/// Whether a PRAGMA only tells. Some tell about the table that their value names; the others change
/// something when they have a value.
fn may_ask(name: &str, value: Option<&str>) -> bool {
    const OF_A_TABLE: [&str; 5] =
        ["table_info", "table_xinfo", "table_list", "index_list", "index_info"];
    const WITHOUT_VALUE: [&str; 7] = [
        "application_id",
        "auto_vacuum",
        "compile_options",
        "freelist_count",
        "page_count",
        "page_size",
        "user_version",
    ];
    let is_in = |names: &[&str]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
    is_in(&OF_A_TABLE) || (value.is_none() && is_in(&WITHOUT_VALUE))
}

/// Runs one statement on a guarded connection.
pub(crate) fn run(
    connection: &Connection,
    sql: &str,
    limits: &QueryLimits,
) -> Result<Table, QueryError> {
    if sql.len() > SQL_BYTES_MAX {
        return Err(QueryError::TooLong { bytes: sql.len(), max: SQL_BYTES_MAX });
    }
    let failed = |error| explain(error, limits);
    let mut statement = connection.prepare(sql).map_err(failed)?;
    if statement.column_count() == 0 && statement.readonly() {
        return Err(QueryError::NotOne);
    }
    if !statement.readonly() {
        return Err(QueryError::Forbidden("it would write".to_owned()));
    }
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let width = columns.len();
    let mut table = Table { columns, rows: Vec::new(), truncated: false };
    let mut bytes = 0;
    let mut rows = statement.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        if table.rows.len() >= limits.rows_max || bytes >= limits.bytes_max {
            table.truncated = true;
            break;
        }
        let mut cells = Vec::with_capacity(width);
        for index in 0..width {
            let (cell, is_cut) = cell(row.get_ref(index).map_err(failed)?, limits.cell_bytes_max);
            bytes += cell.size_bytes();
            table.truncated |= is_cut;
            cells.push(cell);
        }
        table.rows.push(cells);
    }
    Ok(table)
}

impl Cell {
    fn size_bytes(&self) -> usize {
        match self {
            Self::Null | Self::Integer(_) | Self::Real(_) => 8,
            Self::Text(text) => text.len(),
            Self::Blob(bytes) => bytes.len(),
        }
    }
}

/// A value of at most so many bytes, and whether it was cut.
fn cell(value: ValueRef<'_>, bytes_max: usize) -> (Cell, bool) {
    let head = |bytes: &[u8]| bytes.get(..bytes_max).unwrap_or(bytes).to_vec();
    match value {
        ValueRef::Null => (Cell::Null, false),
        ValueRef::Integer(number) => (Cell::Integer(number), false),
        ValueRef::Real(number) => (Cell::Real(number), false),
        ValueRef::Text(bytes) => {
            let mut text = String::from_utf8_lossy(&head(bytes)).into_owned();
            // Half a character at the cut is none.
            if bytes.len() > bytes_max {
                text.truncate(text.trim_end_matches(char::REPLACEMENT_CHARACTER).len());
            }
            (Cell::Text(text), bytes.len() > bytes_max)
        }
        ValueRef::Blob(bytes) => (Cell::Blob(head(bytes)), bytes.len() > bytes_max),
    }
}

fn explain(error: Error, limits: &QueryLimits) -> QueryError {
    if matches!(error, Error::MultipleStatement) {
        return QueryError::NotOne;
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::OperationInterrupted) => QueryError::TooSlow(limits.time_max),
        Some(ErrorCode::AuthorizationForStatementDenied | ErrorCode::ReadOnly) => {
            QueryError::Forbidden(error.to_string())
        }
        _ => QueryError::Sql(error),
    }
}
