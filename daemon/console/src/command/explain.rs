//! `tandem explain`: what something means and what to do about it.

mod faults;

use std::io::{self, Write};

use tandem_evidence::{Catalogue, Signature};
use tandem_policy::{fault::Kind, invariant::Invariant};

use super::words;
use crate::{
    ask::Asked,
    exit,
    print::{Color, Span, Style, field, line},
};

/// The open faults.
pub(super) fn faults(
    out: &mut impl Write,
    style: &Style,
    catalogue: &Catalogue,
    asked: &Asked,
) -> io::Result<i32> {
    let open = &asked.status.faults;
    if open.is_empty() {
        line(out, style, &[Span::new("no fault is open")])?;
    }
    for (n, fault) in open.iter().enumerate() {
        if n > 0 {
            writeln!(out)?;
        }
        field(out, style, "fault", words::fault(&fault.kind), Some(Color::Warn))?;
        let times = words::times(fault.count);
        let lasting = style.lasting(fault.since_wall_ms);
        field(out, style, "open", format!("{lasting}, met {times}"), None)?;
        field(out, style, "evidence", &fault.evidence, None)?;
        let meaning = match &fault.kind {
            Kind::Signature(id) => catalogue.get(id).map(|signature| signature.meaning.as_str()),
            kind => faults::of(kind.name()).map(|told| told.meaning),
        };
        if let Some(meaning) = meaning {
            field(out, style, "meaning", meaning, None)?;
        }
        field(out, style, "action", words::rung(fault.rung), None)?;
        field(out, style, "do", &fault.remedy, None)?;
    }
    Ok(asked.exit_code())
}

/// A fault, an invariant, a signature or a line of a log.
pub(super) fn text(
    out: &mut impl Write,
    style: &Style,
    catalogue: &Catalogue,
    text: &str,
) -> io::Result<i32> {
    let name = text.trim().to_ascii_lowercase().replace([' ', '-'], "_");
    if let Some(told) = faults::of(&name) {
        field(out, style, "fault", told.name, None)?;
        field(out, style, "meaning", told.meaning, None)?;
        field(out, style, "action", told.action, None)?;
        field(out, style, "do", told.remedy, None)?;
        return Ok(exit::HEALTHY);
    }
    if let Some(invariant) = Invariant::ALL.into_iter().find(|i| words::invariant(*i) == name) {
        let row = invariant.row();
        field(out, style, "invariant", &name, None)?;
        field(out, style, "meaning", row.needs, None)?;
        field(out, style, "action", words::mode(row.mode), None)?;
        field(out, style, "do", row.remedy, None)?;
        return Ok(exit::HEALTHY);
    }
    let found = catalogue.explain(text);
    if found.is_empty() {
        let none = "nothing is known of this; tandem explain without a text tells the open faults";
        line(out, style, &[Span::new(none)])?;
        return Ok(exit::DEGRADED);
    }
    let is_known = found.iter().any(|found| !found.is_guess);
    for (n, found) in found.into_iter().enumerate() {
        if n > 0 {
            writeln!(out)?;
        }
        print(out, style, found.signature)?;
        if found.is_guess {
            field(out, style, "found", "by words alone: a guess", Some(Color::Warn))?;
        }
    }
    Ok(if is_known { exit::HEALTHY } else { exit::DEGRADED })
}

fn print(out: &mut impl Write, style: &Style, signature: &Signature) -> io::Result<()> {
    field(out, style, "signature", &signature.id, None)?;
    field(out, style, "meaning", &signature.meaning, None)?;
    field(out, style, "action", signature.action.name(), None)?;
    field(out, style, "do", &signature.remedy, None)
}
