//! Making the system reboot: the platform's own ways, the gentlest first.
//!
//! On macOS `shutdown -r now` has launchd end every job in order. One process that can't end, such as
//! one inside a driver, stalls that for minutes; a plain `reboot(2)` is then refused with `EBUSY`, and
//! only the quick one, which asks nobody, still goes (xnu, `reboot_kernel` in `bsd/kern/kern_shutdown.c`).

// One call into libSystem, on macOS only.
#![cfg_attr(target_os = "macos", allow(unsafe_code))]

use std::{
    fmt, io,
    process::{Child, Command, Stdio},
};

/// One way to reboot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RebootStep {
    /// Run a program with these arguments: the first word is its path.
    Run(&'static [&'static str]),
    /// Flush the disks and reboot, whatever still runs; where that is refused, by these words.
    Quick(&'static [&'static str]),
}

impl fmt::Display for RebootStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(words) => f.write_str(&words.join(" ")),
            Self::Quick(words) => write!(f, "reboot(RB_QUICK), else {}", words.join(" ")),
        }
    }
}

/// The ways of macOS. Both programs are there by these paths in every version (`shutdown(8)`,
/// `reboot(8)`; `-q` is its own name of `RB_QUICK`).
const MACOS: [RebootStep; 2] =
    [RebootStep::Run(&["/sbin/shutdown", "-r", "now"]), RebootStep::Quick(&["/sbin/reboot", "-q"])];

const LADDER: &[RebootStep] = if cfg!(target_os = "macos") { &MACOS } else { &[] };

/// The way that an attempt takes, counted from 0; beyond the last it stays with the hardest. `None` where
/// the platform has no way of its own.
pub fn reboot_step(attempt: u32) -> Option<RebootStep> {
    step_of(LADDER, attempt)
}

fn step_of(ladder: &[RebootStep], attempt: u32) -> Option<RebootStep> {
    let last = ladder.len().checked_sub(1)?;
    ladder.get(usize::try_from(attempt).unwrap_or(last).min(last)).copied()
}

/// Asks the system to reboot. A tool that was started for it is returned, to be waited for: how it ends
/// tells whether the system took the request. A quick reboot flushes the disks first, which can take any
/// time, and does not return.
///
/// # Errors
/// Why the system refused.
pub fn reboot(step: RebootStep) -> io::Result<Option<Child>> {
    match step {
        RebootStep::Run(words) => start(words).map(Some),
        RebootStep::Quick(words) => quick().map(|()| None).or_else(|refused| {
            let both = |error: io::Error| {
                io::Error::new(error.kind(), format!("reboot(2): {refused}; {error}"))
            };
            start(words).map(Some).map_err(both)
        }),
    }
}

fn start(words: &[&str]) -> io::Result<Child> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // No pipe: it would break when this process ends in the shutdown, and take the tool with it.
    Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("can't run {program}: {error}")))
}

/// `reboot(RB_QUICK)`.
#[cfg(target_os = "macos")]
fn quick() -> io::Result<()> {
    /// "quick and ungraceful reboot with file system caches flushed": xnu, `bsd/sys/reboot.h`.
    const RB_QUICK: libc::c_int = 0x400;

    // The libc crate has no declaration of it for macOS; this is the one of `bsd/sys/reboot.h`.
    unsafe extern "C" {
        fn reboot(howto: libc::c_int) -> libc::c_int;
    }
    // SAFETY: it takes a number and touches no memory of this process.
    match unsafe { reboot(RB_QUICK) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(not(target_os = "macos"))]
fn quick() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_attempt_is_orderly_and_every_later_one_is_quick() {
        let words = |attempt| step_of(&MACOS, attempt).map(|step| step.to_string());
        assert_eq!(words(0).as_deref(), Some("/sbin/shutdown -r now"));
        for attempt in [1, 2, 3, u32::MAX] {
            assert_eq!(
                words(attempt).as_deref(),
                Some("reboot(RB_QUICK), else /sbin/reboot -q"),
                "attempt {attempt}"
            );
        }
        assert_eq!(step_of(&[], 0), None, "a platform without a way has none at any attempt");
    }

    #[test]
    fn programs_are_named_by_their_whole_path() {
        for RebootStep::Run(words) | RebootStep::Quick(words) in MACOS {
            assert!(
                words.first().is_some_and(|program| program.starts_with("/sbin/")),
                "{words:?}"
            );
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_tool_is_started_and_where_the_quick_way_is_refused_too() {
        assert_eq!(reboot_step(0), None, "no reboot of a Linux machine that nobody configured");
        const TRUE: RebootStep = RebootStep::Run(&["/bin/true"]);
        const QUICK: RebootStep = RebootStep::Quick(&["/bin/true"]);
        for step in [TRUE, QUICK] {
            let mut tool = reboot(step).unwrap().unwrap();
            assert!(tool.wait().unwrap().success(), "{step}");
        }
        let both = reboot(RebootStep::Quick(&["/nowhere/reboot"])).unwrap_err().to_string();
        assert!(both.starts_with("reboot(2): ") && both.contains("/nowhere/reboot"), "{both}");
    }
}
