//! `/bin/launchctl`: every question and request of one bounded time.

use std::{
    path::{Path, PathBuf},
    sync::mpsc::sync_channel,
    thread,
    time::Duration,
};

use tandem_host::{
    mac::launchctl,
    probes::{CommandOutput, Tool, command},
};

use super::{
    LABEL,
    decide::{Known, Launchd, Seen, Step},
    disabled,
};

/// Longest time of one call. launchd answers within milliseconds; one that takes this long has a
/// trouble of its own, and the next look says what became of the request.
const CALL_MAX: Duration = Duration::from_secs(30);

/// The exit code of `print` for a job that is not loaded, and what it says then. Neither is documented;
/// both are seen on macOS 14 to 26, so either is enough.
const NOT_FOUND: i32 = 113;
const NOT_FOUND_WORDS: &str = "Could not find service";

/// Runs launchctl for the one job.
pub(super) struct Launchctl {
    tool: PathBuf,
    job: String,
    target: String,
}

impl Launchctl {
    pub(super) fn new(tool: &Path, job: &Path) -> Self {
        Self {
            tool: tool.into(),
            job: job.display().to_string(),
            target: format!("system/{LABEL}"),
        }
    }

    /// Calls it. A call that is late is left behind: what it asked for may still come about.
    fn call(&self, arguments: &[&str]) -> Result<CommandOutput, String> {
        let tool = self.tool.display().to_string();
        let call_max_ms = CALL_MAX.as_millis() as u64;
        let owned: Vec<String> = arguments.iter().map(|one| (*one).to_owned()).collect();
        let (sender, receiver) = sync_channel(1);
        let call = move || {
            let arguments: Vec<&str> = owned.iter().map(String::as_str).collect();
            // Nobody takes a late answer.
            let _ = sender.send(command(&Tool::new(tool, &arguments).within(2 * call_max_ms)));
        };
        thread::Builder::new().spawn(call).map_err(|error| error.to_string())?;
        match receiver.recv_timeout(CALL_MAX) {
            Ok(answer) => answer.map_err(|unknown| unknown.to_string()),
            Err(_) => Err(format!(
                "{} {} gave no answer within {} s",
                self.tool.display(),
                arguments.join(" "),
                CALL_MAX.as_secs()
            )),
        }
    }

    fn known(&self) -> Known {
        match self.call(&["print", &self.target]) {
            Err(why) => Known::Unclear(why),
            Ok(output) => known(&output),
        }
    }

    fn is_disabled(&self) -> Option<bool> {
        let output = self.call(&["print-disabled", "system"]).ok()?;
        if output.code != Some(0) {
            return None;
        }
        // Our property list does not disable it.
        disabled::parse(&output.stdout, LABEL).map(Option::unwrap_or_default)
    }
}

/// What an answer of `print` means.
fn known(output: &CommandOutput) -> Known {
    match output.code {
        Some(0) => match launchctl::parse(&output.stdout) {
            Ok(job) => Known::Yes(job),
            Err(why) => Known::Unclear(why.to_string()),
        },
        Some(NOT_FOUND) => Known::No,
        _ if output.stderr.contains(NOT_FOUND_WORDS) => Known::No,
        _ => Known::Unclear(said(output)),
    }
}

/// What it said, on one line.
fn said(output: &CommandOutput) -> String {
    let text = if output.stderr.trim().is_empty() { &output.stdout } else { &output.stderr };
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let code = output.code.map_or("a signal".to_owned(), |code| code.to_string());
    let shown: String = line.chars().take(200).collect();
    format!("exit code {code}: {}", shown.escape_debug())
}

impl Launchd for Launchctl {
    fn look(&self) -> Seen {
        Seen { job: self.known(), is_disabled: self.is_disabled() }
    }

    fn ask(&self, step: Step) -> Result<(), String> {
        let target = self.target.as_str();
        let output = match step {
            Step::Enable => self.call(&["enable", target]),
            Step::Disable => self.call(&["disable", target]),
            Step::Bootstrap => self.call(&["bootstrap", "system", &self.job]),
            // Never -k, which kills what runs.
            Step::Kickstart => self.call(&["kickstart", target]),
            Step::Terminate => self.call(&["kill", "SIGTERM", target]),
            Step::Bootout => self.call(&["bootout", target]),
        }?;
        if output.code == Some(0) { Ok(()) } else { Err(said(&output)) }
    }

    fn pause(&self, pause: Duration) {
        thread::sleep(pause);
    }

    fn tell(&self, what: &str) {
        errln!("{LABEL}: {what}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(code: Option<i32>, stdout: &str, stderr: &str) -> CommandOutput {
        CommandOutput { code, stdout: stdout.into(), stderr: stderr.into() }
    }

    #[test]
    fn a_job_is_known_not_known_or_unclear_but_never_guessed() {
        let recorded = include_str!("../../host/tests/fixtures/launchctl/running.txt");
        let absent = include_str!("../../host/tests/fixtures/launchctl/not_loaded.txt");
        let Known::Yes(job) = known(&output(Some(0), recorded, "")) else { panic!("not known") };
        assert_eq!(job.pid, Some(35711));
        assert_eq!(known(&output(Some(113), "", absent)), Known::No);
        assert_eq!(known(&output(Some(113), "", "")), Known::No);
        assert_eq!(known(&output(Some(64), "", absent)), Known::No);
        for unclear in [
            output(Some(0), "", ""),
            output(Some(0), "system/x = {\n", ""),
            output(Some(1), "", "Operation not permitted"),
            output(None, "", ""),
        ] {
            assert!(matches!(known(&unclear), Known::Unclear(_)), "{unclear:?}");
        }
    }

    #[test]
    fn a_refusal_is_told_on_one_line() {
        let refused = output(Some(5), "", "Bootstrap failed: 5:\n Input/output error\u{1b}[2J\n");
        assert_eq!(
            said(&refused),
            "exit code 5: Bootstrap failed: 5: Input/output error\\u{1b}[2J"
        );
    }
}
