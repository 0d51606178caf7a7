//! Starting a tool, within bounds.

use std::{
    fmt,
    io::{self, Read},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tandem_policy::invariant::Unknown;

use super::Answer;

/// Most that a tool may write to each of its outputs unless it says otherwise, in bytes. The longest
/// of the text tools writes some 30 KiB; more is an error, for a cut text is not what the tool said.
pub const OUTPUT_BYTES_MAX: u64 = 64 * 1024;

/// Longest time of a tool unless it says otherwise: ten times what those that ask no driver take on a
/// busy machine.
pub const TOOL_TIMEOUT_MS: u64 = 5_000;

/// How long a killed tool may take to be gone. The kernel ends one at once unless it is stuck in a
/// call that can't be interrupted.
const KILL_TIMEOUT: Duration = Duration::from_millis(500);

/// Pause between two looks at a tool that has closed its outputs: it ends within microseconds then.
const WAIT_PAUSE: Duration = Duration::from_millis(2);

/// A tool to start, and its bounds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tool {
    /// Its absolute path: the search path of a daemon is short and not ours.
    pub program: &'static str,
    /// What follows its name.
    pub arguments: Vec<String>,
    /// Longest time it may take; then it is killed.
    pub timeout_ms: u64,
    /// Most that it may write to each of its outputs, in bytes.
    pub output_bytes_max: u64,
    /// Whether it asks a driver that may never answer. One that is late must not be started again: it
    /// can't be killed and gets stuck as well.
    pub asks_driver: bool,
}

impl Tool {
    /// A tool with the usual bounds, [`TOOL_TIMEOUT_MS`] and [`OUTPUT_BYTES_MAX`].
    pub fn new(program: &'static str, arguments: &[&str]) -> Self {
        Self {
            program,
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            timeout_ms: TOOL_TIMEOUT_MS,
            output_bytes_max: OUTPUT_BYTES_MAX,
            asks_driver: false,
        }
    }

    /// The same with this time limit.
    pub fn within(self, timeout_ms: u64) -> Self {
        Self { timeout_ms, ..self }
    }

    /// The same, allowed to write this much.
    pub fn writing(self, output_bytes_max: u64) -> Self {
        Self { output_bytes_max, ..self }
    }

    /// The same, known to ask a driver that may never answer.
    pub fn asking_driver(self) -> Self {
        Self { asks_driver: true, ..self }
    }
}

impl fmt::Display for Tool {
    /// The command as an operator would type it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.program)?;
        for argument in &self.arguments {
            let is_plain =
                |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | ':');
            if !argument.is_empty() && argument.chars().all(is_plain) {
                write!(f, " {argument}")?;
            } else {
                write!(f, " '{}'", argument.replace('\'', r"'\''"))?;
            }
        }
        Ok(())
    }
}

/// What a tool said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandOutput {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to its standard output.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
}

/// Why a tool has to be stopped.
enum Trouble {
    Late,
    Failed(String),
}

/// Runs a tool, in English, with nothing to read, until it has ended and closed its outputs, or its
/// time is over. Then it is killed with all that it started in its process group.
///
/// # Errors
/// [`Unknown::Failed`] if it can't be started, writes too much or was killed for being late;
/// [`Unknown::Hung`] if it was late and can't be killed, or asks a driver.
pub fn command(tool: &Tool) -> Answer<CommandOutput> {
    let failed = |reason: &dyn fmt::Display| Unknown::Failed(format!("`{tool}`: {reason}"));
    if !Path::new(tool.program).is_absolute() {
        return Err(failed(&"it is not an absolute path"));
    }
    let deadline = Instant::now() + Duration::from_millis(tool.timeout_ms);
    let mut child = Command::new(tool.program)
        .args(&tool.arguments)
        .env("LC_ALL", "C")
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&error))?;
    let trouble = match finish(&mut child, tool.output_bytes_max, deadline) {
        Ok(output) => return Ok(output),
        Err(trouble) => trouble,
    };
    let is_gone = kill(&mut child);
    let ms = tool.timeout_ms;
    match trouble {
        Trouble::Late if is_gone && !tool.asks_driver => {
            Err(failed(&format_args!("it did not end within {ms} ms and was killed")))
        }
        Trouble::Late => Err(Unknown::Hung(format!("`{tool}` did not end within {ms} ms"))),
        Trouble::Failed(reason) => Err(failed(&reason)),
    }
}

/// Waits for both outputs, of which the first failure counts, and for the end.
fn finish(child: &mut Child, bytes_max: u64, deadline: Instant) -> Result<CommandOutput, Trouble> {
    let failed = |error: io::Error| Trouble::Failed(error.to_string());
    let (sender, texts) = sync_channel(2);
    read(Stream::Out, child.stdout.take(), bytes_max, sender.clone()).map_err(failed)?;
    read(Stream::Err, child.stderr.take(), bytes_max, sender).map_err(failed)?;
    let (mut stdout, mut stderr) = (String::new(), String::new());
    for _ in [Stream::Out, Stream::Err] {
        match texts.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok((Stream::Out, text)) => stdout = text.map_err(failed)?,
            Ok((Stream::Err, text)) => stderr = text.map_err(failed)?,
            Err(RecvTimeoutError::Timeout) => return Err(Trouble::Late),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Trouble::Failed("the thread that reads its output panicked".into()));
            }
        }
    }
    match end(child, deadline).map_err(failed)? {
        Some(code) => Ok(CommandOutput { code, stdout, stderr }),
        None => Err(Trouble::Late),
    }
}

/// Its exit code, which a killed one has not; `None` if it has not ended by then.
fn end(child: &mut Child, deadline: Instant) -> io::Result<Option<Option<i32>>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.code()));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(WAIT_PAUSE);
    }
}

/// Kills it with its process group; whether it is gone.
fn kill(child: &mut Child) -> bool {
    // It was not waited for, so its number, which is its group's, is not anybody else's.
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    matches!(end(child, Instant::now() + KILL_TIMEOUT), Ok(Some(_)))
}

/// One of a tool's outputs.
#[derive(Clone, Copy)]
enum Stream {
    Out,
    Err,
}

/// Reads one output on a thread of its own: a tool that fills one while the other is read would wait
/// for ever, and one that can't be killed never closes it. That thread is then left behind.
fn read(
    stream: Stream,
    output: Option<impl Read + Send + 'static>,
    bytes_max: u64,
    texts: SyncSender<(Stream, io::Result<String>)>,
) -> io::Result<()> {
    thread::Builder::new().name("tool output".into()).spawn(move || {
        // Nobody takes a late text.
        let _ = texts.send((stream, read_text(output, bytes_max)));
    })?;
    Ok(())
}

fn read_text(output: Option<impl Read>, bytes_max: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    if let Some(output) = output {
        output.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    }
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::other(format!("it wrote more than {bytes_max} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
