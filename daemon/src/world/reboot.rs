//! Making the system reboot.

use std::process::{Child, Command, Stdio};

use tandem_host::RebootStep;
use tracing::{error, warn};

/// Asks for a reboot, once for each attempt. A lower one than the last begins anew.
#[derive(Default)]
pub(super) struct Reboots {
    last: Option<u32>,
}

impl Reboots {
    /// Runs the configured program, or the platform's own way for this attempt.
    pub(super) fn ask(&mut self, configured: &[String], attempt: u32) {
        if self.last == Some(attempt) {
            return;
        }
        self.last = Some(attempt);
        if let Some((program, arguments)) = configured.split_first() {
            warn!(attempt, "rebooting: {}", configured.join(" "));
            match command(program, arguments).spawn() {
                Ok(tool) => in_background(move || wait(tool)),
                Err(error) => error!("can't run {program}: {error}"),
            }
            return;
        }
        let Some(step) = tandem_host::reboot_step(attempt) else {
            error!("there is no way to reboot this platform: set reboot.command");
            return;
        };
        warn!(attempt, "rebooting: {step}");
        match step {
            // Started before this returns: the supervisor may end with this turn.
            RebootStep::Run(_) => match tandem_host::reboot(step) {
                Ok(tool) => in_background(move || tool.into_iter().for_each(wait)),
                Err(error) => error!("the system refused to reboot: {error}"),
            },
            RebootStep::Quick(_) => in_background(move || match tandem_host::reboot(step) {
                Ok(tool) => tool.into_iter().for_each(wait),
                Err(error) => error!("the system refused to reboot: {error}"),
            }),
        }
    }
}

fn command(program: &str, arguments: &[String]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Waits, so that it does not stay behind as a zombie, and tells if it failed.
fn wait(mut tool: Child) {
    match tool.wait() {
        Ok(status) if status.success() => {}
        Ok(status) => error!("what was to reboot the system ended with {status}"),
        Err(error) => error!("what was to reboot the system can't be waited for: {error}"),
    }
}

/// On a thread of its own: a system that is being shut down may take any time to answer, and the turn
/// waits for nobody.
fn in_background(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().name("reboot".into()).spawn(work);
    if let Err(error) = thread {
        error!("there is no thread to reboot in: {error}");
    }
}
