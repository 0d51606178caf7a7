//! `tandem service`: the supervisor as a job of launchd.
//!
//! ```text
//!   look (launchctl print, print-disabled) ─▶ decide ─▶ one step (launchctl ...) ─▶ look again
//! ```
//!
//! launchd acts after it has answered, so nothing is believed because it was asked for: what is looked
//! at decides. A loaded engine is never killed: the supervisor gets SIGTERM and all the time it needs,
//! and its job is unloaded once its process is gone, so that launchd has nothing left to kill.

mod decide;
mod disabled;
mod job_file;
mod launchctl;
mod output;
mod trust;
mod words;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use nix::unistd::Uid;
use tandem_wire::exit;

use decide::{Goal, Launchd as _, Why};
use job_file::JobFile;
use launchctl::Launchctl;
pub(crate) use output::Output;

/// Label of the job.
pub const LABEL: &str = "io.tandem.supervise";
/// The job's property list.
pub const JOB: &str = "/Library/LaunchDaemons/io.tandem.supervise.plist";
/// What speaks to launchd. Absolute: root must not run what a `PATH` names.
const LAUNCHCTL: &str = "/bin/launchctl";

/// launchd refused, or what it was asked for did not come about.
const FAILED: i32 = 1;
/// `status`: the job does not run. 3 and 4 are the codes of `systemctl status`.
const NOT_RUNNING: i32 = 3;
/// `status`: launchd did not say.
const UNKNOWN: i32 = 4;
/// There is no launchd here (`EX_UNAVAILABLE`).
const UNAVAILABLE: i32 = 69;
/// The supervisor takes longer to stop than launchd may give it (`EX_TEMPFAIL`).
const WEDGED: i32 = 75;
/// Only root may do this (`EX_NOPERM`).
const NEEDS_ROOT: i32 = 77;
/// The property list is missing, or others than root could change what it starts (`EX_CONFIG`).
const UNTRUSTED: i32 = 78;

/// `tandem service` with its options.
#[derive(Args, Debug)]
pub(crate) struct Command {
    #[command(subcommand)]
    what: What,
    /// What speaks to launchd, for tests
    #[arg(long, hide = true, global = true, value_name = "PATH")]
    launchctl: Option<PathBuf>,
    /// The job's property list, for tests
    #[arg(long, hide = true, global = true, value_name = "PATH", default_value = JOB)]
    job: PathBuf,
}

#[derive(Subcommand, Clone, Copy, PartialEq, Eq, Debug)]
enum What {
    /// Start the supervisor now and at every boot
    ///
    /// Refuses a property list or a program that others than root could change. Exit codes: 0 it
    /// runs, 1 launchd refused or it does not stay up, 69 no launchd here, 77 needs root, 78 the
    /// property list is missing, wrong or not root's alone.
    Install,
    /// Stop the supervisor and start it no more, also not at a boot
    ///
    /// The files stay; /usr/local/libexec/tandem/uninstall removes them. Exit codes: as `stop`.
    Uninstall,
    /// Start the supervisor now
    ///
    /// Exit codes: as `install`.
    Start,
    /// Stop the supervisor until the next boot or start: running requests end, then the model is unloaded
    ///
    /// Waits as long as launchd would before it kills, and kills nothing. Given while another one
    /// waits, it does not let running requests end. Exit codes: 0 it is stopped, 1 launchd refused,
    /// 69 no launchd here, 75 it still runs, 77 needs root.
    Stop,
    /// Stop the supervisor, then start it with the property list as it is now
    ///
    /// Exit codes: as `stop` and `install`.
    Restart,
    /// Show what launchd knows of the supervisor
    ///
    /// `tandem status` shows what the supervisor knows of itself. Exit codes: 0 it runs, 3 it does not,
    /// 4 launchd did not say, 69 no launchd here.
    Status,
}

/// Runs a command; returns its exit code.
pub(crate) fn run(command: &Command) -> anyhow::Result<i32> {
    let is_test = command.launchctl.is_some();
    if !is_test && command.what != What::Status && !Uid::effective().is_root() {
        errln!("only root may do this: sudo tandem service ...");
        return Ok(NEEDS_ROOT);
    }
    if !is_test && !cfg!(target_os = "macos") {
        errln!(
            "launchd is only on macOS; elsewhere let the system's own service manager run \
             `tandem supervise`"
        );
        return Ok(UNAVAILABLE);
    }
    let tool = command.launchctl.as_deref().unwrap_or(Path::new(LAUNCHCTL));
    if let Some(tool) = &command.launchctl
        && let Err(why) = trust::check(tool)
    {
        errln!("{why}");
        return Ok(UNTRUSTED);
    }
    let launchd = Launchctl::new(tool, &command.job);
    Ok(match command.what {
        What::Status => status(&launchd),
        What::Install => start(&launchd, &command.job, true),
        What::Start => start(&launchd, &command.job, false),
        What::Stop => stop(&launchd, false),
        What::Uninstall => stop(&launchd, true),
        What::Restart => restart(&launchd, &command.job),
    })
}

fn status(launchd: &Launchctl) -> i32 {
    let seen = launchd.look();
    let (text, code) = words::status(&seen);
    out!("{text}");
    code
}

/// Reads the property list and refuses what root must not start.
fn checked(job: &Path) -> Result<(), i32> {
    let refuse = |why: &dyn std::fmt::Display| {
        errln!("{why}");
        UNTRUSTED
    };
    trust::check(job).map_err(|why| refuse(&why))?;
    let file = JobFile::read(job).map_err(|why| refuse(&why))?;
    trust::check(&file.program).map_err(|why| refuse(&why))
}

fn start(launchd: &Launchctl, job: &Path, at_boot: bool) -> i32 {
    if let Err(code) = checked(job) {
        return code;
    }
    reach(launchd, Goal::Up { at_boot }, "it runs")
}

fn stop(launchd: &Launchctl, for_ever: bool) -> i32 {
    let done = if for_ever { "it is stopped, also at a boot" } else { "it is stopped" };
    reach(launchd, Goal::Down { for_ever }, done)
}

/// Refuses before anything is stopped what could not be started again.
fn restart(launchd: &Launchctl, job: &Path) -> i32 {
    if let Err(code) = checked(job) {
        return code;
    }
    if launchd.look().is_disabled == Some(true) {
        return failed(&Why::Disabled);
    }
    match stop(launchd, false) {
        exit::OK => reach(launchd, Goal::Up { at_boot: false }, "it runs"),
        code => code,
    }
}

fn reach(launchd: &Launchctl, goal: Goal, done: &str) -> i32 {
    match decide::reach(goal, launchd) {
        Ok(()) => {
            outln!("{LABEL}: {done}");
            exit::OK
        }
        Err(why) => failed(&why),
    }
}

fn failed(why: &Why) -> i32 {
    errln!("{LABEL}: {why}");
    match why {
        Why::Wedged { .. } => WEDGED,
        _ => FAILED,
    }
}
