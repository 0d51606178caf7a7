//! The commands: each asks, prints, and says with its exit code how things are.

mod args;
mod check;
mod doctor;
mod events;
mod explain;
#[cfg(test)]
pub(crate) mod fixtures;
mod follow;
mod gates;
mod handoff;
mod ledger;
mod nodes;
mod orders;
mod past;
mod status;
#[cfg(test)]
mod tests;
mod watch;
mod words;

use std::{
    io::{self, Write},
    path::Path,
};

use tandem_evidence::Catalogue;

pub use args::{
    Command, EventsArgs, ExplainArgs, HoldArgs, LedgerArgs, OrderArgs, RebootArgs, StatusArgs,
    Target, ViewArgs,
};
pub use doctor::{Check, Outcome};
pub(crate) use events::KINDS as EVENT_KINDS;

use crate::{
    Style, Terminal,
    ask::{self, AskError, Asked},
    print::{escape, escape_json},
};

/// What the commands ask, and how they print.
pub struct Context<'a> {
    /// The status endpoint, such as `http://127.0.0.1:52380`.
    pub url: &'a str,
    /// The control socket.
    pub control: &'a Path,
    /// The folder of the ledger.
    pub ledger: &'a Path,
    /// The signatures that `explain` knows.
    pub catalogue: &'a Catalogue,
    /// What `doctor` can check without a supervisor; called by nothing else.
    pub checks: &'a dyn Fn() -> Vec<Check>,
    /// The model's folder, for `handoff`; `None` if no config says.
    pub model_path: Option<&'a Path>,
    /// How to print.
    pub style: Style,
    /// What the output is.
    pub terminal: Terminal,
}

/// Runs a command: prints its answer to `out`, what went wrong to `problems`, and returns the exit
/// code (see [`crate::exit`]).
///
/// # Errors
///
/// If `out` or `problems` can't be written, as when a pipe's reader is gone.
pub fn run(
    command: &Command,
    context: &Context<'_>,
    out: &mut impl Write,
    problems: &mut impl Write,
) -> io::Result<i32> {
    let code = match command {
        Command::Status(args) if args.watch => watch::run(context, args.view.json, out),
        Command::Status(args) => {
            viewed(context, args.view.json, out, problems, status::json, status::print)
        }
        Command::Check(args) => {
            viewed(context, args.json, out, problems, check::json, check::print)
        }
        Command::Gates(args) => {
            viewed(context, args.json, out, problems, gates::json, gates::print)
        }
        Command::Doctor(_) => {
            let asked = ask::status(context.url);
            let checks = doctor::all(context.url, &asked, (context.checks)());
            doctor::print(out, &context.style, &checks)
        }
        Command::Explain(args) => match &args.what {
            Some(text) => explain::text(out, &context.style, context.catalogue, text),
            None => match ask::status(context.url) {
                Ok(asked) => explain::faults(out, &context.style, context.catalogue, &asked),
                Err(error) => unreachable(&error, problems),
            },
        },
        Command::Events(args) => events::run(args, context, out, problems),
        Command::Handoff(_) => match ask::status(context.url) {
            Ok(asked) => handoff::run(context, &asked, out),
            Err(error) => unreachable(&error, problems),
        },
        Command::Ledger(args) => ledger::run(args, context, out, problems),
        Command::Drain(_)
        | Command::Resume(_)
        | Command::Hold(_)
        | Command::Release(_)
        | Command::Reboot(_) => orders::run(command, context.control, out, problems),
    }?;
    out.flush()?;
    Ok(code)
}

/// Prints checks that were made without a supervisor, each that is not fine with what to do, and their
/// sum; returns the exit code.
///
/// # Errors
///
/// If `out` can't be written.
pub fn print_checks(out: &mut impl Write, style: &Style, checks: &[Check]) -> io::Result<i32> {
    let code = doctor::print(out, style, checks)?;
    out.flush()?;
    Ok(code)
}

type Print<W> = fn(&mut W, &Style, &Asked) -> io::Result<i32>;

/// A view of the status, as JSON or for people.
fn viewed<W: Write>(
    context: &Context<'_>,
    as_json: bool,
    out: &mut W,
    problems: &mut impl Write,
    json: Print<W>,
    people: Print<W>,
) -> io::Result<i32> {
    match ask::status(context.url) {
        Ok(asked) if as_json => json(out, &context.style, &asked),
        Ok(asked) => people(out, &context.style, &asked),
        Err(error) => unreachable(&error, problems),
    }
}

fn unreachable(error: &AskError, problems: &mut impl Write) -> io::Result<i32> {
    problem(problems, &error.to_string())?;
    Ok(crate::exit::UNAVAILABLE)
}

/// Writes what went wrong, line by line: an error's own line ends stay.
fn problem(problems: &mut impl Write, text: &str) -> io::Result<()> {
    for line in text.lines() {
        writeln!(problems, "{}", escape(line))?;
    }
    Ok(())
}

/// Writes one part of the endpoint's JSON, as it came.
fn json_part(out: &mut impl Write, asked: &Asked, part: &str) -> io::Result<()> {
    let whole: serde_json::Value = serde_json::from_str(&asked.json)?;
    let part = whole.get(part).unwrap_or(&serde_json::Value::Null);
    writeln!(out, "{}", escape_json(&part.to_string()))
}
