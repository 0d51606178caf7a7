//! The state as one row: JSON with a checksum, since SQLite has none of its own and a flipped bit
//! in a number would otherwise be believed.

use rusqlite::{Connection, OptionalExtension, params};
use tandem_policy::{STATE_VERSION, State};

use crate::LedgerError;

/// Largest state, in bytes of JSON. A full one is some kilobytes.
pub const STATE_BYTES_MAX: usize = 1 << 20;

/// The state as it is written.
pub(crate) struct Row {
    version: u32,
    json: String,
    checksum: i64,
}

/// What stands in the state's row.
pub(crate) enum Remembered {
    /// No state was ever saved.
    Nothing,
    /// The last state saved.
    State(Box<State>),
    /// Something that can't be understood, and why.
    Damaged(String),
}

impl Row {
    /// The row for this state.
    pub(crate) fn new(state: &State) -> Result<Self, LedgerError> {
        let json = serde_json::to_string(state)
            .map_err(|source| LedgerError::Json { what: "state", source })?;
        if json.len() > STATE_BYTES_MAX {
            return Err(LedgerError::StateTooLarge { bytes: json.len(), max: STATE_BYTES_MAX });
        }
        let checksum = checksum(json.as_bytes());
        Ok(Self { version: state.version, json, checksum })
    }

    /// Writes the row.
    pub(crate) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        let sql = "INSERT INTO state (one, version, checksum, json) VALUES (1, ?1, ?2, ?3) \
                   ON CONFLICT (one) DO UPDATE SET version = excluded.version, \
                   checksum = excluded.checksum, json = excluded.json";
        let mut statement = connection.prepare_cached(sql)?;
        statement.execute(params![self.version, self.checksum, self.json])?;
        Ok(())
    }
}

/// Reads the row.
pub(crate) fn read(connection: &Connection) -> rusqlite::Result<Remembered> {
    // The size comes first, so that no damage makes us read without bound.
    let sql = "SELECT version, checksum, length(CAST(json AS BLOB)), \
               CASE WHEN length(CAST(json AS BLOB)) <= ?1 THEN json ELSE '' END \
               FROM state WHERE one = 1";
    let row = connection.query_row(sql, [STATE_BYTES_MAX as i64], |row| {
        let version: i64 = row.get(0)?;
        let checksum: i64 = row.get(1)?;
        let size_bytes: i64 = row.get(2)?;
        let json: String = row.get(3)?;
        Ok((version, checksum, size_bytes, json))
    });
    let Some((version, written, size_bytes, json)) = row.optional()? else {
        return Ok(Remembered::Nothing);
    };
    if size_bytes > STATE_BYTES_MAX as i64 {
        return Ok(Remembered::Damaged(format!("its state has {size_bytes} bytes")));
    }
    if checksum(json.as_bytes()) != written {
        return Ok(Remembered::Damaged("its state does not have its checksum".to_owned()));
    }
    if version != i64::from(STATE_VERSION) {
        let why = format!("its state has version {version}, not {STATE_VERSION}");
        return Ok(Remembered::Damaged(why));
    }
    Ok(match serde_json::from_str::<State>(&json) {
        Ok(state) if state.version == STATE_VERSION => Remembered::State(Box::new(state)),
        Ok(state) => Remembered::Damaged(format!("its state says version {}", state.version)),
        Err(error) => Remembered::Damaged(format!("its state does not parse: {error}")),
    })
}

/// FNV-1a, 64 bits (Fowler, Noll and Vo; draft-eastlake-fnv). Each step is a bijection of the value before it, so that one changed
/// byte always shows. It protects from damage, not from people: the file belongs to root.
fn checksum(bytes: &[u8]) -> i64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
    bytes.iter().fold(OFFSET_BASIS, step).cast_signed()
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    #[test]
    fn the_checksum_is_fnv_1a() {
        // Test vectors published with the hash by Fowler, Noll and Vo.
        let cases: [(&str, u64); 3] = [
            ("", 0xcbf2_9ce4_8422_2325),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x8594_4171_f739_67e8),
        ];
        for (text, expected) in cases {
            assert_eq!(checksum(text.as_bytes()).cast_unsigned(), expected, "{text:?}");
        }
    }

    #[test]
    fn only_a_whole_state_of_this_version_is_read() {
        let good = serde_json::to_string(&State::new("boot")).unwrap();
        let unknown = good.replacen('{', "{\"unheard_of\":1,", 1);
        let older = good.replacen("\"version\":", "\"version\":9", 1);
        let large = format!("{good}{}", " ".repeat(STATE_BYTES_MAX));
        // The text, what is added to its checksum and version, and what is said of it.
        let cases = [
            (&good, 0, 0, None),
            (&good, 1, 0, Some("checksum")),
            (&good, 0, 1, Some("has version")),
            (&unknown, 0, 0, Some("unheard_of")),
            (&older, 0, 0, Some("says version")),
            (&large, 0, 0, Some("bytes")),
        ];
        let mut connection = Connection::open_in_memory().unwrap();
        crate::schema::migrate(&mut connection).unwrap();
        assert!(matches!(read(&connection).unwrap(), Remembered::Nothing));
        for (json, more_checksum, more_version, expected) in cases {
            let checksum = checksum(json.as_bytes()) + more_checksum;
            let row = Row { version: STATE_VERSION + more_version, json: json.clone(), checksum };
            row.write(&connection).unwrap();
            match (read(&connection).unwrap(), expected) {
                (Remembered::State(state), None) => assert_eq!(*state, State::new("boot")),
                (Remembered::Damaged(why), Some(reason)) => {
                    assert!(why.contains(reason), "{reason}: {why}");
                }
                _ => panic!("{expected:?} was not met"),
            }
        }
    }
}
