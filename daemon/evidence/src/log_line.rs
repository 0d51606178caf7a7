//! One line of macOS's unified log, as `log stream --style ndjson` writes it: a JSON object, of which
//! only who wrote it, when, and what are read.
//!
//! Lines are foreign text. Processes choose their names and write what they like, so a line counts only
//! if the kernel or launchd itself wrote it, by the identity that the log daemon gives, and what it
//! quotes is bounded and free of control characters. Even then it is a hint: the log drops lines under
//! load, and the kernel's lines quote names of processes.

use jiff::Timestamp;
use serde::Deserialize;

use crate::text;

/// Longest line that is read, in bytes. A real one has one or two KiB; the longest message that the log
/// keeps is 32 KiB.
pub const LOG_LINE_BYTES_MAX: usize = 64 << 10;
/// Longest text that is kept of one, in bytes.
pub const LOG_TEXT_BYTES_MAX: usize = 2 << 10;
/// Longest identifier of a boot that is kept, in bytes: a UUID.
const BOOT_BYTES_MAX: usize = 36;

/// Who wrote a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSender {
    /// The kernel or a driver in it.
    Kernel,
    /// launchd of the system.
    Launchd,
}

impl LogSender {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Kernel, Self::Launchd];

    /// Its name, as the log's predicates have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Launchd => "launchd",
        }
    }

    /// What the log daemon says of its lines: the executable's path, and the process id. A program of
    /// the same name has another path, or another id.
    const fn identity(self) -> (&'static str, u64) {
        match self {
            Self::Kernel => ("/kernel", 0),
            Self::Launchd => ("/sbin/launchd", 1),
        }
    }
}

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Who wrote it.
    pub sender: LogSender,
    /// The message: one line of at most [`LOG_TEXT_BYTES_MAX`] bytes.
    pub text: String,
    /// When, in milliseconds since 1970 by the clock of that machine.
    pub wall_ms: Option<i64>,
    /// `kern.bootsessionuuid` of the boot that it is from.
    pub boot: Option<String>,
}

/// Why a line says nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogLineError {
    /// It is over [`LOG_LINE_BYTES_MAX`].
    #[error("the line has over {LOG_LINE_BYTES_MAX} bytes")]
    TooLong,
    /// It is no entry: the tool's own words, or a line that was cut.
    #[error("the line is no entry of a log")]
    NoEntry,
    /// It is an entry that nobody wrote as a message, such as the beginning of an activity.
    #[error("the entry is no message")]
    OtherKind,
    /// Another process wrote it.
    #[error("the entry is of another process")]
    OtherSender,
}

/// The members that are read; all others are skipped. Their names and types are those of entries that
/// macOS 10.15 to 26 wrote.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "eventType")]
    event_type: Option<String>,
    #[serde(rename = "eventMessage")]
    event_message: Option<String>,
    #[serde(rename = "processImagePath")]
    process_image_path: Option<String>,
    #[serde(rename = "processID")]
    process_id: Option<u64>,
    timestamp: Option<String>,
    #[serde(rename = "bootUUID")]
    boot_uuid: Option<String>,
}

impl LogLine {
    /// Reads a line, without its end.
    ///
    /// # Errors
    /// Why it says nothing here: most lines that any process writes do not.
    pub fn parse(line: &[u8]) -> Result<Self, LogLineError> {
        if line.len() > LOG_LINE_BYTES_MAX {
            return Err(LogLineError::TooLong);
        }
        let entry: Entry = serde_json::from_slice(line).map_err(|_| LogLineError::NoEntry)?;
        if entry.event_type.as_deref() != Some("logEvent") {
            return Err(LogLineError::OtherKind);
        }
        let identity = entry.process_image_path.as_deref().zip(entry.process_id);
        let is_sender = |sender: &LogSender| identity == Some(sender.identity());
        let sender = LogSender::ALL.into_iter().find(is_sender);
        let sender = sender.ok_or(LogLineError::OtherSender)?;
        let message = entry.event_message.ok_or(LogLineError::OtherKind)?;
        Ok(Self {
            sender,
            text: text::line(message.trim(), LOG_TEXT_BYTES_MAX),
            wall_ms: entry.timestamp.as_deref().and_then(when),
            boot: entry.boot_uuid.map(|boot| text::line(&boot, BOOT_BYTES_MAX)),
        })
    }
}

/// A time as the log writes it: `2026-04-16 10:00:01.123456+0200`.
fn when(time: &str) -> Option<i64> {
    Timestamp::strptime("%Y-%m-%d %H:%M:%S%.f%z", time).ok().map(Timestamp::as_millisecond)
}
