//! `tandem ledger`: a table, JSON or CSV.

use std::io::{self, Write};

use serde_json::{Map, Value};
use tandem_ledger::{Cell, QueryLimits, Table as Found};

use super::{Context, LedgerArgs, past, problem};
use crate::{
    Terminal, exit,
    print::{Span, Table, escape, escape_json},
};

pub(super) fn run(
    args: &LedgerArgs,
    context: &Context<'_>,
    out: &mut impl Write,
    problems: &mut impl Write,
) -> io::Result<i32> {
    let reader = match past::open(context.ledger) {
        Ok(reader) => reader,
        Err(no_past) => {
            problem(problems, &no_past.why)?;
            return Ok(no_past.code);
        }
    };
    let found = match reader.query(&args.sql, &QueryLimits::default()) {
        Ok(found) => found,
        Err(error) => {
            // Its text has its cause's already. One that takes too long has to be asked otherwise, too.
            problem(problems, &error.to_string())?;
            return Ok(exit::USAGE);
        }
    };
    if args.json {
        json(out, &found)?;
    } else if args.csv {
        csv(out, &found, context.terminal != Terminal::None)?;
    } else {
        table(&found).write(out, &context.style)?;
    }
    if found.truncated {
        problem(problems, "there is more than is shown: rows are left out or cells cut")?;
    }
    Ok(exit::HEALTHY)
}

fn table(found: &Found) -> Table {
    let columns: Vec<&str> = found.columns.iter().map(String::as_str).collect();
    let mut table = Table::new(&columns);
    for row in &found.rows {
        table.row(row.iter().map(|cell| Span::new(text(cell).unwrap_or("-".into()))).collect());
    }
    table
}

/// A cell as text; `None` for NULL. Bytes are written in hexadecimal, as SQL writes them.
fn text(cell: &Cell) -> Option<String> {
    Some(match cell {
        Cell::Null => return None,
        Cell::Integer(n) => n.to_string(),
        Cell::Real(x) => x.to_string(),
        Cell::Text(text) => text.clone(),
        Cell::Blob(bytes) => hex(bytes),
    })
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(bytes.len() * 2 + 3);
    text.push_str("x'");
    for byte in bytes {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\'');
    text
}

/// An array of objects. Of two columns with the same name the last one counts, so name them apart.
fn json(out: &mut impl Write, found: &Found) -> io::Result<()> {
    let object = |row: &Vec<Cell>| {
        let cells = found.columns.iter().zip(row);
        Value::Object(cells.map(|(name, cell)| (name.clone(), value(cell))).collect::<Map<_, _>>())
    };
    let objects = Value::Array(found.rows.iter().map(object).collect());
    writeln!(out, "{}", escape_json(&objects.to_string()))
}

fn value(cell: &Cell) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Integer(n) => (*n).into(),
        // JSON has no infinity; serde_json makes it null.
        Cell::Real(x) => (*x).into(),
        Cell::Text(text) => text.as_str().into(),
        Cell::Blob(bytes) => hex(bytes).into(),
    }
}

/// RFC 4180. A program gets the texts as they are, a terminal nothing that it obeys.
fn csv(out: &mut impl Write, found: &Found, is_terminal: bool) -> io::Result<()> {
    let shown = |text: String| if is_terminal { escape(&text).into_owned() } else { text };
    csv_row(out, found.columns.iter().cloned().map(shown))?;
    for row in &found.rows {
        csv_row(out, row.iter().map(|cell| shown(text(cell).unwrap_or_default())))?;
    }
    Ok(())
}

fn csv_row(out: &mut impl Write, cells: impl Iterator<Item = String>) -> io::Result<()> {
    for (n, cell) in cells.enumerate() {
        if n > 0 {
            out.write_all(b",")?;
        }
        if cell.contains([',', '"', '\r', '\n']) {
            write!(out, "\"{}\"", cell.replace('"', "\"\""))?;
        } else {
            out.write_all(cell.as_bytes())?;
        }
    }
    out.write_all(b"\r\n")
}
