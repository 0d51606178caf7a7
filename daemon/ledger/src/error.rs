//! Why the ledger could not be used.

use std::{io, path::PathBuf};

use rusqlite::{ErrorCode, ffi};

/// Why the ledger could not be opened, written or read.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The system refused something outside SQLite.
    #[error("can't {doing} {}; check the folder's owner and the disk", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// SQLite refused.
    #[error("can't {doing} {}{}", path.display(), hint(source))]
    Sqlite {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// SQLite's reason.
        #[source]
        source: rusqlite::Error,
    },
    /// The file can be read but not written.
    #[error("{} can only be read; run as its owner, on a disk that can be written", .0.display())]
    ReadOnly(PathBuf),
    /// The file that was opened is not the one at its path any more.
    #[error("{} was moved or deleted while in use; open the ledger again", .0.display())]
    Replaced(PathBuf),
    /// There is no ledger to read.
    #[error("there is no ledger at {}; the supervisor writes it when it first runs", .0.display())]
    Missing(PathBuf),
    /// The file is no ledger that this version can read.
    #[error("{} can't be read: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The state would be refused when it is read again.
    #[error("the state has {bytes} bytes of JSON, over the limit of {max}; it was not saved")]
    StateTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// State or event have no JSON: a bug.
    #[error("can't write the {what} as JSON")]
    Json {
        /// What.
        what: &'static str,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
}

impl LedgerError {
    /// Whether room on the disk would help.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Sqlite { source, .. } => is_full(source),
            _ => false,
        }
    }

    /// Whether the file itself is damaged or gone: opening the ledger again sets it aside or makes
    /// another, and trying the same again helps nothing.
    pub fn needs_reopen(&self) -> bool {
        matches!(self, Self::Replaced(_))
            || matches!(self.code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
    }

    fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Sqlite { source, .. } => source.sqlite_error_code(),
            _ => None,
        }
    }
}

/// The log's index can't be made on a full disk; SQLite has a code of its own for that.
fn is_full(source: &rusqlite::Error) -> bool {
    source.sqlite_error_code() == Some(ErrorCode::DiskFull)
        || source.sqlite_error().is_some_and(|e| e.extended_code == ffi::SQLITE_IOERR_SHMSIZE)
}

/// What to do about the reasons that have a remedy of their own.
fn hint(source: &rusqlite::Error) -> &'static str {
    match source.sqlite_error_code() {
        _ if is_full(source) => "; make room on the disk",
        Some(ErrorCode::DatabaseBusy) => "; another process writes it, which must end first",
        Some(ErrorCode::CannotOpen) => "; check the folder's owner, or run as the file's owner",
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "; it is damaged, and is set aside when the supervisor starts again"
        }
        _ => "",
    }
}
