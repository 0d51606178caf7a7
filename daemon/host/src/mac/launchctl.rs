//! A job of launchd: `/bin/launchctl print system/LABEL`.
//!
//! Source: launchctl(1), which says that this output is for people and may change: so only a few
//! lines are read, and only those at the first level. Deeper ones have the same names and are about
//! other things (`state = active` of a coalition).

use super::{TEXT_BYTES_MAX, Unparsed};

const TOOL: &str = "launchctl print";

/// A job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Domain and label, such as `system/com.example.job`.
    pub target: String,
    /// What it is doing.
    pub state: State,
    /// Its process, while it has one.
    pub pid: Option<u32>,
    /// How often it was started since it was loaded.
    pub runs: Option<u64>,
    /// What it ended with last. None of the three is printed while launchd knows of no end.
    pub last_exit_code: Option<ExitCode>,
    /// Why the system ended it last, such as `OS_REASON_JETSAM`.
    pub last_exit_reason: Option<String>,
    /// The signal that ended it last, such as `Terminated: 15`.
    pub last_signal: Option<String>,
    /// Seconds from SIGTERM to SIGKILL; 0 is for ever.
    pub exit_timeout_s: Option<u64>,
}

/// What a job is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// `running`.
    Running,
    /// `not running`.
    NotRunning,
    /// `waiting`.
    Waiting,
    /// `spawn scheduled`: it ended, and is started again after its throttle interval.
    SpawnScheduled,
    /// Another word, as printed.
    Other(String),
}

/// The code of the last end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// `(never exited)`.
    Never,
    /// A number; behind some of them the name from sysexits(3) is printed.
    Code(i32),
}

/// Reads the whole answer.
///
/// # Errors
/// Another first line, no closing brace at the end (the answer is cut), no state or two, or a number
/// that is none. A job that is not loaded has no answer, only a complaint.
pub fn parse(text: &str) -> Result<Job, Unparsed> {
    Unparsed::bound(TOOL, text.len(), TEXT_BYTES_MAX)?;
    let (heading, body) = text.trim_start().split_once('\n').unwrap_or((text, ""));
    let target = heading
        .trim_end()
        .strip_suffix(" = {")
        .ok_or_else(|| Unparsed::form(TOOL, "`DOMAIN/LABEL = {`", heading))?;
    if body.lines().rfind(|line| !line.trim().is_empty()).map(str::trim_end) != Some("}") {
        return Err(Unparsed::form(TOOL, "a closing brace at the end", text));
    }
    let mut job = Job {
        target: target.into(),
        state: State::Other(String::new()),
        pid: None,
        runs: None,
        last_exit_code: None,
        last_exit_reason: None,
        last_signal: None,
        exit_timeout_s: None,
    };
    let mut stated = false;
    for (key, value) in body.lines().filter_map(field) {
        let wrong = || Unparsed::form(TOOL, "a number", value);
        match key {
            "state" if stated => return Err(Unparsed::form(TOOL, "one state", value)),
            "state" => {
                job.state = State::of(value);
                stated = true;
            }
            "pid" => job.pid = Some(value.parse().map_err(|_| wrong())?),
            "runs" => job.runs = Some(value.parse().map_err(|_| wrong())?),
            "exit timeout" => job.exit_timeout_s = Some(value.parse().map_err(|_| wrong())?),
            "last exit code" => job.last_exit_code = Some(ExitCode::of(value).ok_or_else(wrong)?),
            "last exit reason" => job.last_exit_reason = Some(value.into()),
            "last terminating signal" => job.last_signal = Some(value.into()),
            _ => {}
        }
    }
    if stated { Ok(job) } else { Err(Unparsed::Absent { tool: TOOL, what: "the job's state" }) }
}

/// A field of the first level, which is indented by one tab. Keys of deeper ones keep a tab.
fn field(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix('\t')?.trim_end().split_once(" = ")
}

impl State {
    fn of(text: &str) -> Self {
        match text {
            "running" => Self::Running,
            "not running" => Self::NotRunning,
            "waiting" => Self::Waiting,
            "spawn scheduled" => Self::SpawnScheduled,
            other => Self::Other(other.into()),
        }
    }
}

impl ExitCode {
    fn of(text: &str) -> Option<Self> {
        if text == "(never exited)" {
            return Some(Self::Never);
        }
        let number = text.split_once(": ").map_or(text, |(number, _name)| number);
        number.parse().ok().map(Self::Code)
    }
}

impl Job {
    /// Whether the system ended it last for want of memory.
    pub fn was_jetsammed(&self) -> bool {
        self.last_exit_reason.as_deref().is_some_and(|reason| {
            reason.starts_with("OS_REASON_JETSAM") || reason.starts_with("JETSAM_REASON_")
        })
    }
}
