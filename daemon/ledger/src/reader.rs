//! The ledger as the CLI reads it, while the supervisor writes.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags};
use tandem_policy::State;

use crate::{
    LedgerError, QueryError, QueryLimits, Table,
    files::Folder,
    memory::{self, Remembered},
    open::{STEPS_PER_LOOK, flags},
    query, schema,
};

/// Longest time of one of the reader's own questions. All of them together read a full ledger in
/// less.
const READ_TIME_MAX: Duration = Duration::from_secs(10);

/// The supervisor's memory and history, opened for reading.
pub struct Reader {
    pub(crate) connection: Connection,
    path: PathBuf,
    clock: Clock,
}

/// When the statement that runs is stopped.
#[derive(Clone)]
struct Clock {
    opened: Instant,
    /// Milliseconds since `opened`.
    deadline_ms: Arc<AtomicU64>,
}

impl Clock {
    fn is_late(&self) -> bool {
        self.elapsed_ms() > self.deadline_ms.load(Ordering::Relaxed)
    }

    fn allow(&self, time: Duration) {
        let time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.deadline_ms.store(self.elapsed_ms().saturating_add(time_ms), Ordering::Relaxed);
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Reader {
    /// Opens the ledger of this folder for reading. Nothing is ever repaired or set aside here.
    ///
    /// # Errors
    /// If there is none, it can't be read, or it is not one of this version.
    pub fn open(folder: &Path) -> Result<Self, LedgerError> {
        let path = Folder::new(folder).ledger();
        match std::fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(LedgerError::Missing(path));
            }
            _ => {}
        }
        let clock =
            Clock { opened: Instant::now(), deadline_ms: Arc::new(AtomicU64::new(u64::MAX)) };
        clock.allow(READ_TIME_MAX);
        let failed = |source| LedgerError::Sqlite { doing: "read", path: path.clone(), source };
        let mut connection =
            Connection::open_with_flags(&path, flags(OpenFlags::SQLITE_OPEN_READ_ONLY))
                .map_err(failed)?;
        let watch = clock.clone();
        connection
            .progress_handler(STEPS_PER_LOOK, Some(move || watch.is_late()))
            .map_err(failed)?;
        schema::guard(&connection).map_err(failed)?;
        let unreadable = |why| Err(LedgerError::Unreadable { path: path.clone(), why });
        if schema::application_id(&connection).map_err(failed)? != schema::APPLICATION_ID {
            return unreadable("it belongs to another application".to_owned());
        }
        let (version, known) =
            (schema::user_version(&connection).map_err(failed)?, schema::VERSION);
        if version != known {
            return unreadable(format!(
                "it has schema version {version}; this program reads {known}"
            ));
        }
        query::guard(&mut connection).map_err(failed)?;
        Ok(Self { connection, path, clock })
    }

    /// Answers SQL that somebody typed: one statement that reads.
    ///
    /// # Errors
    /// If it is none such, is not SQL, or takes longer than allowed.
    pub fn query(&self, sql: &str, limits: &QueryLimits) -> Result<Table, QueryError> {
        self.clock.allow(limits.time_max);
        query::run(&self.connection, sql, limits)
    }

    /// The state last saved; `None` if none was.
    ///
    /// # Errors
    /// If it can't be read or understood.
    pub fn state(&self) -> Result<Option<Box<State>>, LedgerError> {
        match self.read(memory::read)? {
            Remembered::Nothing => Ok(None),
            Remembered::State(state) => Ok(Some(state)),
            Remembered::Damaged(why) => {
                Err(LedgerError::Unreadable { path: self.path.clone(), why })
            }
        }
    }

    /// One of the reader's own questions, in its time.
    pub(crate) fn read<T>(
        &self,
        ask: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, LedgerError> {
        self.clock.allow(READ_TIME_MAX);
        ask(&self.connection).map_err(|source| LedgerError::Sqlite {
            doing: "read",
            path: self.path.clone(),
            source,
        })
    }
}
