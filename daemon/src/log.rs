//! Logging: one line an event, on standard error; the supervisor's also into files that are rotated, and on
//! macOS into the unified log. What the children say passes through the supervisor's log, at the level that
//! they gave it. No line ever has text of a prompt or of an answer.
//!
//! ```text
//!   an event ─▶ RUST_LOG or node.log_level ─┬▶ standard error
//!                                           ├▶ queue ─▶ a thread ─▶ node.log_dir/tandem.log, .1, .2 …
//!                                           └▶ unified log: subsystem io.tandem, a category each
//! ```
//!
//! A log must not end or stop what it tells of: what can't be written is missing, is counted, and is told
//! once by the ways that are left.

mod category;
mod file;
mod rotated;
#[cfg(target_os = "macos")]
mod unified;

#[cfg(test)]
mod tests;

use std::io::{self, Write};

use tracing::{Subscriber, warn};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::filter_fn,
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::{
    config::{LogFormat, LogLevel, Node},
    output,
};

pub(crate) use category::{GATEWAY, RANK};
pub use file::LogFile;

/// Set in the environment of the supervisor's children: their lines carry no time, because the
/// supervisor adds it, and always begin with the level.
pub const SUPERVISED: &str = "TANDEM_SUPERVISED";

/// What is logged: `RUST_LOG` where it is set, else this level.
pub fn filter(level: LogLevel) -> String {
    match std::env::var("RUST_LOG") {
        Ok(filter) if !filter.trim().is_empty() => filter,
        _ => level.name().to_owned(),
    }
}

/// Begins to log on standard error alone. To be called once in a process.
pub fn start(level: LogLevel, format: LogFormat) {
    tracing_subscriber::registry().with(env_filter(level)).with(on_stderr(format)).init();
}

/// Begins to log as the supervisor does. To be called once in a process, instead of [`start`]. What it
/// returns is to be kept: dropped at the end, it sees to it that the last lines are in the file.
pub fn start_supervisor(node: &Node) -> Option<LogFile> {
    let file = LogFile::of(node, |text| warn!("{text}"));
    let (file, trouble) = match file {
        Ok(file) => (file, None),
        Err(error) => (None, Some(error)),
    };
    let in_file = file.as_ref().map(|file| lines(node.log_format, file.writer(), false));
    let log = tracing_subscriber::registry()
        .with(env_filter(node.log_level))
        // Ours has none. Those of libraries would be more text for each line, and the unified log's layer
        // keeps the name of each for ever.
        .with(filter_fn(|metadata| metadata.is_event()))
        .with(on_stderr(node.log_format))
        .with(in_file);
    #[cfg(target_os = "macos")]
    let log = log.with(unified::layers());
    log.init();
    if let Some(error) = trouble {
        warn!("there is no log file: its thread can't be started: {error}");
    }
    file
}

fn env_filter(level: LogLevel) -> EnvFilter {
    EnvFilter::try_new(filter(level)).unwrap_or_else(|error| {
        // Not `eprintln`, which panics where standard error can't be written.
        let _ = writeln!(io::stderr(), "RUST_LOG is not used: {error}");
        EnvFilter::new(level.name())
    })
}

fn on_stderr<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    if std::env::var_os(SUPERVISED).is_none() {
        let no_color = std::env::var_os("NO_COLOR");
        let has_color = output::terminal(&io::stderr()).has_color(no_color.as_deref());
        return lines(format, io::stderr, has_color);
    }
    let layer = fmt::layer().with_writer(io::stderr).log_internal_errors(false);
    layer.without_time().with_target(false).with_ansi(false).boxed()
}

/// One line an event. One that can't be written is left out: to tell of it on standard error, as the layer
/// would, panics where that is what can't be written.
fn lines<S, W>(format: LogFormat, writer: W, has_color: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer).log_internal_errors(false);
    match format {
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
        LogFormat::Text => layer.with_target(false).with_ansi(has_color).boxed(),
    }
}
