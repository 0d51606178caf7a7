//! `tandem check`: the host's invariants.

use std::io::{self, Write};

use super::{json_part, words};
use crate::{
    ask::Asked,
    exit,
    print::{Color, Span, Style, Table, field, line},
};

pub(super) fn json(out: &mut impl Write, _: &Style, asked: &Asked) -> io::Result<i32> {
    json_part(out, asked, "invariants")?;
    Ok(code(asked))
}

pub(super) fn print(out: &mut impl Write, style: &Style, asked: &Asked) -> io::Result<i32> {
    let rows = &asked.status.invariants;
    if rows.is_empty() {
        line(out, style, &[Span::new("the supervisor has looked at no invariant yet")])?;
        return Ok(code(asked));
    }
    let mut table =
        Table::new(&["invariant", "holds", "wanted", "got", "source", "mode", "last drift"]);
    for row in rows {
        let (holds, color) = match row.holds {
            Some(true) => ("yes", Color::Good),
            Some(false) => ("no", Color::Bad),
            None if words::is_wrong(row) => ("?", Color::Warn),
            None => ("-", Color::Faint),
        };
        let drift = row.last_drift_wall_ms.map_or_else(String::new, |at| {
            format!("{}, {} in this boot", style.ago(at), row.drifts)
        });
        table.row(vec![
            Span::new(words::invariant(row.name)),
            Span::new(holds).color(color),
            Span::new(&row.wanted),
            Span::new(words::got(row)),
            Span::new(row.source.as_deref().unwrap_or("-")),
            Span::new(words::mode(row.mode)),
            Span::new(drift),
        ]);
    }
    table.write(out, style)?;
    let wrong: Vec<_> = rows.iter().filter(|row| words::is_wrong(row)).collect();
    if !wrong.is_empty() {
        writeln!(out)?;
    }
    for row in wrong {
        let remedy = format!("{}: {}", words::invariant(row.name), row.remedy);
        field(out, style, "do", remedy, None)?;
    }
    Ok(code(asked))
}

fn code(asked: &Asked) -> i32 {
    if asked.is_stale() {
        return exit::UNAVAILABLE;
    }
    let rows = &asked.status.invariants;
    // None at all means that none was looked at.
    let is_fine = !rows.is_empty() && !rows.iter().any(words::is_wrong);
    if is_fine { exit::HEALTHY } else { exit::DEGRADED }
}
