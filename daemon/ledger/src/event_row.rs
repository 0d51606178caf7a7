//! An event as a row: what is asked for often in columns, the rest as JSON.

use rusqlite::{Connection, Row, params};
use serde_json::{Map, Value};
use tandem_policy::Event;

use crate::LedgerError;

/// Largest event, in bytes of JSON. An event is a few sentences; evidence that quotes a log may
/// have more, and its beginning is what tells.
const EVENT_BYTES_MAX: usize = 16 << 10;

/// Texts of a larger event are cut to this many bytes. Events have at most a handful of texts, so
/// that it then fits.
const TEXT_BYTES_MAX: usize = 1 << 10;

/// Keys of an event's JSON that are columns, and stand nowhere else.
const COLUMNS: [&str; 3] = ["wall_ms", "boot_ms", "kind"];

/// The columns that [`event`] reads, in its order.
pub(crate) const SELECTED: &str = "id, wall_ms, boot_ms, kind, json";

/// An event as it is written.
pub(crate) struct EventRow {
    wall_ms: i64,
    boot_ms: i64,
    kind: String,
    json: String,
}

impl EventRow {
    /// The row for this event.
    pub(crate) fn new(event: &Event) -> Result<Self, LedgerError> {
        let failed = |source| LedgerError::Json { what: "event", source };
        let mut fields = match serde_json::to_value(event).map_err(failed)? {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        let kind = match fields.remove("kind") {
            Some(Value::String(kind)) => kind,
            _ => String::new(),
        };
        for column in COLUMNS {
            fields.remove(column);
        }
        let mut json = serde_json::to_string(&fields).map_err(failed)?;
        if json.len() > EVENT_BYTES_MAX {
            fields.values_mut().for_each(cut);
            json = serde_json::to_string(&fields).map_err(failed)?;
        }
        Ok(Self { wall_ms: signed(event.wall_ms), boot_ms: signed(event.boot_ms), kind, json })
    }

    /// Adds the row, as one of this boot.
    pub(crate) fn insert(&self, connection: &Connection, boot: &str) -> rusqlite::Result<()> {
        let sql = "INSERT INTO events (wall_ms, boot_ms, boot, kind, json) \
                   VALUES (?1, ?2, ?3, ?4, ?5)";
        let mut statement = connection.prepare_cached(sql)?;
        statement.execute(params![self.wall_ms, self.boot_ms, boot, self.kind, self.json])?;
        Ok(())
    }
}

/// The id and event of a row of [`SELECTED`]; `None` for an event that does not parse, such as one
/// of another version.
pub(crate) fn event(row: &Row<'_>) -> rusqlite::Result<(i64, Option<Event>)> {
    let id = row.get(0)?;
    let [wall_ms, boot_ms]: [i64; 2] = [row.get(1)?, row.get(2)?];
    let (kind, json): (String, String) = (row.get(3)?, row.get(4)?);
    let Ok(Value::Object(mut fields)) = serde_json::from_str(&json) else {
        return Ok((id, None));
    };
    fields.insert("wall_ms".to_owned(), wall_ms.into());
    fields.insert("boot_ms".to_owned(), boot_ms.into());
    fields.insert("kind".to_owned(), kind.into());
    Ok((id, serde_json::from_value(Value::Object(fields)).ok()))
}

/// For a column: SQLite's integers are signed. A time beyond them is the last one there is.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// From a column.
pub(crate) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn cut(value: &mut Value) {
    match value {
        Value::String(text) if text.len() > TEXT_BYTES_MAX => {
            text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
            text.push_str(" ...");
        }
        Value::Object(fields) => fields.values_mut().for_each(cut),
        Value::Array(values) => values.iter_mut().for_each(cut),
        _ => {}
    }
}
