//! What the world looks like, as far as it is known.

use tandem_wire::{Vitals, exit};

/// A value that was read, or was not. Unknown is not healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading<T> {
    /// Read this long ago.
    Known {
        /// What was read.
        value: T,
        /// Milliseconds since.
        age_ms: u64,
    },
    /// Not read, not readable, or read too long ago to mean anything.
    Unknown,
}

impl<T: Copy> Reading<T> {
    /// The value, if it is known and no older than this.
    pub fn fresh(&self, age_ms_max: u64) -> Option<T> {
        match self {
            Self::Known { value, age_ms } if *age_ms <= age_ms_max => Some(*value),
            _ => None,
        }
    }
}

/// All that policy looks at.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// Every rank of the config, in order.
    pub ranks: Vec<RankSeen>,
    /// The gateway.
    pub gateway: GatewaySeen,
    /// How often the supervisor was asked to end (SIGTERM, SIGINT).
    pub terminations: u32,
}

/// One rank.
#[derive(Clone, Debug, PartialEq)]
pub struct RankSeen {
    /// Its process.
    pub process: Process,
    /// Its phase, as it pushes it; `None` while its socket is not connected.
    pub phase: Option<tandem_wire::Phase>,
    /// Its own account of itself, asked for once a second.
    pub vitals: Option<Vitals>,
}

/// The gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewaySeen {
    /// Its process; the epoch of a gateway is 0, and 1 if an earlier supervisor started it.
    pub process: Process,
    /// Whether its `/health` says that it serves.
    pub ready: Reading<bool>,
}

/// A child process. What ended stays visible until the next start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Process {
    /// None was started.
    Never,
    /// It runs.
    Running {
        /// Process id.
        pid: u32,
        /// The epoch it belongs to.
        epoch: u64,
    },
    /// It ran and is gone.
    Ended {
        /// The epoch it belonged to.
        epoch: u64,
        /// How.
        how: Ended,
    },
}

impl Process {
    /// Whether it runs.
    pub const fn is_running(&self) -> bool {
        matches!(self, Self::Running { .. })
    }
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With an exit code.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// It could not be started; the system's reason.
    NotStarted(String),
    /// It was not our child, so nobody told us.
    Unseen,
}

impl Ended {
    /// Whether starting again could end differently.
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::Code(code) if !exit::is_retryable(*code))
    }

    /// The exit code, if there is one.
    pub const fn code(&self) -> Option<i32> {
        match self {
            Self::Code(code) => Some(*code),
            _ => None,
        }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code} ({})", exit::meaning(*code)),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::NotStarted(reason) => write!(f, "could not be started: {reason}"),
            Self::Unseen => write!(f, "ended unseen"),
        }
    }
}
