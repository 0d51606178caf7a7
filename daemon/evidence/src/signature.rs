//! One signature: where it is read, what it means and what to do.

use serde::{Deserialize, Serialize};

use crate::{Rung, text};

/// Longest text that a [`Hit`] carries, in bytes: a log line's worth, since hits are saved and sent
/// to the peer.
pub const HIT_TEXT_BYTES_MAX: usize = 512;

/// Where a signature is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// One line that a process wrote: whose, its [`Process`] says.
    Output,
    /// The exit code of a rank or the gateway, or the signal that ended it.
    Exit,
    /// A crash report (bug type 309) or a GPU event (284).
    CrashReport,
    /// A report of processes that the kernel killed for memory (298).
    Jetsam,
    /// A kernel panic (210).
    Panic,
    /// A message of the kernel or of launchd in the system's own log: a hint, whose action is none.
    SystemLog,
    /// Nothing that can be read: the supervisor measures it, or a person sees it.
    Symptom,
}

impl Source {
    /// All.
    pub const ALL: [Self; 7] = [
        Self::Output,
        Self::Exit,
        Self::CrashReport,
        Self::Jetsam,
        Self::Panic,
        Self::SystemLog,
        Self::Symptom,
    ];

    /// Its name in the catalogue.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Output => "output",
            Self::Exit => "exit",
            Self::CrashReport => "crash-report",
            Self::Jetsam => "jetsam",
            Self::Panic => "panic",
            Self::SystemLog => "system-log",
            Self::Symptom => "symptom",
        }
    }

    /// The source of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.name() == name)
    }
}

/// Whose output a signature of source [`Source::Output`] is looked for in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Process {
    /// Ranks: they know numbers and no client's words, so all that they write is their own.
    Rank,
    /// Ranks, and what the gateway says in its own words; see [`crate::Catalogue::match_output`].
    Any,
    /// Neither: it is in the log of another program, or in an answer to a client, and is there to be
    /// explained.
    Other,
}

impl Process {
    /// All.
    pub const ALL: [Self; 3] = [Self::Rank, Self::Any, Self::Other];

    /// Its name in the catalogue.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rank => "rank",
            Self::Any => "any",
            Self::Other => "other",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|process| process.name() == name)
    }
}

/// Who wrote a line of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// A rank.
    Rank,
    /// The gateway, which quotes clients.
    Gateway,
}

/// What makes a signature apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A regular expression found in the source's text.
    Pattern(String),
    /// This exit code.
    Code(i32),
    /// This signal, as macOS numbers them.
    Signal(i32),
    /// Nothing that a program can match.
    Unmatched,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With an exit code.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

/// One entry of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Its name: unique, lower-case words joined by hyphens.
    pub id: String,
    /// Where it is read.
    pub source: Source,
    /// Whose output it is looked for in; of no meaning for other sources.
    pub process: Process,
    /// What makes it apply.
    pub trigger: Trigger,
    /// What it says about the pair, in a sentence or two.
    pub meaning: String,
    /// The smallest action that can help.
    pub action: Rung,
    /// What an operator does.
    pub remedy: String,
    /// What it is about, such as `memory` or `fabric`: a label for metrics.
    pub kind: Option<String>,
}

impl Signature {
    /// That this signature was seen in `text`.
    pub fn hit(&self, text: &str) -> Hit {
        Hit { id: self.id.clone(), action: self.action, text: text::line(text, HIT_TEXT_BYTES_MAX) }
    }
}

/// A signature that was seen, as plain data to decide on, save and show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hit {
    /// [`Signature::id`].
    pub id: String,
    /// [`Signature::action`].
    pub action: Rung,
    /// Where it was seen: at most [`HIT_TEXT_BYTES_MAX`] bytes, one line.
    pub text: String,
}
