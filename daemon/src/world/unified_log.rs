//! Hints in macOS's unified log: a child, `log stream`, is followed for as long as the supervisor runs, and
//! what its lines say is matched against the catalogue. It is the one live feed that a daemon can have, and
//! it drops lines when many come, so what it tells is shown and never acted on.
//!
//! The child is trusted with nothing: whatever it writes, however much, and however it ends, costs a bounded
//! part of a core and is asked for again after a pause.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use tandem_evidence::{LOG_LINE_BYTES_MAX, LogLine};
use tokio::{
    io::AsyncReadExt,
    process::{Child, ChildStdout, Command},
    time::{sleep, sleep_until, timeout},
};
use tracing::{debug, info};

use super::{child::Shared, evidence, evidence::Signatures};

/// Label of the supervisor's own job.
const LABEL: &str = "io.tandem.supervise";

/// What the kernel's lines of interest are about.
const TOPICS: [&str; 5] = ["RDMA", "IOGPU", "AGX", "jetsam", "memorystatus"];

/// After this the child ends by itself and is started anew, so that one that a killed supervisor left behind
/// is gone within an hour.
const STREAM_TIMEOUT: &str = "1h";

/// Most signatures that are told of. The catalogue has five.
const HINTS_MAX: usize = 16;

/// A hint that comes again within this time is the same one.
const REPEAT: Duration = Duration::from_secs(3_600);

/// How long a child gets to be gone that was killed.
const GONE: Duration = Duration::from_secs(5);

/// A program that writes lines of the log, and how it is paced.
pub(super) struct Stream {
    program: PathBuf,
    arguments: Vec<String>,
    pace: Pace,
}

/// Limits of time and amount.
#[derive(Clone, Copy)]
struct Pace {
    /// Pause before the first new start; it doubles up to the second.
    pause_min: Duration,
    pause_max: Duration,
    /// A child that lived this long has the pause set back to the least.
    stable_after: Duration,
    /// Most bytes that are read in each period. Then the child waits: its pipe is full.
    bytes_max: usize,
    period: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            pause_min: Duration::from_secs(1),
            // A log that can't be followed stays so; to ask five times an hour costs nothing.
            pause_max: Duration::from_secs(720),
            stable_after: Duration::from_secs(600),
            // Some hundred lines a second; parsing them takes milliseconds.
            bytes_max: 256 << 10,
            period: Duration::from_secs(1),
        }
    }
}

impl Stream {
    /// What this platform has; `None` for nothing.
    pub(super) fn of_platform() -> Option<Self> {
        cfg!(target_os = "macos").then(|| Self {
            program: "/usr/bin/log".into(),
            arguments: arguments(),
            pace: Pace::default(),
        })
    }
}

fn arguments() -> Vec<String> {
    let predicate = predicate();
    let words = ["stream", "--style", "ndjson", "--level", "default", "--timeout", STREAM_TIMEOUT];
    words.into_iter().chain(["--predicate", &predicate]).map(str::to_owned).collect()
}

/// Which lines: the kernel's about what ranks use, and launchd's about our job, which it names in the
/// subsystem (in older systems, in the message).
fn predicate() -> String {
    let topics = TOPICS.map(|topic| format!("eventMessage CONTAINS[c] \"{topic}\"")).join(" OR ");
    format!(
        "(process == \"kernel\" AND ({topics})) OR (process == \"launchd\" AND (subsystem CONTAINS \
         \"{LABEL}\" OR eventMessage CONTAINS \"{LABEL}\"))"
    )
}

/// Follows the log for ever, and notes what its lines hint at.
pub(super) async fn watch(shared: Shared, catalogue: Signatures, stream: Stream) {
    let mut hints = Hints::default();
    let on_line = |line: LogLine| match catalogue.match_system_log(&line) {
        Some(signature) if hints.is_due(&signature.id, Instant::now()) => {
            evidence::of_system_log(&shared, signature, &line);
        }
        Some(signature) => {
            debug!(signature = signature.id, "{}: {}", line.sender.name(), line.text)
        }
        None => debug!("{}: {}", line.sender.name(), line.text),
    };
    follow(stream, on_line).await;
}

/// What was told, so that a line that comes all the time is told once an hour.
#[derive(Default)]
struct Hints {
    told: BTreeMap<String, Instant>,
}

impl Hints {
    fn is_due(&mut self, id: &str, now: Instant) -> bool {
        let last = self.told.get(id);
        let is_due = match last {
            Some(last) => now.saturating_duration_since(*last) >= REPEAT,
            None => self.told.len() < HINTS_MAX,
        };
        if is_due {
            self.told.insert(id.to_owned(), now);
        }
        is_due
    }
}

/// Starts the child again and again.
async fn follow(stream: Stream, mut on_line: impl FnMut(LogLine)) {
    let mut pause = stream.pace.pause_min;
    let mut is_told = false;
    loop {
        let began = Instant::now();
        let how = once(&stream, &mut on_line).await;
        if began.elapsed() >= stream.pace.stable_after {
            (pause, is_told) = (stream.pace.pause_min, false);
        } else if !is_told {
            // Once: it may go on so for as long as the machine runs.
            is_told = true;
            info!(
                "the system's log is not followed: {} {how}; it is tried again",
                stream.program.display()
            );
        }
        debug!("the system's log: {} {how}", stream.program.display());
        sleep(pause).await;
        pause = (pause * 2).min(stream.pace.pause_max);
    }
}

/// Starts the child and reads it to its end; how it ended.
async fn once(stream: &Stream, on_line: &mut impl FnMut(LogLine)) -> String {
    let mut command = Command::new(&stream.program);
    command.args(&stream.arguments).env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.current_dir("/").kill_on_drop(true);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return format!("can't be started: {error}"),
    };
    if let Some(output) = child.stdout.take() {
        read(output, stream.pace, on_line).await;
    }
    end(&mut child).await
}

async fn end(child: &mut Child) -> String {
    // It has closed its output, so it is of no more use even if it still runs.
    let _ = timeout(Duration::from_millis(100), child.wait()).await;
    let _ = child.start_kill();
    match timeout(GONE, child.wait()).await {
        Ok(Ok(status)) => format!("ended with {status}"),
        Ok(Err(error)) => format!("can't be waited for: {error}"),
        Err(_) => "closed its output and can't be killed".into(),
    }
}

/// Reads until the output ends, so many bytes a period at most.
async fn read(mut output: ChildStdout, pace: Pace, on_line: &mut impl FnMut(LogLine)) {
    let mut buffer = vec![0; 16 << 10];
    let mut lines = Lines::default();
    let mut left = pace.bytes_max;
    let mut next_period = tokio::time::Instant::now() + pace.period;
    loop {
        if tokio::time::Instant::now() >= next_period {
            left = pace.bytes_max;
            next_period = tokio::time::Instant::now() + pace.period;
        } else if left == 0 {
            sleep_until(next_period).await;
            continue;
        }
        let room = left.min(buffer.len());
        let Some(room) = buffer.get_mut(..room) else { return };
        let count = match output.read(room).await {
            Ok(0) | Err(_) => return,
            Ok(count) => count,
        };
        left -= count;
        lines.take(buffer.get(..count).unwrap_or_default(), on_line);
    }
}

/// What was read of the line that is not at its end yet.
#[derive(Default)]
struct Lines {
    line: Vec<u8>,
    is_too_long: bool,
}

impl Lines {
    fn take(&mut self, bytes: &[u8], on_line: &mut impl FnMut(LogLine)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            self.is_too_long |= self.line.len() + text.len() > LOG_LINE_BYTES_MAX;
            if !self.is_too_long {
                self.line.extend_from_slice(text);
            }
            if ends {
                if !self.is_too_long
                    && let Ok(line) = LogLine::parse(&self.line)
                {
                    on_line(line);
                }
                self.line.clear();
                self.is_too_long = false;
            }
        }
    }
}
