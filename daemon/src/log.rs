//! Logging: one line an event, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, LogLevel};

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

/// Begins to log. To be called once in a process.
pub fn start(level: LogLevel, format: LogFormat) {
    let filter = EnvFilter::try_new(filter(level)).unwrap_or_else(|error| {
        eprintln!("RUST_LOG is not used: {error}");
        EnvFilter::new(level.name())
    });
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::env::var_os(SUPERVISED).is_some() {
        // A log that can't be written (its disk is full) must not end a child.
        let builder = builder.log_internal_errors(false);
        builder.without_time().with_target(false).with_ansi(false).init();
    } else if format == LogFormat::Json {
        builder.json().flatten_event(true).init();
    } else {
        builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).init();
    }
}
