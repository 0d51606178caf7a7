//! Opening: what memory there is, and what is done when it can't be used.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use tandem_policy::State;
use tracing::{error, warn};

use crate::{
    LedgerError,
    files::{Folder, failed},
    memory::{self, Remembered},
    schema,
};

/// What memory there was.
#[derive(Clone, Debug, PartialEq)]
pub enum Opened {
    /// None: nothing was ever saved here.
    Fresh,
    /// The state last saved.
    Found(Box<State>),
    /// Some, which can't be used; what the supervisor knew is lost.
    SetAside {
        /// Where it is kept.
        to: PathBuf,
        /// Why it can't be used.
        why: String,
    },
}

/// Longest check of the whole file at a start. A full ledger of 256 MiB takes about a second on a
/// solid-state disk; what is slower must not keep the machine from serving. The state has its own
/// checksum.
const CHECK_TIME_MAX: Duration = Duration::from_secs(10);

/// Steps of SQLite's machine between two looks at the clock: well under a millisecond.
pub(crate) const STEPS_PER_LOOK: i32 = 1_000;

/// What stands at the ledger's path.
enum Found {
    Nothing,
    Ledger(Box<Connection>, Remembered),
    Damaged(String),
}

/// Opens the folder's ledger for writing; makes a new one if there is none that can be used.
pub(crate) fn open(folder: &Folder) -> Result<(Connection, Opened), LedgerError> {
    let (why, aside) = match look(folder)? {
        Found::Ledger(connection, Remembered::State(state)) => {
            return Ok((*connection, Opened::Found(state)));
        }
        // A start that set a ledger aside and ended before it saved anything is no first start.
        Found::Ledger(connection, _) => {
            let opened = match folder.last_aside()? {
                Some(to) => set_aside_earlier(to),
                None => Opened::Fresh,
            };
            return Ok((*connection, opened));
        }
        Found::Nothing => (None, folder.last_aside()?),
        Found::Damaged(why) => {
            error!("{} can't be used: {why}", folder.ledger().display());
            let to = folder.set_aside()?;
            warn!("it is kept as {}; starting afresh", to.display());
            (Some(why), Some(to))
        }
    };
    create(folder)?;
    let opened = match (why, aside) {
        (Some(why), Some(to)) => Opened::SetAside { to, why },
        (None, Some(to)) => set_aside_earlier(to),
        (_, None) => Opened::Fresh,
    };
    match look(folder)? {
        Found::Ledger(connection, _) => Ok((*connection, opened)),
        Found::Nothing => Err(LedgerError::Replaced(folder.ledger())),
        Found::Damaged(why) => Err(LedgerError::Unreadable { path: folder.ledger(), why }),
    }
}

fn set_aside_earlier(to: PathBuf) -> Opened {
    Opened::SetAside { to, why: "an earlier start set it aside and saved nothing".to_owned() }
}

fn create(folder: &Folder) -> Result<(), LedgerError> {
    let path = folder.create_unfinished()?;
    let made = Connection::open_with_flags(&path, flags(OpenFlags::SQLITE_OPEN_READ_WRITE))
        .and_then(|mut connection| {
            schema::create(&mut connection)?;
            connection.close().map_err(|(_, error)| error)
        });
    made.map_err(|source| LedgerError::Sqlite { doing: "make", path, source })?;
    folder.finish()
}

fn look(folder: &Folder) -> Result<Found, LedgerError> {
    let path = folder.ledger();
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(if folder.has_log() {
                Found::Damaged("its log is there, but it is not".to_owned())
            } else {
                Found::Nothing
            });
        }
        Err(source) => return Err(failed("look at", &path)(source)),
        // A link could lead the supervisor to write anywhere.
        Ok(metadata) if !metadata.is_file() => {
            return Ok(Found::Damaged("it is no regular file".to_owned()));
        }
        // A ledger appears whole, so an empty one was emptied.
        Ok(metadata) if metadata.len() == 0 => {
            return Ok(Found::Damaged("it is empty".to_owned()));
        }
        Ok(_) => {}
    }
    folder.set_mode()?;
    let looked = Connection::open_with_flags(&path, flags(OpenFlags::SQLITE_OPEN_READ_WRITE))
        .and_then(|connection| examine(connection, &path));
    match looked {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(refusal)) => Err(refusal),
        Err(error) => match damage(&error) {
            Some(why) => Ok(Found::Damaged(why)),
            None => Err(LedgerError::Sqlite { doing: "open", path, source: error }),
        },
    }
}

/// Whether the file is a ledger of ours and whole. Errors of SQLite are the outer ones.
fn examine(
    mut connection: Connection,
    path: &Path,
) -> rusqlite::Result<Result<Found, LedgerError>> {
    schema::guard(&connection)?;
    if schema::application_id(&connection)? != schema::APPLICATION_ID {
        return Ok(Ok(Found::Damaged("it belongs to another application".to_owned())));
    }
    let version = schema::user_version(&connection)?;
    if !(1..=schema::VERSION).contains(&version) {
        let newest = schema::VERSION;
        let why = format!("it has schema version {version}; this program knows 1 to {newest}");
        return Ok(Ok(Found::Damaged(why)));
    }
    // SQLite falls back to reading where it may not write.
    if connection.is_readonly("main")? {
        return Ok(Err(LedgerError::ReadOnly(path.to_owned())));
    }
    if let Some(why) = check(&mut connection)? {
        return Ok(Ok(Found::Damaged(why)));
    }
    schema::migrate(&mut connection)?;
    schema::settle(&connection)?;
    let remembered = memory::read(&connection)?;
    if let Remembered::Damaged(why) = remembered {
        return Ok(Ok(Found::Damaged(why)));
    }
    let has_history = "SELECT EXISTS (SELECT 1 FROM events)";
    let has_history: bool = connection.query_row(has_history, [], |row| row.get(0))?;
    // They are written together.
    if matches!(remembered, Remembered::Nothing) && has_history {
        return Ok(Ok(Found::Damaged("it has events but no state".to_owned())));
    }
    Ok(Ok(Found::Ledger(Box::new(connection), remembered)))
}

/// Looks through the whole file, for a bounded time; returns what is wrong.
fn check(connection: &mut Connection) -> rusqlite::Result<Option<String>> {
    let began = Instant::now();
    let is_late = move || began.elapsed() > CHECK_TIME_MAX;
    connection.progress_handler(STEPS_PER_LOOK, Some(is_late))?;
    let checked = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    connection.progress_handler(STEPS_PER_LOOK, None::<fn() -> bool>)?;
    match checked {
        Ok(result) if result == "ok" => Ok(None),
        Ok(result) => Ok(Some(result)),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
            warn!("the ledger's history was not checked to its end: it took too long");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Why this error means that the file can't be used; `None` if it may be the system's fault, such
/// as a full disk, and another try may go well.
fn damage(error: &rusqlite::Error) -> Option<String> {
    let is_damage = match error.sqlite_error_code() {
        // A plain error is one of SQL: a table or column is missing or has another type.
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown) => true,
        Some(ErrorCode::TypeMismatch) => true,
        Some(_) => false,
        None => matches!(
            error,
            rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::Utf8Error(..)
                | rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
        ),
    };
    is_damage.then(|| error.to_string())
}

/// Flags of every connection: one thread each, a path is a path, and links are not followed.
pub(crate) fn flags(mode: OpenFlags) -> OpenFlags {
    mode | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE
}
