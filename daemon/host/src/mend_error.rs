//! Why a setting could not be made.

use std::io;

/// Why a setting could not be made, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum MendError {
    /// This platform has no such setting.
    #[error("this platform has no {0} to set: set it to \"observe\" in [invariants]")]
    NotOnThisPlatform(String),
    /// The interface is not there.
    #[error("there is no interface {0}: connect its cable, or correct host.link")]
    NoInterface(String),
    /// Only root may.
    #[error("setting {0} needs root: run the supervisor as root")]
    NeedsRoot(String),
    /// The driver refuses the MTU.
    #[error(
        "{link} does not take an MTU of {mtu_bytes} bytes: set host.link_mtu_bytes to one that it \
         takes"
    )]
    Mtu {
        /// The interface.
        link: String,
        /// What was asked of it.
        mtu_bytes: u32,
    },
    /// More open files are wanted than the system grants; the limit is now what it grants.
    #[error(
        "{count} open files are wanted and the hard limit is {hard}: raise it where the supervisor \
         is started (LimitNOFILE, HardResourceLimits)"
    )]
    OpenFiles {
        /// How many are wanted.
        count: u64,
        /// How many can be had.
        hard: u64,
    },
    /// The interface has no hardware address to derive an address from.
    #[error("{0} has no hardware address to derive a link-local address from: give it an address")]
    NoHardwareAddress(String),
    /// A step of a setting that uses a tool failed.
    #[error(
        "{step} failed ({reason}); {done}: run `{command}` by hand to see what stands in the way"
    )]
    Step {
        /// What it does.
        step: String,
        /// The tool with its arguments.
        command: String,
        /// What the tool said, or why it said nothing.
        reason: String,
        /// What of the setting is done.
        done: &'static str,
    },
    /// It was set, and what is found then is something else.
    #[error(
        "{what} was set to {wanted} and is {found}; {done}: the system or a management profile keeps \
         it so (`sudo profiles list`), so ask for what it takes, or set it to \"observe\" in \
         [invariants]"
    )]
    NotTaken {
        /// What was set.
        what: String,
        /// To what.
        wanted: String,
        /// What it is.
        found: String,
        /// What of the setting is done.
        done: &'static str,
    },
    /// This Mac does not print the power key, so nothing would tell whether it is set.
    #[error("this Mac has no power key {0}: set its invariant to \"observe\" in [invariants]")]
    UnknownPowerKey(String),
    /// The system would be left with too little.
    #[error(
        "the GPU may not wire {mib} MiB of this machine's memory, for the system needs the rest: set \
         host.wired_limit_mib to at most {most_mib}"
    )]
    TooMuchWired {
        /// What was asked for, in MiB.
        mib: u64,
        /// The most that leaves enough, in MiB.
        most_mib: u64,
    },
    /// The system refused.
    #[error("setting {what} failed ({source}): set it by hand to see what stands in the way")]
    System {
        /// What was to be set.
        what: String,
        /// Its reason.
        source: io::Error,
    },
}

impl MendError {
    /// The error for what the system answered.
    pub(crate) fn system(what: impl Into<String>, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::PermissionDenied {
            return Self::NeedsRoot(what.into());
        }
        Self::System { what: what.into(), source }
    }
}
