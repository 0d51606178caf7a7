use std::cell::{Cell, RefCell};

use super::*;

/// A launchd with one job, whose time passes only in pauses.
#[derive(Default)]
struct Simulated {
    loaded: Cell<bool>,
    pid: Cell<Option<u32>>,
    disabled: Cell<bool>,
    /// What cannot be read of it.
    is_silent: bool,
    /// How many requests of a kind it refuses before it obeys.
    refusals: Cell<(Option<Step>, u32)>,
    /// How long its process takes to end; `None` is for ever.
    ends_after: Option<Duration>,
    /// Whether the process crashes on its way out once, and launchd starts another.
    crashes: Cell<bool>,
    /// Whether a start comes to nothing.
    dies_at_once: bool,
    ending: Cell<Option<Duration>>,
    passed: Cell<Duration>,
    asked: RefCell<Vec<&'static str>>,
    told: RefCell<Vec<String>>,
}

impl Simulated {
    fn running(ends_after: Option<Duration>) -> Self {
        let launchd = Self { ends_after, ..Self::default() };
        launchd.loaded.set(true);
        launchd.pid.set(Some(100));
        launchd
    }

    fn start(&self) {
        self.pid.set(if self.dies_at_once { None } else { Some(101) });
    }

    fn asked(&self) -> String {
        self.asked.borrow().join(" ")
    }
}

impl Launchd for Simulated {
    fn look(&self) -> Seen {
        if self.is_silent {
            return Seen { job: Known::Unclear("silence".into()), is_disabled: None };
        }
        let job = Job {
            target: "system/x".into(),
            state: if self.pid.get().is_some() { State::Running } else { State::NotRunning },
            pid: self.pid.get(),
            runs: None,
            last_exit_code: Some(ExitCode::Code(69)),
            last_exit_reason: None,
            last_signal: None,
            exit_timeout_s: Some(600),
        };
        let job = if self.loaded.get() { Known::Yes(job) } else { Known::No };
        Seen { job, is_disabled: Some(self.disabled.get()) }
    }

    fn ask(&self, step: Step) -> Result<(), String> {
        self.asked.borrow_mut().push(step.name());
        let (refused, left) = self.refusals.get();
        if refused == Some(step) && left > 0 {
            self.refusals.set((refused, left - 1));
            return Err("exit code 5: Input/output error".into());
        }
        match step {
            Step::Enable => self.disabled.set(false),
            Step::Disable => self.disabled.set(true),
            Step::Bootstrap if self.disabled.get() || self.loaded.get() => {
                return Err("exit code 5: Input/output error".into());
            }
            Step::Bootstrap => {
                self.loaded.set(true);
                self.start();
            }
            Step::Kickstart => self.start(),
            Step::Terminate => self.ending.set(self.ends_after.map(|s| s + self.passed.get())),
            Step::Bootout => {
                assert_eq!(self.pid.get(), None, "launchd was given a process to kill");
                self.loaded.set(false);
            }
        }
        Ok(())
    }

    fn pause(&self, pause: Duration) {
        self.passed.set(self.passed.get() + pause);
        assert!(self.passed.get() < Duration::from_secs(3600), "it does not end");
        if self.ending.get().is_some_and(|end| end <= self.passed.get()) {
            self.ending.set(None);
            let again = self.crashes.replace(false);
            self.pid.set(again.then_some(200));
        }
    }

    fn tell(&self, what: &str) {
        self.told.borrow_mut().push(what.into());
    }
}

const INSTALL: Goal = Goal::Up { at_boot: true };
const START: Goal = Goal::Up { at_boot: false };
const STOP: Goal = Goal::Down { for_ever: false };
const UNINSTALL: Goal = Goal::Down { for_ever: true };

#[test]
fn each_command_takes_the_steps_that_its_start_needs_and_none_again() {
    let seconds = |s| Some(Duration::from_secs(s));
    let stopped = |disabled| {
        let launchd = Simulated { ends_after: seconds(3), ..Simulated::default() };
        launchd.disabled.set(disabled);
        launchd
    };
    let loaded = || {
        let launchd = stopped(false);
        launchd.loaded.set(true);
        launchd
    };
    for (goal, launchd, steps) in [
        (INSTALL, stopped(false), "enable bootstrap"),
        (INSTALL, stopped(true), "enable bootstrap"),
        (INSTALL, loaded(), "kickstart"),
        (INSTALL, Simulated::running(seconds(3)), ""),
        (START, stopped(false), "bootstrap"),
        (START, loaded(), "kickstart"),
        (STOP, Simulated::running(seconds(3)), "kill SIGTERM bootout"),
        (STOP, loaded(), "bootout"),
        (STOP, stopped(false), ""),
        (UNINSTALL, Simulated::running(seconds(3)), "kill SIGTERM bootout disable"),
        (UNINSTALL, stopped(true), ""),
    ] {
        assert_eq!(reach(goal, &launchd), Ok(()), "{goal:?} {steps}");
        assert_eq!(launchd.asked(), steps, "{goal:?}");
        assert_eq!(reach(goal, &launchd), Ok(()), "again: {goal:?}");
        assert_eq!(launchd.asked(), steps, "again: {goal:?}");
    }
}

#[test]
fn a_slow_unload_is_waited_for_and_told_and_never_killed() {
    let launchd = Simulated::running(Some(Duration::from_secs(599)));
    assert_eq!(reach(STOP, &launchd), Ok(()));
    assert_eq!(launchd.asked(), "kill SIGTERM bootout");
    let told = launchd.told.borrow();
    assert!(told.iter().any(|what| what == "still waiting, 570 s"), "{told:?}");
}

#[test]
fn what_does_not_end_is_left_running_with_its_job_loaded() {
    let launchd = Simulated::running(None);
    let why = reach(STOP, &launchd).unwrap_err();
    assert_eq!(why, Why::Wedged { pid: 100, waited_s: 615 });
    assert_eq!(launchd.asked(), "kill SIGTERM");
    assert!(launchd.loaded.get());
    assert!(why.to_string().contains("nothing was killed"), "{why}");
}

#[test]
fn a_supervisor_that_crashes_on_its_way_out_is_asked_again() {
    let launchd = Simulated::running(Some(Duration::from_secs(2)));
    launchd.crashes.set(true);
    assert_eq!(reach(STOP, &launchd), Ok(()));
    assert_eq!(launchd.asked(), "kill SIGTERM kill SIGTERM bootout");
}

#[test]
fn a_refused_step_is_tried_again_but_not_for_ever() {
    for (goal, step, launchd) in [
        (INSTALL, Step::Bootstrap, Simulated::default()),
        (INSTALL, Step::Enable, Simulated::default()),
        (STOP, Step::Bootout, Simulated::running(Some(Duration::ZERO))),
        (STOP, Step::Terminate, Simulated::running(Some(Duration::ZERO))),
    ] {
        launchd.refusals.set((Some(step), 3));
        assert_eq!(reach(goal, &launchd), Ok(()), "{step:?}");
        assert_eq!(launchd.asked.borrow().iter().filter(|one| **one == step.name()).count(), 4);
    }
    let launchd = Simulated::default();
    launchd.refusals.set((Some(Step::Bootstrap), u32::MAX));
    let why = reach(INSTALL, &launchd).unwrap_err();
    assert!(matches!(&why, Why::Refused { tries: 10, .. }), "{why:?}");
    assert!(why.to_string().contains("Input/output error"), "{why}");
}

#[test]
fn what_an_operator_disabled_is_enabled_by_install_alone() {
    let launchd = Simulated::default();
    launchd.disabled.set(true);
    assert_eq!(reach(START, &launchd), Err(Why::Disabled));
    assert_eq!(launchd.asked(), "");
}

#[test]
fn one_that_dies_at_once_is_not_told_to_run() {
    let launchd = Simulated { dies_at_once: true, ..Simulated::default() };
    let why = reach(INSTALL, &launchd).unwrap_err();
    assert_eq!(why, Why::DoesNotStay { last_end: "exit code 69".into() });
}

#[test]
fn a_launchd_that_says_nothing_is_asked_for_nothing() {
    for goal in [INSTALL, START, STOP, UNINSTALL] {
        let launchd = Simulated { is_silent: true, ..Simulated::default() };
        assert_eq!(reach(goal, &launchd), Err(Why::Unclear("silence".into())));
        assert_eq!(launchd.asked(), "");
    }
}
