//! What to do next to have the job up or down, from what is seen; and the loop that does it.
//!
//! ```text
//!   Up    not loaded ─Enable─▶ ─Bootstrap─▶ loaded, no process ─Kickstart─▶ runs
//!   Down  runs ─Terminate─▶ waits ─▶ loaded, no process ─Bootout─▶ not loaded (─Disable─▶)
//! ```

#[cfg(test)]
mod tests;

use std::time::Duration;

use tandem_host::mac::launchctl::{ExitCode, Job, State};

/// Pause between two looks, and most tries of a step that launchd refuses: it answers 5 (`EIO`) for a
/// second or two while it still works on the last request. nix-installer uses the same numbers.
const PAUSE: Duration = Duration::from_millis(500);
const TRIES_MAX: u32 = 10;

/// What launchd waits before it kills, if the job does not say or says for ever: that of our property
/// list, in seconds.
const EXIT_TIMEOUT_S: u64 = 600;
/// What is waited beyond that: for launchd to take notice, and the looks between.
const MARGIN: Duration = Duration::from_secs(15);
/// How long a started job may be without a process: launchd starts one that ended at once again after
/// `ThrottleInterval`, which is 15 s in our property list.
const START_MAX: Duration = Duration::from_secs(30);
/// How long a job that was just loaded may take to have a process before it is asked to.
const SETTLE: Duration = Duration::from_secs(2);
/// How often somebody who waits is told that it still goes on.
const TELL_PERIOD: Duration = Duration::from_secs(30);

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// The job has a process.
    Up {
        /// Also after the next boot, whatever was said before.
        at_boot: bool,
    },
    /// launchd does not know the job.
    Down {
        /// Also after the next boot.
        for_ever: bool,
    },
}

/// Whether launchd knows the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It does not.
    No,
    /// It does.
    Yes(Job),
    /// It did not say, and why.
    Unclear(String),
}

/// What launchd said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Of the job.
    pub(super) job: Known,
    /// Whether the job is not to be loaded; `None` if that could not be read.
    pub(super) is_disabled: Option<bool>,
}

/// One request to launchd. None of them kills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Let the job be loaded, now and at every boot.
    Enable,
    /// Load the job at no boot.
    Disable,
    /// Load the job, which starts it (`RunAtLoad`).
    Bootstrap,
    /// Start a job that is loaded and has no process.
    Kickstart,
    /// Send SIGTERM to its process, without the time limit that unloading a running job has.
    Terminate,
    /// Unload the job.
    Bootout,
}

/// Why the goal is not reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Why {
    /// launchd's answers could not be read.
    #[error("launchd does not say how the job is: {0}")]
    Unclear(String),
    /// An operator disabled the job.
    #[error("it is disabled; `sudo tandem service install` enables and starts it")]
    Disabled,
    /// launchd refused a step again and again.
    #[error("launchd refused `{step}` {tries} times: {last}")]
    Refused {
        /// As launchctl names it.
        step: &'static str,
        /// How often it was tried.
        tries: u32,
        /// What it said last.
        last: String,
    },
    /// It is loaded and does not stay up.
    #[error(
        "it was started and does not stay up (last end: {last_end}); \
         /var/log/tandem/supervise.log says why"
    )]
    DoesNotStay {
        /// How it ended last.
        last_end: String,
    },
    /// It has no process, and launchd does not let go of it.
    #[error("launchd still has it loaded, without a process, {waited_s} s after it was unloaded")]
    StillLoaded {
        /// For how long it was waited.
        waited_s: u64,
    },
    /// It was asked to end and has not. Nothing was killed.
    #[error(
        "process {pid} still runs {waited_s} s after SIGTERM, and nothing was killed, because that \
         may strand the model's memory until a reboot; `tandem status` shows what it waits for. \
         Let it end and run this again, or reboot: sudo shutdown -r now"
    )]
    Wedged {
        /// The supervisor.
        pid: u32,
        /// For how long it was waited.
        waited_s: u64,
    },
}

/// What was done and seen since the command began.
#[derive(Debug, Default)]
pub(super) struct Past {
    tries: [u32; 6],
    last_refusal: String,
    /// The process that was sent SIGTERM.
    terminated: Option<u32>,
    was_enabled: bool,
    was_booted_out: bool,
    unclear: u32,
    /// For how long the same thing is waited for.
    waited: Duration,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The goal is reached.
    Done,
    /// One step, then look again.
    Do(Step),
    /// Look again after a pause.
    Wait,
    /// No more is tried.
    GiveUp(Why),
}

/// Decides. `past` is what this command did so far.
pub(super) fn next(goal: Goal, seen: &Seen, past: &Past) -> Next {
    let job = match &seen.job {
        Known::Unclear(why) if past.unclear >= TRIES_MAX => {
            return Next::GiveUp(Why::Unclear(why.clone()));
        }
        Known::Unclear(_) => return Next::Wait,
        Known::No => None,
        Known::Yes(job) => Some(job),
    };
    match goal {
        Goal::Up { at_boot } => up(at_boot, job, seen.is_disabled, past),
        Goal::Down { for_ever } => down(for_ever, job, seen.is_disabled, past),
    }
}

fn up(at_boot: bool, job: Option<&Job>, is_disabled: Option<bool>, past: &Past) -> Next {
    // Before the job is loaded, for a disabled one can't be; and also where nobody disabled it, for
    // what launchd does not list it takes from the property list.
    if at_boot && !past.was_enabled && (job.is_none() || is_disabled != Some(false)) {
        return past.step(Step::Enable);
    }
    match job {
        None if is_disabled == Some(true) && !past.was_enabled => Next::GiveUp(Why::Disabled),
        None => past.step(Step::Bootstrap),
        Some(job) if job.pid.is_some() => Next::Done,
        Some(job) if past.waited >= START_MAX => {
            Next::GiveUp(Why::DoesNotStay { last_end: last_end(job) })
        }
        // launchd starts it by itself, once its throttle allows.
        Some(job) if job.state == State::SpawnScheduled => Next::Wait,
        // It starts by itself (`RunAtLoad`), a moment after it is loaded.
        Some(_) if past.tries_of(Step::Bootstrap) > 0 && past.waited < SETTLE => Next::Wait,
        // Asked once: the process is seen a moment later, or ended at once.
        Some(_) if past.tries_of(Step::Kickstart) > 0 && past.last_refusal.is_empty() => Next::Wait,
        Some(_) => past.step(Step::Kickstart),
    }
}

fn down(for_ever: bool, job: Option<&Job>, is_disabled: Option<bool>, past: &Past) -> Next {
    let Some(job) = job else {
        return match for_ever && is_disabled != Some(true) {
            true => past.step(Step::Disable),
            false => Next::Done,
        };
    };
    let Some(pid) = job.pid else {
        return match past.was_booted_out {
            false => past.step(Step::Bootout),
            true if past.waited < limit(job) => Next::Wait,
            true => Next::GiveUp(Why::StillLoaded { waited_s: past.waited.as_secs() }),
        };
    };
    // A supervisor that crashed meanwhile was started again, and knows nothing of the first signal.
    if past.terminated != Some(pid) {
        return past.step(Step::Terminate);
    }
    if past.waited < limit(job) {
        return Next::Wait;
    }
    Next::GiveUp(Why::Wedged { pid, waited_s: past.waited.as_secs() })
}

/// How long its process may take to end.
fn limit(job: &Job) -> Duration {
    let exit_timeout_s = job.exit_timeout_s.filter(|s| *s > 0).unwrap_or(EXIT_TIMEOUT_S);
    // Our own is the longest that a model takes; launchd's default of 5 s is too short for any.
    Duration::from_secs(exit_timeout_s.max(EXIT_TIMEOUT_S)) + MARGIN
}

/// How a job ended last, in words.
pub(super) fn last_end(job: &Job) -> String {
    if let Some(reason) = &job.last_exit_reason {
        return reason.clone();
    }
    if let Some(signal) = &job.last_signal {
        return format!("signal {signal}");
    }
    match job.last_exit_code {
        Some(ExitCode::Code(code)) => format!("exit code {code}"),
        Some(ExitCode::Never) => "it never ended".to_owned(),
        None => "not known".to_owned(),
    }
}

impl Step {
    /// As launchctl names it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Bootstrap => "bootstrap",
            Self::Kickstart => "kickstart",
            Self::Terminate => "kill SIGTERM",
            Self::Bootout => "bootout",
        }
    }
}

impl Past {
    fn tries_of(&self, step: Step) -> u32 {
        self.tries.get(step as usize).copied().unwrap_or(TRIES_MAX)
    }

    fn step(&self, step: Step) -> Next {
        match self.tries_of(step) {
            tries if tries < TRIES_MAX => Next::Do(step),
            tries => Next::GiveUp(Why::Refused {
                step: step.name(),
                tries,
                last: self.last_refusal.clone(),
            }),
        }
    }

    /// Notes a step and what launchd answered. What is waited for is another thing from now on.
    fn note(&mut self, step: Step, seen: &Seen, answer: Result<(), String>) {
        if let Some(tries) = self.tries.get_mut(step as usize) {
            *tries += 1;
        }
        match answer {
            Err(why) => self.last_refusal = why,
            Ok(()) => {
                self.last_refusal.clear();
                self.waited = Duration::ZERO;
                match step {
                    Step::Enable => self.was_enabled = true,
                    Step::Bootout => self.was_booted_out = true,
                    Step::Terminate => {
                        if let Known::Yes(job) = &seen.job {
                            self.terminated = job.pid;
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

/// launchd as the loop needs it.
pub(super) trait Launchd {
    /// How the job is now.
    fn look(&self) -> Seen;
    /// Asks for a step; the answer of one that was refused.
    fn ask(&self, step: Step) -> Result<(), String>;
    /// Lets time pass.
    fn pause(&self, pause: Duration);
    /// Says what is done or waited for.
    fn tell(&self, what: &str);
}

/// Looks and acts until the goal is reached or can't be. Ends: every step has a number of tries, and
/// every wait a limit.
pub(super) fn reach(goal: Goal, launchd: &impl Launchd) -> Result<(), Why> {
    let mut past = Past::default();
    let mut told = Duration::ZERO;
    loop {
        let seen = launchd.look();
        past.unclear = match seen.job {
            Known::Unclear(_) => past.unclear + 1,
            _ => 0,
        };
        match next(goal, &seen, &past) {
            Next::Done => return Ok(()),
            Next::GiveUp(why) => return Err(why),
            Next::Do(step) => {
                let answer = launchd.ask(step);
                match &answer {
                    Ok(()) if step == Step::Terminate => {
                        launchd
                            .tell("asked to end; running requests end, then the model is unloaded");
                    }
                    Ok(()) => launchd.tell(step.name()),
                    Err(why) => launchd.tell(&format!("{} was refused: {why}", step.name())),
                }
                if answer.is_err() {
                    launchd.pause(PAUSE);
                }
                past.note(step, &seen, answer);
                told = Duration::ZERO;
            }
            Next::Wait => {
                launchd.pause(PAUSE);
                past.waited += PAUSE;
                if past.waited >= told + TELL_PERIOD {
                    told = past.waited;
                    launchd.tell(&format!("still waiting, {} s", past.waited.as_secs()));
                }
            }
        }
    }
}
