//! What makes a file a ledger: its marks, its tables and how an older one becomes this one.

use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior, config::DbConfig, ffi};

/// `application_id` of a ledger: "Tndm" in ASCII.
pub(crate) const APPLICATION_ID: i64 = 0x546e_646d;

/// The n-th makes a ledger of version n (`user_version`) of one of version n - 1.
const MIGRATIONS: [&str; 1] = [include_str!("schema/1.sql")];

/// The version that this program reads and writes.
pub(crate) const VERSION: i64 = MIGRATIONS.len() as i64;

/// How long to wait for a lock. Readers never block the writer in WAL mode but for moments, such as
/// the recovery of a log; a turn of the supervisor must not wait longer.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// The log is cut back to this many bytes after a checkpoint: it may grow while a reader holds an
/// old snapshot.
const LOG_BYTES_MAX: i64 = 8 << 20;

/// Pages in the log at which it is copied into the file. 1000 of 4 KiB are 4 MiB: some milliseconds
/// of copying, once in some hundred saves.
const CHECKPOINT_PAGES: i64 = 1_000;

/// Makes a ledger of an empty file.
pub(crate) fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    // Before the first table, or it has no effect.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    migrate(connection)?;
    journal(connection)
}

/// Brings an older ledger to this version, each step whole or not at all.
pub(crate) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let found = user_version(connection)?;
    for (version, sql) in (1_i64..).zip(MIGRATIONS) {
        if version > found {
            let step = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            step.execute_batch(sql)?;
            step.pragma_update(None, "user_version", version)?;
            step.commit()?;
        }
    }
    Ok(())
}

/// The version of an opened file.
pub(crate) fn user_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// The application that an opened file belongs to.
pub(crate) fn application_id(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "application_id", |row| row.get(0))
}

/// Settings that are safe on any file, to be made before anything is read.
pub(crate) fn guard(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    // Views of a file that somebody else made can't call more than SQLite's harmless functions.
    connection.pragma_update(None, "trusted_schema", false)?;
    // Damage is met when a page is read, not when its content makes no sense later.
    connection.pragma_update(None, "cell_size_check", true)
}

/// The writer's settings.
///
/// `synchronous` is FULL for all that is written. Requests could do with NORMAL, but a connection
/// has one such setting, and switching it back and forth would let one mistake leave a state
/// unsynced. Requests come in batches instead: one sync a batch.
pub(crate) fn settle(connection: &Connection) -> rusqlite::Result<()> {
    journal(connection)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // On macOS fsync leaves data in the drive's cache; F_FULLFSYNC does not. No effect elsewhere.
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Root leaves nothing in shared temporary folders.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_BYTES_MAX, |_| Ok(()))?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", CHECKPOINT_PAGES, |_| Ok(()))?;
    // The log and its index stay when the supervisor ends: readers who may not write the folder
    // could not make them, and without them a file in WAL mode can't be read.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(())
}

fn journal(connection: &Connection) -> rusqlite::Result<()> {
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode.eq_ignore_ascii_case("wal") {
        return Ok(());
    }
    let why = "write-ahead logging is refused; the folder must be on a local disk".to_owned();
    Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_PROTOCOL), Some(why)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_writer_syncs_every_commit_through_the_drives_cache() {
        let folder = tempfile::tempdir().unwrap();
        let mut connection = Connection::open(folder.path().join("ledger.db")).unwrap();
        create(&mut connection).unwrap();
        guard(&connection).unwrap();
        settle(&connection).unwrap();
        // Numbers as SQLite documents them: synchronous 2 is FULL, auto_vacuum 2 INCREMENTAL.
        let cases = [
            ("synchronous", 2),
            ("fullfsync", 1),
            ("checkpoint_fullfsync", 1),
            ("foreign_keys", 1),
            ("auto_vacuum", 2),
            ("busy_timeout", 1_000),
            ("trusted_schema", 0),
            ("user_version", VERSION),
            ("application_id", APPLICATION_ID),
            ("journal_size_limit", LOG_BYTES_MAX),
            ("wal_autocheckpoint", CHECKPOINT_PAGES),
        ];
        for (name, expected) in cases {
            let value: i64 = connection.pragma_query_value(None, name, |row| row.get(0)).unwrap();
            assert_eq!(value, expected, "{name}");
        }
        migrate(&mut connection).unwrap();
    }

    #[test]
    fn a_migration_that_fails_leaves_nothing_of_itself() {
        let mut connection = Connection::open_in_memory().unwrap();
        // A view of this name stands in the way of the last statements of the first step.
        connection.execute_batch("CREATE VIEW canaries AS SELECT 1").unwrap();
        migrate(&mut connection).unwrap_err();
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .unwrap();
        assert_eq!((tables, user_version(&connection).unwrap()), (1, 0));
    }
}
