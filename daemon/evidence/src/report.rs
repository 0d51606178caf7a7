//! Reports that macOS writes into its `DiagnosticReports` folders.
//!
//! Each is a file of two JSON documents: a header in the first line, which names the kind
//! (`bug_type`), and a body. They appear some seconds after the event, under their final name.

mod body;
mod read;

use std::{borrow::Cow, io};

pub use read::{REPORT_BYTES_MAX, read_report};

use crate::Source;

/// Longest text that a report keeps for matching, in bytes: the exception, what the libraries said
/// and the top of the faulting stack.
pub const REPORT_TEXT_BYTES_MAX: usize = 16 << 10;

/// What a report says, as far as it is evidence here. Texts are bounded and free of control
/// characters; what the report does not say is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// A process crashed (bug type 309).
    Crash {
        /// Name of the executable.
        process: String,
        /// Its process id.
        pid: Option<u32>,
        /// The signal, such as `SIGSEGV`.
        signal: Option<String>,
        /// The Mach exception, such as `EXC_BAD_ACCESS`.
        exception: Option<String>,
        /// Who ended it and why, such as `SIGNAL 6 Abort trap: 6`.
        termination: Option<String>,
        /// When, in milliseconds since 1970 by the clock of that machine.
        captured_wall_ms: Option<i64>,
        /// Lines to match: `exception …`, `termination …`, `asi LIBRARY: …` (what libraries said
        /// last) and `frame SYMBOL (IMAGE)` from the top of the faulting thread's stack.
        text: String,
    },
    /// The kernel killed processes for memory (bug type 298).
    Jetsam {
        /// Name of the process with most memory.
        largest: Option<String>,
        /// Those that were killed.
        victims: Vec<Victim>,
        /// When, in milliseconds since 1970 by the clock of that machine.
        captured_wall_ms: Option<i64>,
    },
    /// The kernel panicked, so the machine restarted (bug type 210).
    Panic {
        /// `kern.bootsessionuuid` of the boot that ended so.
        boot_session: Option<String>,
        /// The panic's own text.
        text: String,
        /// When, in milliseconds since 1970 by the clock of that machine.
        captured_wall_ms: Option<i64>,
    },
    /// The GPU was reset under a process (bug type 284).
    Gpu {
        /// Name of the process.
        process: String,
        /// The driver's number for what it saw.
        signature: Option<u64>,
        /// The driver's number for why it reset the GPU.
        restart_reason: Option<u64>,
        /// The same in words.
        restart_reason_text: Option<String>,
        /// Which part of the GPU was found guilty; 3 is compute.
        guilty_dm: Option<u64>,
        /// When, in milliseconds since 1970 by the clock of that machine.
        captured_wall_ms: Option<i64>,
    },
}

/// A process that the kernel killed for memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Victim {
    /// Its name.
    pub name: String,
    /// Its process id.
    pub pid: Option<u32>,
    /// The kernel's reason, such as `per-process-limit` or `vm-pageshortage`.
    pub reason: String,
    /// Its resident memory then, in bytes.
    pub resident_bytes: Option<u64>,
}

/// By what a report is known to be the same as another: its `incident_id`, or the file's name where
/// it has none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReportId(pub(crate) String);

impl ReportId {
    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for ReportId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a file gave no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// It ends too early: it may still be being written. Try again later.
    #[error("the report is not whole yet; try again later")]
    Partial,
    /// It is over the limit; only its header was read, to name it.
    #[error("the report {id} has {size_bytes} bytes, over the limit of {REPORT_BYTES_MAX}")]
    TooLarge {
        /// Which report.
        id: ReportId,
        /// Size of the file, in bytes.
        size_bytes: u64,
    },
    /// It is a whole report of a kind that is no evidence here.
    #[error("a report of bug type {bug_type:?} is not read")]
    OtherKind {
        /// Its `bug_type`.
        bug_type: String,
    },
    /// It is no report, or no regular file.
    #[error("not a report: {reason}")]
    NotAReport {
        /// Why not.
        reason: String,
    },
    /// It can't be read.
    #[error("the report can't be read")]
    Io(#[from] io::Error),
}

impl ReportError {
    pub(crate) fn not_a_report(reason: impl Into<String>) -> Self {
        Self::NotAReport { reason: reason.into() }
    }
}

impl Report {
    /// Where signatures of it stand in the catalogue.
    pub const fn source(&self) -> Source {
        match self {
            Self::Crash { .. } | Self::Gpu { .. } => Source::CrashReport,
            Self::Jetsam { .. } => Source::Jetsam,
            Self::Panic { .. } => Source::Panic,
        }
    }

    /// The text that patterns are matched against. For a jetsam: a line `victim NAME PID REASON
    /// BYTES` each; for a GPU event: one line `gpu-event PROCESS signature=… restart_reason=…
    /// guilty_dm=… …`.
    pub fn text(&self) -> Cow<'_, str> {
        let number = |n: Option<u64>| n.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
        match self {
            Self::Crash { text, .. } | Self::Panic { text, .. } => Cow::Borrowed(text),
            Self::Jetsam { victims, .. } => Cow::Owned(
                victims
                    .iter()
                    .map(|Victim { name, pid, reason, resident_bytes }| {
                        let (pid, bytes) = (number(pid.map(u64::from)), number(*resident_bytes));
                        format!("victim {name} {pid} {reason} {bytes}\n")
                    })
                    .collect(),
            ),
            Self::Gpu {
                process,
                signature,
                restart_reason,
                restart_reason_text,
                guilty_dm,
                ..
            } => Cow::Owned(format!(
                "gpu-event {process} signature={} restart_reason={} guilty_dm={} {}",
                number(*signature),
                number(*restart_reason),
                number(*guilty_dm),
                restart_reason_text.as_deref().unwrap_or_default(),
            )),
        }
    }
}

/// Which of our own boots, named by their `kern.bootsessionuuid`, a panic ended: its place in
/// `boots`. `None` for other reports, for panics that don't say, and for boots that aren't known.
pub fn boot_of(panic: &Report, boots: &[String]) -> Option<usize> {
    let Report::Panic { boot_session: Some(session), .. } = panic else {
        return None;
    };
    boots.iter().position(|boot| boot.trim().eq_ignore_ascii_case(session))
}
