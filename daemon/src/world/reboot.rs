//! Making the system reboot.

use std::process::{Command, Stdio};

use tracing::{error, warn};

/// The platform's own ways, the gentlest first. The second skips what an orderly shutdown waits for;
/// it is for a shutdown that is stuck.
#[cfg(target_os = "macos")]
const LADDER: [&[&str]; 2] = [&["/sbin/shutdown", "-r", "now"], &["/sbin/reboot", "-q"]];
#[cfg(not(target_os = "macos"))]
const LADDER: [&[&str]; 0] = [];

/// Asks for a reboot, once for each attempt.
#[derive(Default)]
pub(super) struct Reboots {
    last: Option<u32>,
}

impl Reboots {
    /// Runs the configured program, or the platform's own way for this attempt.
    pub(super) fn ask(&mut self, configured: &[String], attempt: u32) {
        if self.last.is_some_and(|last| last >= attempt) {
            return;
        }
        self.last = Some(attempt);
        let own: Vec<String> = LADDER
            .get((attempt as usize).min(LADDER.len().saturating_sub(1)))
            .map(|words| words.iter().map(ToString::to_string).collect())
            .unwrap_or_default();
        let words = if configured.is_empty() { &own } else { configured };
        let Some((program, arguments)) = words.split_first() else {
            error!("there is no way to reboot this platform: set reboot.command");
            return;
        };
        warn!(attempt, "rebooting: {}", words.join(" "));
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.spawn() {
            // Waited for only so that it does not stay behind as a zombie.
            Ok(mut process) => drop(std::thread::spawn(move || process.wait())),
            Err(error) => error!("can't run {program}: {error}"),
        }
    }
}
