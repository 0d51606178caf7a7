//! Lines for a terminal: escaped, coloured if asked, and cut or wrapped to its width.
//!
//! [`Span::new`] is the only way from a text to the terminal, so no text that came from elsewhere
//! can move the cursor or pass for another line.

mod escape;
mod table;
#[cfg(test)]
mod tests;
pub(crate) mod time;

use std::{
    ffi::OsStr,
    io::{self, Write},
};

pub(crate) use escape::{escape, escape_json};
pub(crate) use table::Table;

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Whether colours are wanted: a terminal, and `NO_COLOR` is not set.
    pub color: bool,
    /// Width of the terminal in characters; `None` if the output is none, and nothing is cut.
    pub width: Option<usize>,
    /// The time that ages are counted to, in milliseconds since 1970.
    pub now_wall_ms: u64,
}

/// What an output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// A file or a pipe.
    None,
    /// A terminal that prints whatever it gets.
    Dumb,
    /// A terminal that obeys control sequences.
    Able,
}

impl Terminal {
    /// `term` is the variable `TERM`: one that is not set, empty or `dumb` promises nothing.
    pub fn of(is_terminal: bool, term: Option<&OsStr>) -> Self {
        match term {
            _ if !is_terminal => Self::None,
            Some(term) if !term.is_empty() && term != "dumb" => Self::Able,
            _ => Self::Dumb,
        }
    }

    /// Whether colours are obeyed and wanted; see [`Style::of`].
    pub fn has_color(self, no_color: Option<&OsStr>) -> bool {
        self == Self::Able && no_color.is_none_or(OsStr::is_empty)
    }
}

/// Terminals narrower than this are treated as this wide: less shows nothing of use.
const WIDTH_MIN: usize = 40;

impl Style {
    /// Without colour and as wide as need be.
    pub const fn plain(now_wall_ms: u64) -> Self {
        Self { color: false, width: None, now_wall_ms }
    }

    /// What fits an output: `no_color` is the variable `NO_COLOR`, which counts if it is not empty
    /// (no-color.org).
    pub fn of(
        terminal: Terminal,
        no_color: Option<&OsStr>,
        width: Option<usize>,
        now_wall_ms: u64,
    ) -> Self {
        Self {
            color: terminal.has_color(no_color),
            width: if terminal == Terminal::None { None } else { width },
            now_wall_ms,
        }
    }

    /// How long ago something was: `3 m ago`.
    pub(crate) fn ago(&self, wall_ms: u64) -> String {
        if wall_ms > self.now_wall_ms {
            // The clock was set back since; an age would be a lie.
            return format!("at {}", time::iso(wall_ms));
        }
        format!("{} ago", time::span(self.now_wall_ms - wall_ms))
    }

    /// For how long something has been: `for 3 m`.
    pub(crate) fn lasting(&self, since_wall_ms: u64) -> String {
        match self.now_wall_ms.checked_sub(since_wall_ms) {
            Some(ms) => format!("for {}", time::span(ms)),
            None => format!("since {}", time::iso(since_wall_ms)),
        }
    }

    fn columns(&self) -> usize {
        self.width.map_or(usize::MAX, |width| width.max(WIDTH_MIN))
    }
}

/// A colour, by what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Color {
    /// Green.
    Good,
    /// Yellow.
    Warn,
    /// Red.
    Bad,
    /// Dimmed.
    Faint,
}

impl Color {
    const fn code(self) -> u8 {
        match self {
            Self::Good => 32,
            Self::Warn => 33,
            Self::Bad => 31,
            Self::Faint => 2,
        }
    }
}

/// A piece of a line, free of control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    text: String,
    color: Option<Color>,
}

impl Span {
    pub(crate) fn new(text: impl AsRef<str>) -> Self {
        Self { text: escape(text.as_ref()).into_owned(), color: None }
    }

    pub(crate) const fn color(mut self, color: Color) -> Self {
        self.color = Some(color);
        self
    }

    fn chars(&self) -> usize {
        self.text.chars().count()
    }

    fn write(&self, out: &mut impl Write, style: &Style) -> io::Result<()> {
        match self.color {
            Some(color) if style.color && !self.text.is_empty() => {
                write!(out, "\x1b[{}m{}\x1b[0m", color.code(), self.text)
            }
            _ => out.write_all(self.text.as_bytes()),
        }
    }
}

/// Writes one line, cut to the width; a cut one ends in `…`.
pub(crate) fn line(out: &mut impl Write, style: &Style, spans: &[Span]) -> io::Result<()> {
    let room = style.columns();
    let all: usize = spans.iter().map(Span::chars).sum();
    let mut left = if all > room { room - 1 } else { room };
    for span in spans {
        let cut = Span { text: span.text.chars().take(left).collect(), color: span.color };
        cut.write(out, style)?;
        left -= cut.chars();
        if left == 0 {
            break;
        }
    }
    out.write_all(if all > room { "…\n".as_bytes() } else { b"\n" })
}

/// Width of the names that [`field`] writes, with the space after them.
const NAME_WIDTH: usize = 11;

/// Writes `name  text`; a text that is too long goes on below itself.
pub(crate) fn field(
    out: &mut impl Write,
    style: &Style,
    name: &str,
    text: impl AsRef<str>,
    color: Option<Color>,
) -> io::Result<()> {
    let text = escape(text.as_ref());
    let rows = wrap(&text, style.columns().saturating_sub(NAME_WIDTH));
    for (n, row) in rows.into_iter().enumerate() {
        let name = if n == 0 { name } else { "" };
        let text = Span { text: row, color };
        line(out, style, &[Span::new(format!("{name:<NAME_WIDTH$}")), text])?;
    }
    Ok(())
}

/// Breaks an escaped text between words, and within one only if it is longer than a row.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut rows = vec![String::new()];
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        loop {
            let row_len = rows.last().map_or(0, |row| row.chars().count());
            let gap = usize::from(row_len > 0);
            if row_len.saturating_add(gap).saturating_add(word.len()) <= width {
                if let Some(row) = rows.last_mut() {
                    row.extend(std::iter::repeat_n(' ', gap));
                    row.extend(word);
                }
                break;
            }
            if row_len > 0 {
                rows.push(String::new());
                continue;
            }
            let rest = word.split_off(width.min(word.len()));
            if let Some(row) = rows.last_mut() {
                row.extend(word);
            }
            rows.push(String::new());
            word = rest;
        }
    }
    rows
}
