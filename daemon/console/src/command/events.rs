//! `tandem events`: what happened, and with `--follow` what happens.

use std::io::{self, Write};

use serde_json::Value;
use tandem_policy::Event;

use super::{
    Context, EventsArgs,
    follow::{self, Heard},
    past, problem, words,
};
use crate::{
    exit,
    print::{Color, Span, Style, escape_json, line, time::iso},
};

/// The kinds of events. A test compares them with the schema of [`Event`].
pub(crate) const KINDS: [&str; 19] = [
    "started",
    "gate",
    "fault_raised",
    "fault_cleared",
    "drift",
    "held",
    "action",
    "epoch",
    "gateway",
    "leak",
    "canary",
    "retune",
    "reboot",
    "reboot_closed",
    "peer",
    "mode",
    "order",
    "evidence",
    "config",
];

pub(super) fn run(
    args: &EventsArgs,
    context: &Context<'_>,
    out: &mut impl Write,
    problems: &mut impl Write,
) -> io::Result<i32> {
    // The stream is opened before the ledger is read, so that nothing falls between the two.
    let mut stream = match args.follow.then(|| follow::open(context.url)).transpose() {
        Ok(stream) => stream,
        Err(error) => {
            problem(problems, &error.to_string())?;
            return Ok(exit::UNAVAILABLE);
        }
    };
    let told = match recorded(args, context) {
        Ok((told, unreadable)) => {
            if unreadable > 0 {
                problem(problems, &format!("{unreadable} events of another version are left out"))?;
            }
            told
        }
        // What happens from now on can be shown without the ledger.
        Err(no_past) => {
            problem(problems, &no_past.why)?;
            if !args.follow {
                return Ok(no_past.code);
            }
            Vec::new()
        }
    };
    for (id, event) in &told {
        print(out, context, args.json, Some(*id), event)?;
    }
    let Some(stream) = &mut stream else { return Ok(exit::HEALTHY) };
    out.flush()?;
    loop {
        match stream.next() {
            Ok(Heard::Event(event)) => {
                // The ledger has what was saved between the opening of the stream and its reading.
                let is_new = told.iter().all(|(_, known)| *known != *event);
                if is_new && is_wanted(&event, &args.kinds) {
                    print(out, context, args.json, None, &event)?;
                    out.flush()?;
                }
            }
            Ok(Heard::Lagged(missed)) => {
                problem(problems, &format!("{missed} events came too fast to be shown"))?;
            }
            Err(error) => {
                problem(problems, &error.to_string())?;
                return Ok(exit::UNAVAILABLE);
            }
        }
    }
}

type Recorded = (Vec<(i64, Event)>, u64);

fn recorded(args: &EventsArgs, context: &Context<'_>) -> Result<Recorded, past::NoPast> {
    let kinds: Vec<&str> = args.kinds.iter().map(String::as_str).collect();
    let kinds = (!kinds.is_empty()).then_some(kinds.as_slice());
    let found = past::open(context.ledger)?.events(args.since, args.limit, kinds)?;
    Ok((found.events, found.unreadable))
}

fn is_wanted(event: &Event, kinds: &[String]) -> bool {
    kinds.is_empty() || kinds.iter().any(|kind| *kind == kind_of(event))
}

/// The event's kind, as in JSON.
pub(super) fn kind_of(event: &Event) -> String {
    let json = serde_json::to_value(event).unwrap_or_default();
    json.get("kind").and_then(Value::as_str).unwrap_or("?").to_owned()
}

/// One event in one line; one that is not in the ledger yet has no id.
fn print(
    out: &mut impl Write,
    context: &Context<'_>,
    as_json: bool,
    id: Option<i64>,
    event: &Event,
) -> io::Result<()> {
    if as_json {
        let mut json = serde_json::to_value(event)?;
        if let Value::Object(fields) = &mut json {
            fields.insert("id".into(), id.into());
            fields.insert("time".into(), iso(event.wall_ms).into());
        }
        return writeln!(out, "{}", escape_json(&json.to_string()));
    }
    let id = id.map_or("-".to_owned(), |id| id.to_string());
    line(out, &context.style, &spans(&context.style, &id, event))
}

/// An event for people: id, age, kind and text.
pub(super) fn spans(style: &Style, id: &str, event: &Event) -> Vec<Span> {
    let kind = kind_of(event);
    let color = match kind.as_str() {
        "fault_raised" | "drift" => Some(Color::Warn),
        "fault_cleared" | "held" => Some(Color::Good),
        _ => None,
    };
    let kind = Span::new(format!("{kind:<14}"));
    vec![
        Span::new(format!("{id:>6}  {:<14}", style.ago(event.wall_ms))).color(Color::Faint),
        match color {
            Some(color) => kind.color(color),
            None => kind,
        },
        Span::new(words::event(&event.what)),
    ]
}
