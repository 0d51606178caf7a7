//! The ledger as the supervisor writes it.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, TransactionBehavior};
use tandem_policy::{Event, State};
use tracing::warn;

use crate::{
    LedgerError, Limits, Opened, Pruned, Request,
    event_row::EventRow,
    files::{Folder, Identity},
    memory, open, prune,
    reserve::Reserve,
};

/// Rows added between two rounds of pruning: few enough that the limits are overrun by little, so
/// many that most saves do nothing else.
const ROWS_PER_PRUNE: u64 = 256;

/// Most requests of one transaction, so that none holds the supervisor for long.
const REQUESTS_PER_COMMIT: usize = 1_024;

/// The supervisor's memory and history, opened for writing. One process has one.
pub struct Ledger {
    connection: Connection,
    path: PathBuf,
    identity: Option<Identity>,
    limits: Limits,
    reserve: Reserve,
    /// Rows added since the last pruning.
    added: u64,
    /// Whether the last pruning left something to do.
    is_over: bool,
}

/// What became of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Added.
    pub added: u64,
    /// Not added, since their ids are known.
    pub repeated: u64,
    /// Not added, since a text of theirs is too long or their id empty.
    pub refused: u64,
}

impl Ledger {
    /// Opens the ledger of this folder, and makes one if there is none. One that can't be used
    /// (damaged, another application's, a newer version's) is set aside as `ledger.corrupt-N.db`
    /// and never overwritten; the last three such are kept.
    ///
    /// # Errors
    /// If the folder can't be written, the disk is full (with nothing left of the room that was
    /// reserved on it) or another process holds the file's lock: nothing is set aside then, and another
    /// try may go well.
    pub fn open(folder: &Path, limits: Limits) -> Result<(Self, Opened), LedgerError> {
        let folder = Folder::new(folder);
        let mut reserve = Reserve::new(folder.reserve());
        let (connection, opened) = loop {
            match open::open(&folder) {
                Err(error) if error.is_full() && reserve.release() => {}
                opened => break opened?,
            }
        };
        reserve.keep();
        let path = folder.ledger();
        let identity = Identity::of(&path);
        let ledger = Self { connection, path, identity, limits, reserve, added: 0, is_over: true };
        Ok((ledger, opened))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the state and what happened in one transaction. Once this returns `Ok`, both survive
    /// a power cut; after an error, what was there before still is, and nothing else. On a full disk the
    /// room that was reserved for this is used.
    ///
    /// # Errors
    /// If it could not be written or synced. [`LedgerError::is_full`] and
    /// [`LedgerError::needs_reopen`] tell what would help.
    pub fn save(&mut self, state: &State, events: &[Event]) -> Result<(), LedgerError> {
        let row = memory::Row::new(state)?;
        let rows = events.iter().map(EventRow::new).collect::<Result<Vec<_>, _>>()?;
        self.check_identity()?;
        loop {
            let written = self.commit("write", |connection| {
                row.write(connection)?;
                rows.iter().try_for_each(|event| event.insert(connection, &state.boot))
            });
            match written {
                Err(error) if error.is_full() && self.reserve.release() => {}
                written => break written?,
            }
        }
        self.reserve.keep();
        self.tidy(rows.len() as u64);
        Ok(())
    }

    /// Adds requests whose id is not known yet, and syncs them. A caller gathers some and calls
    /// this once: the cost is one sync for all.
    ///
    /// # Errors
    /// If they could not be written; the first thousands of them may be there
    /// then, and are `repeated` when all are given again.
    pub fn record_requests(&mut self, requests: &[Request]) -> Result<Recorded, LedgerError> {
        let mut recorded = Recorded::default();
        self.check_identity()?;
        for batch in requests.chunks(REQUESTS_PER_COMMIT) {
            let sum = self.commit("write", |connection| {
                let mut sum = Recorded::default();
                for request in batch {
                    if !request.is_bounded() {
                        sum.refused += 1;
                    } else if request.insert(connection)? {
                        sum.added += 1;
                    } else {
                        sum.repeated += 1;
                    }
                }
                Ok(sum)
            })?;
            recorded.added += sum.added;
            recorded.repeated += sum.repeated;
            recorded.refused += sum.refused;
            self.tidy(sum.added);
        }
        Ok(recorded)
    }

    /// Deletes a bounded number of the oldest rows over the [`Limits`] and gives a bounded number
    /// of pages back. Saving does it by itself, once in some hundred rows.
    ///
    /// # Errors
    /// If it could not be written; nothing but history is concerned.
    pub fn prune(&mut self) -> Result<Pruned, LedgerError> {
        let added = std::mem::take(&mut self.added);
        // Until it went well, the next save tries again.
        self.is_over = true;
        let pruned = prune::prune(&mut self.connection, &self.limits, added)
            .map_err(|source| self.failed("prune", source))?;
        self.is_over = pruned.is_unfinished;
        Ok(pruned)
    }

    fn commit<T>(
        &mut self,
        doing: &'static str,
        write: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, LedgerError> {
        let path = &self.path;
        let failed = |source| LedgerError::Sqlite { doing, path: path.clone(), source };
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        // Dropped on an error, it is rolled back.
        let value = write(&transaction).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        Ok(value)
    }

    /// Prunes when it is time. What was saved is saved: a failure here is only told.
    fn tidy(&mut self, added: u64) {
        self.added = self.added.saturating_add(added);
        if self.added < ROWS_PER_PRUNE && !self.is_over {
            return;
        }
        if let Err(error) = self.prune() {
            warn!("{error}: {:?}", std::error::Error::source(&error));
        }
    }

    /// A file that was deleted can still be written, and nobody would ever read it.
    fn check_identity(&self) -> Result<(), LedgerError> {
        if self.identity.is_some() && Identity::of(&self.path) == self.identity {
            return Ok(());
        }
        Err(LedgerError::Replaced(self.path.clone()))
    }

    fn failed(&self, doing: &'static str, source: rusqlite::Error) -> LedgerError {
        LedgerError::Sqlite { doing, path: self.path.clone(), source }
    }
}
