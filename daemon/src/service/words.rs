//! `tandem service status`: what launchd knows, in words.

use std::fmt::Write as _;

use tandem_host::mac::launchctl::{Job, State};
use tandem_wire::exit;

use super::{
    LABEL, NOT_RUNNING, UNKNOWN,
    decide::{Known, Seen, last_end},
};

/// The text, and the exit code.
pub(super) fn status(seen: &Seen) -> (String, i32) {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{name:<11}{value}");
    };
    line("job", LABEL);
    let code = match &seen.job {
        Known::Unclear(why) => {
            line("state", &format!("unknown: {why}"));
            UNKNOWN
        }
        Known::No => {
            line("state", "not loaded");
            NOT_RUNNING
        }
        Known::Yes(job) => {
            line("state", &state(job));
            if let Some(runs) = job.runs {
                line("starts", &format!("{runs} since it was loaded"));
            }
            line("last end", &last_end(job));
            if let Some(timeout_s) = job.exit_timeout_s {
                line("to unload", &patience(timeout_s));
            }
            if job.pid.is_some() { exit::OK } else { NOT_RUNNING }
        }
    };
    let at_boot = match seen.is_disabled {
        Some(true) => "is not started: disabled; `sudo tandem service install` enables it",
        Some(false) => "is started if its property list is installed",
        None => "unknown",
    };
    line("at a boot", at_boot);
    (text, code)
}

fn state(job: &Job) -> String {
    let what = match (&job.state, job.pid) {
        (_, Some(pid)) => return format!("running, process {pid}"),
        (State::Running, None) => "running, but without a process",
        (State::NotRunning, None) => "loaded, not running",
        (State::Waiting, None) => "loaded, waiting",
        (State::SpawnScheduled, None) => "ended, is started again soon",
        (State::Other(word), None) => return format!("loaded, {}", word.escape_debug()),
    };
    what.to_owned()
}

/// How long launchd waits between SIGTERM and SIGKILL when it unloads the job or shuts down.
fn patience(timeout_s: u64) -> String {
    match timeout_s {
        0 => "for ever".to_owned(),
        600.. => format!("{timeout_s} s"),
        _ => format!("only {timeout_s} s: the property list is not the package's"),
    }
}

#[cfg(test)]
mod tests {
    use tandem_host::mac::launchctl::parse;

    use super::*;

    fn recorded(text: &str) -> Known {
        Known::Yes(parse(text).unwrap())
    }

    #[test]
    fn the_status_says_how_it_is_and_so_does_the_exit_code() {
        let running = recorded(include_str!("../../host/tests/fixtures/launchctl/running.txt"));
        let jetsam = recorded(include_str!("../../host/tests/fixtures/launchctl/jetsam.txt"));
        let refused = recorded(include_str!("../../host/tests/fixtures/launchctl/refused.txt"));
        for (job, is_disabled, code, parts) in [
            (running, Some(false), 0, ["running, process 35711", "signal Terminated: 15"]),
            (jetsam, Some(false), 3, ["loaded, not running", "OS_REASON_JETSAM"]),
            (refused, None, 3, ["is started again soon", "exit code 78"]),
            (Known::No, Some(true), 3, ["not loaded", "disabled"]),
            (Known::Unclear("cut".into()), None, 4, ["unknown: cut", "unknown"]),
        ] {
            let (text, found) = status(&Seen { job, is_disabled });
            assert_eq!(found, code, "{text}");
            for part in parts {
                assert!(text.contains(part), "{part} is not in: {text}");
            }
        }
    }

    #[test]
    fn a_kill_window_that_is_not_ours_is_told() {
        assert_eq!(patience(600), "600 s");
        assert!(patience(5).contains("only 5 s"));
        assert_eq!(patience(0), "for ever");
    }
}
