//! The one way from a command to its standard output and error: `println!` and its kin panic where
//! those can't be written, and a pipe's reader that has seen enough is nothing to panic about.
//!
//! `out!`, `outln!` and `errln!` take their places. A
//! reader of the output that is gone ends the command quietly, with exit code 0; an output that can't be
//! written, such as a file on a full disk, ends it with that reason and [`EXIT_IO`]. What can't be said
//! on standard error is left unsaid.

use std::{
    fmt,
    io::{self, ErrorKind, IsTerminal, Write},
    process,
};

use tandem_console::Terminal;
use tandem_wire::exit;

/// Exit code where the output can't be written (`EX_IOERR`).
pub(crate) const EXIT_IO: i32 = 74;

/// Prints to standard output.
macro_rules! out {
    ($($text:tt)*) => { $crate::output::print(format_args!($($text)*)) };
}

/// Prints a line to standard output.
macro_rules! outln {
    ($($text:tt)*) => { out!("{}\n", format_args!($($text)*)) };
}

/// Prints a line to standard error.
macro_rules! errln {
    ($($text:tt)*) => { $crate::output::tell(format_args!("{}\n", format_args!($($text)*))) };
}

/// What one of the process's outputs is.
pub(crate) fn terminal(output: &impl IsTerminal) -> Terminal {
    Terminal::of(output.is_terminal(), std::env::var_os("TERM").as_deref())
}

/// Prints all of it now, or ends the process.
pub(crate) fn print(text: fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_fmt(text).and_then(|()| out.flush()) {
        process::exit(failed(&error));
    }
}

/// Prints bytes, or ends the process.
pub(crate) fn print_all(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
        process::exit(failed(&error));
    }
}

/// Says it on standard error, if that can be written.
pub(crate) fn tell(text: fmt::Arguments<'_>) {
    // There is nowhere left to say that it failed.
    let _ = io::stderr().lock().write_fmt(text);
}

/// The exit code of a command whose output can't be written, after saying why.
pub(crate) fn failed(error: &io::Error) -> i32 {
    if error.kind() == ErrorKind::BrokenPipe {
        return exit::OK;
    }
    tell(format_args!("can't write to standard output: {error}\n"));
    EXIT_IO
}

/// Standard error for who writes to it piece by piece: what it does not take is lost.
pub(crate) struct Problems;

impl Write for Problems {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().lock().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
