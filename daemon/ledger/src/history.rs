//! What the CLI's `events`, `explain` and `handoff` ask of the ledger.

use std::ops::Range;

use rusqlite::{Connection, Row, params, params_from_iter, types::Value};
use serde::Serialize;
use tandem_policy::Event;

use crate::{
    LedgerError, Reader,
    event_row::{self, SELECTED, signed, unsigned},
};

/// Most rows of one answer: more than anybody reads, some ten MiB.
const ROWS_MAX: usize = 10_000;

/// Most kinds in one question; there are fewer.
const KINDS_MAX: usize = 64;

/// Events, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Events {
    /// Ids, which rise and are never used again, and events.
    pub events: Vec<(i64, Event)>,
    /// Rows left out because they do not parse: another version's, or damaged.
    pub unreadable: u64,
}

/// A fault that was raised or cleared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FaultChange {
    /// Id of the event.
    pub id: i64,
    /// When, in milliseconds since 1970.
    pub wall_ms: u64,
    /// In which boot.
    pub boot: String,
    /// Whether it was raised; cleared otherwise.
    pub is_raised: bool,
    /// [`tandem_policy::fault::Kind::name`].
    pub fault: String,
    /// The invariant or signature, for a kind that has one.
    pub subject: Option<String>,
    /// What it is known by.
    pub evidence: String,
    /// The smallest action that may mend it.
    pub rung: String,
    /// What an operator can do.
    pub remedy: String,
}

/// How often an invariant drifted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DriftCount {
    /// Which, as in the config.
    pub invariant: String,
    /// How often.
    pub count: u64,
    /// When last, in milliseconds since 1970.
    pub last_wall_ms: u64,
    /// What was found last.
    pub found: String,
    /// What was wanted then.
    pub wanted: String,
}

/// A boot in which a supervisor ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Boot {
    /// Its id.
    pub boot: String,
    /// Its first event, in milliseconds since 1970.
    pub first_wall_ms: u64,
    /// Its last event.
    pub last_wall_ms: u64,
    /// Its last event, in milliseconds since the boot.
    pub last_boot_ms: u64,
    /// How often a supervisor started in it.
    pub starts: u64,
    /// Tandem's version at the last start.
    pub version: Option<String>,
}

/// An epoch of the ranks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Epoch {
    /// Its number.
    pub epoch: u64,
    /// In which boot.
    pub boot: String,
    /// When it started, in milliseconds since 1970.
    pub wall_ms: u64,
    /// From its start to all ranks being ready; `None` if they never were.
    pub ready_after_ms: Option<u64>,
    /// From its start until no rank of it ran; `None` while one may.
    pub duration_ms: Option<u64>,
    /// The last cause that was told.
    pub cause: Option<String>,
}

/// What was served in a window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RequestTotals {
    /// Requests of clients.
    pub requests: u64,
    /// Those that ended with an error, or were cut off when the gateway ended.
    pub failed: u64,
    /// Those that the client cancelled.
    pub cancelled: u64,
    /// Requests that the supervisor sent to prove serving; in no other figure.
    pub canaries: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Tokens of prompts that were not computed again.
    pub cached_tokens: u64,
    /// Tokens generated.
    pub completion_tokens: u64,
    /// Milliseconds until the first token, of requests that ended by `stop` or `length`.
    pub first_token_ms: Option<Quantiles>,
    /// Milliseconds until the end, of the same.
    pub total_ms: Option<Quantiles>,
}

/// Quantiles by nearest rank: values that were measured, never between two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Quantiles {
    /// Of how many values.
    pub count: u64,
    /// Half are at most this.
    pub p50: u64,
    /// 99 of 100 are at most this.
    pub p99: u64,
}

impl Reader {
    /// With `since`, the first events after that id; without, the last ones. At most `limit`, and
    /// only of these kinds, if some are given. Oldest first.
    ///
    /// # Errors
    /// If the ledger can't be read.
    pub fn events(
        &self,
        since: Option<i64>,
        limit: usize,
        kinds: Option<&[&str]>,
    ) -> Result<Events, LedgerError> {
        let kinds: Vec<&str> = kinds.unwrap_or(&[]).iter().take(KINDS_MAX).copied().collect();
        let order = if since.is_some() { "ASC" } else { "DESC" };
        let is_kind = if kinds.is_empty() {
            String::new()
        } else {
            format!("AND kind IN ({})", vec!["?"; kinds.len()].join(", "))
        };
        let sql = format!(
            "SELECT {SELECTED} FROM events WHERE id > ? {is_kind} ORDER BY id {order} LIMIT ?"
        );
        let mut values = vec![Value::Integer(since.unwrap_or(0))];
        values.extend(kinds.iter().map(|kind| Value::Text((*kind).to_owned())));
        values.push(Value::Integer(bounded(limit)));
        let rows = self.read(|connection| {
            let mut statement = connection.prepare(&sql)?;
            let rows = statement.query_map(params_from_iter(values), event_row::event)?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let mut answer = Events::default();
        for (id, event) in rows {
            match event {
                Some(event) => answer.events.push((id, event)),
                None => answer.unreadable += 1,
            }
        }
        if since.is_none() {
            answer.events.reverse();
        }
        Ok(answer)
    }

    /// The last faults raised and cleared, at most `limit`, oldest first.
    ///
    /// # Errors
    /// If the ledger can't be read.
    pub fn faults(&self, limit: usize) -> Result<Vec<FaultChange>, LedgerError> {
        let sql = "SELECT id, wall_ms, boot, change, fault, subject, evidence, rung, remedy \
                   FROM (SELECT * FROM faults ORDER BY id DESC LIMIT ?1) ORDER BY id";
        self.rows(sql, limit, |row| {
            Ok(FaultChange {
                id: row.get(0)?,
                wall_ms: whole(row, 1)?,
                boot: row.get(2)?,
                is_raised: row.get::<_, String>(3)? == "raised",
                fault: text(row, 4)?,
                subject: row.get(5)?,
                evidence: text(row, 6)?,
                rung: text(row, 7)?,
                remedy: text(row, 8)?,
            })
        })
    }

    /// Invariants that drifted since this time (milliseconds since 1970), the most frequent first.
    ///
    /// # Errors
    /// If the ledger can't be read.
    pub fn drifts(&self, since_wall_ms: u64) -> Result<Vec<DriftCount>, LedgerError> {
        // With max(), SQLite takes the other columns from the row that has the maximum.
        let sql = "SELECT invariant, count(*), max(wall_ms), found, wanted FROM drifts \
                   WHERE change = 'drift' AND wall_ms >= ?1 \
                   GROUP BY invariant ORDER BY count(*) DESC, invariant";
        self.read(|connection| {
            let mut statement = connection.prepare(sql)?;
            let rows = statement.query_map([signed(since_wall_ms)], |row| {
                Ok(DriftCount {
                    invariant: text(row, 0)?,
                    count: whole(row, 1)?,
                    last_wall_ms: whole(row, 2)?,
                    found: text(row, 3)?,
                    wanted: text(row, 4)?,
                })
            })?;
            rows.collect()
        })
    }

    /// The last boots, at most `limit`, oldest first.
    ///
    /// # Errors
    /// If the ledger can't be read.
    pub fn boots(&self, limit: usize) -> Result<Vec<Boot>, LedgerError> {
        let sql = "SELECT boot, first_wall_ms, last_wall_ms, last_boot_ms, starts, version \
                   FROM (SELECT * FROM boots ORDER BY first_id DESC LIMIT ?1) ORDER BY first_id";
        self.rows(sql, limit, |row| {
            Ok(Boot {
                boot: row.get(0)?,
                first_wall_ms: whole(row, 1)?,
                last_wall_ms: whole(row, 2)?,
                last_boot_ms: whole(row, 3)?,
                starts: whole(row, 4)?,
                version: row.get(5)?,
            })
        })
    }

    /// The last epochs, at most `limit`, oldest first.
    ///
    /// # Errors
    /// If the ledger can't be read.
    pub fn epochs(&self, limit: usize) -> Result<Vec<Epoch>, LedgerError> {
        let sql = "SELECT epoch, boot, wall_ms, serving_boot_ms - started_boot_ms, duration_ms, \
                   cause FROM (SELECT * FROM epochs ORDER BY first_id DESC LIMIT ?1) \
                   ORDER BY first_id";
        self.rows(sql, limit, |row| {
            Ok(Epoch {
                epoch: whole(row, 0)?,
                boot: row.get(1)?,
                wall_ms: whole(row, 2)?,
                ready_after_ms: row.get::<_, Option<i64>>(3)?.map(unsigned),
                duration_ms: row.get::<_, Option<i64>>(4)?.map(unsigned),
                cause: row.get(5)?,
            })
        })
    }

    /// What was served from one time until before another, in milliseconds since 1970.
    ///
    /// # Errors
    /// If the ledger can't be read.
    pub fn request_totals(&self, window_wall_ms: Range<u64>) -> Result<RequestTotals, LedgerError> {
        let sql = "SELECT count(*) FILTER (WHERE NOT canary), \
                   count(*) FILTER (WHERE NOT canary AND finish IN ('error', 'drained')), \
                   count(*) FILTER (WHERE NOT canary AND finish = 'cancelled'), \
                   count(*) FILTER (WHERE canary), \
                   coalesce(sum(prompt_tokens) FILTER (WHERE NOT canary), 0), \
                   coalesce(sum(cached_tokens) FILTER (WHERE NOT canary), 0), \
                   coalesce(sum(completion_tokens) FILTER (WHERE NOT canary), 0) \
                   FROM requests WHERE wall_ms >= ?1 AND wall_ms < ?2";
        let window = [signed(window_wall_ms.start), signed(window_wall_ms.end)];
        self.read(|connection| {
            let totals = connection.query_row(sql, window, |row| {
                Ok(RequestTotals {
                    requests: whole(row, 0)?,
                    failed: whole(row, 1)?,
                    cancelled: whole(row, 2)?,
                    canaries: whole(row, 3)?,
                    prompt_tokens: whole(row, 4)?,
                    cached_tokens: whole(row, 5)?,
                    completion_tokens: whole(row, 6)?,
                    ..RequestTotals::default()
                })
            })?;
            Ok(RequestTotals {
                first_token_ms: quantiles(connection, "first_token_ms", window)?,
                total_ms: quantiles(connection, "total_ms", window)?,
                ..totals
            })
        })
    }

    fn rows<T>(
        &self,
        sql: &str,
        limit: usize,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, LedgerError> {
        self.read(|connection| {
            let mut statement = connection.prepare(sql)?;
            statement.query_map([bounded(limit)], read)?.collect()
        })
    }
}

fn quantiles(
    connection: &Connection,
    column: &str,
    window: [i64; 2],
) -> rusqlite::Result<Option<Quantiles>> {
    let from = format!(
        "FROM requests WHERE wall_ms >= ?1 AND wall_ms < ?2 AND NOT canary \
         AND finish IN ('stop', 'length') AND {column} IS NOT NULL"
    );
    let count: i64 =
        connection.query_row(&format!("SELECT count(*) {from}"), window, |row| row.get(0))?;
    let count = unsigned(count);
    if count == 0 {
        return Ok(None);
    }
    let sql = format!("SELECT {column} {from} ORDER BY {column} LIMIT 1 OFFSET ?3");
    let at = |percent: u64| {
        let rank = count.saturating_mul(percent).div_ceil(100).max(1);
        let values = params![window[0], window[1], signed(rank - 1)];
        connection.query_row(&sql, values, |row| whole(row, 0))
    };
    Ok(Some(Quantiles { count, p50: at(50)?, p99: at(99)? }))
}

fn whole(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(index).map(unsigned)
}

/// A field of an event; a missing one, as of another version, is empty.
fn text(row: &Row<'_>, index: usize) -> rusqlite::Result<String> {
    row.get::<_, Option<String>>(index).map(Option::unwrap_or_default)
}

fn bounded(limit: usize) -> i64 {
    limit.min(ROWS_MAX) as i64
}
