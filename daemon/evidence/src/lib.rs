//! Evidence of why something ended: a catalogue of known signatures, and what is found in the
//! output of a child, in its exit status, in the system's crash reports and in its log.
//!
//! A [`Catalogue`] maps a signature to its meaning and to the smallest [`Rung`] that can help. It
//! only names that action: whether and when it is taken, and whether a larger one is due because the
//! same signature came back, is the policy's.

mod catalogue;
mod explain;
mod folder;
mod log_line;
mod parse;
mod report;
mod signature;
mod text;

pub use catalogue::{CATALOGUE_BYTES_MAX, Catalogue, LINE_BYTES_MAX};
pub use explain::{EXPLAIN_MAX, Explanation};
pub use folder::{FILES_PER_SCAN_MAX, REMEMBERED_MAX, Refused, ReportFolder, TRIES_MAX};
pub use log_line::{LOG_LINE_BYTES_MAX, LOG_TEXT_BYTES_MAX, LogLine, LogLineError, LogSender};
pub use parse::{CatalogueError, Problem, SIGNATURES_MAX};
pub use report::{
    REPORT_BYTES_MAX, REPORT_TEXT_BYTES_MAX, Report, ReportError, ReportId, Victim, boot_of,
    read_report,
};
pub use signature::{Exit, HIT_TEXT_BYTES_MAX, Hit, Process, Signature, Source, Trigger, Writer};
pub use tandem_policy::Rung;
