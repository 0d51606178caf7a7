//! Keeping the ledger within its bounds, a little at a time.

use rusqlite::{Connection, TransactionBehavior};

/// How much history is kept; the oldest goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most events. 100 000 are months of a pair that works and days of one that flaps.
    pub events_max: u64,
    /// Most requests. 200 000 are two days at one a second.
    pub requests_max: u64,
    /// Largest file, in bytes, without its log (some MiB more).
    pub file_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { events_max: 100_000, requests_max: 200_000, file_bytes_max: 256 << 20 }
    }
}

/// What pruning took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Events deleted.
    pub events: u64,
    /// Requests deleted.
    pub requests: u64,
    /// Pages given back to the file system.
    pub pages: u64,
    /// Whether more is to be done by the next call.
    pub is_unfinished: bool,
}

/// Most rows of one table that one call deletes: about ten milliseconds of work.
const ROWS_PER_CALL: u64 = 1_024;

/// Most pages that one call gives back: 1 MiB of 4 KiB pages, each of which may move another.
const PAGES_PER_CALL: u64 = 256;

/// Free pages that are left for the next rows: a table that only replaces its oldest rows needs
/// no other.
const PAGES_SPARE: u64 = 1_024;

/// Fewest rows that a file which is too large loses in a call, so that a few large rows go too.
const ROWS_FOR_SIZE: u64 = 16;

/// One bounded piece of work. It keeps ahead of what was added since the last: it may delete twice
/// as many rows of each table.
pub(crate) fn prune(
    connection: &mut Connection,
    limits: &Limits,
    added: u64,
) -> rusqlite::Result<Pruned> {
    let pace = added.saturating_mul(2);
    let size = Size::read(connection)?;
    let is_large = size.used_bytes() > limits.file_bytes_max;
    let for_size = is_large.then_some(pace.max(ROWS_FOR_SIZE));
    let rows_max = pace.max(ROWS_PER_CALL);
    let batch = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (events, more_events) =
        delete(&batch, "events", "id", limits.events_max, for_size, rows_max)?;
    let (requests, more_requests) =
        delete(&batch, "requests", "row", limits.requests_max, for_size, rows_max)?;
    batch.commit()?;
    let size = Size::read(connection)?;
    let (pages, more_pages) = shrink(connection, &size, limits)?;
    let is_large = size.used_bytes() > limits.file_bytes_max;
    let made_room = events + requests > 0;
    Ok(Pruned {
        events,
        requests,
        pages,
        is_unfinished: more_events || more_requests || more_pages || (is_large && made_room),
    })
}

/// Deletes the oldest rows over the limit, and of a file that is too large a hundredth of the rest
/// but at least `for_size`; at most `rows_max`. Returns how many and whether there are more.
fn delete(
    connection: &Connection,
    table: &str,
    key: &str,
    kept_max: u64,
    for_size: Option<u64>,
    rows_max: u64,
) -> rusqlite::Result<(u64, bool)> {
    // Keys rise by one and only the oldest rows are ever deleted, so their distance is their
    // number, and no row is counted. A gap would only make it delete a little early.
    let sql = format!(
        "SELECT coalesce((SELECT min({key}) FROM {table}), 1), \
         coalesce((SELECT max({key}) FROM {table}), 0)"
    );
    let (first, last): (i64, i64) =
        connection.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let rows = u64::try_from(last.saturating_sub(first).saturating_add(1)).unwrap_or(0);
    let surplus = rows.saturating_sub(kept_max);
    // Never the last: the events' ids go on from it.
    let for_size = for_size.map_or(0, |min| (rows / 100).max(min).min(rows.saturating_sub(1)));
    let count = surplus.max(for_size).min(rows_max);
    if count == 0 {
        return Ok((0, false));
    }
    let until = first.saturating_add_unsigned(count);
    let deleted = connection.execute(&format!("DELETE FROM {table} WHERE {key} < ?1"), [until])?;
    Ok((deleted as u64, surplus > count))
}

/// Gives free pages back; returns how many and whether there are more.
fn shrink(connection: &Connection, size: &Size, limits: &Limits) -> rusqlite::Result<(u64, bool)> {
    // A file at its limit keeps no spare pages.
    let is_large = size.file_bytes() > limits.file_bytes_max;
    let spare = if is_large { 0 } else { PAGES_SPARE };
    let surplus = size.free_pages.saturating_sub(spare);
    let pages = surplus.min(PAGES_PER_CALL);
    if pages == 0 {
        return Ok((0, false));
    }
    // The statement frees one page a step.
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok((pages, surplus > pages))
}

/// The size of the file.
struct Size {
    page_bytes: u64,
    pages: u64,
    free_pages: u64,
}

impl Size {
    fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let read = |name: &str| {
            connection.pragma_query_value(None, name, |row| {
                row.get::<_, i64>(0).map(|value| u64::try_from(value).unwrap_or(0))
            })
        };
        Ok(Self {
            page_bytes: read("page_size")?,
            pages: read("page_count")?,
            free_pages: read("freelist_count")?,
        })
    }

    fn file_bytes(&self) -> u64 {
        self.pages.saturating_mul(self.page_bytes)
    }

    fn used_bytes(&self) -> u64 {
        self.pages.saturating_sub(self.free_pages).saturating_mul(self.page_bytes)
    }
}
