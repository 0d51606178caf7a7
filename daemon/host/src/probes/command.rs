//! A probe that starts a tool.

use std::{
    io::{self, Read},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use tandem_policy::invariant::Unknown;

use super::Answer;

/// Most that a tool may write to each of its outputs, in bytes. The longest of those that are
/// started writes some 30 KiB; more is an error, for a cut text is not what the tool said.
pub const OUTPUT_BYTES_MAX: u64 = 64 * 1024;

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

/// Runs a tool, in English, with nothing to read, and waits for it as long as it takes: only to be
/// called in a probe, whose time is bounded.
///
/// # Errors
/// [`Unknown::Failed`] if it can't be started, or writes more than [`OUTPUT_BYTES_MAX`].
pub fn command(program: &Path, arguments: &[&str]) -> Answer<CommandOutput> {
    let failed = |reason: &dyn std::fmt::Display| {
        Unknown::Failed(format!("{}: {reason}", program.display()))
    };
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&error))?;
    let texts = read_both(&mut child);
    // Its outputs are closed by now, which ends a tool that has more to write.
    let status = child.wait().map_err(|error| failed(&error))?;
    let (stdout, stderr) = texts.map_err(|error| failed(&error))?;
    Ok(CommandOutput { code: status.code(), stdout, stderr })
}

/// Reads both at once: a tool that fills one while the other is read would wait for ever.
fn read_both(child: &mut Child) -> io::Result<(String, String)> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let stderr = thread::Builder::new().spawn_scoped(scope, || read(stderr))?;
        let stdout = read(stdout);
        let stderr = stderr.join().map_err(|_| io::Error::other("the reading thread panicked"))?;
        Ok((stdout?, stderr?))
    })
}

fn read(output: Option<impl Read>) -> io::Result<String> {
    let mut bytes = Vec::new();
    if let Some(output) = output {
        output.take(OUTPUT_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    }
    if bytes.len() as u64 > OUTPUT_BYTES_MAX {
        return Err(io::Error::other(format!("it wrote more than {OUTPUT_BYTES_MAX} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
