//! What the world looks like, as far as it is known.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tandem_wire::{Vitals, exit};

use crate::{
    ThunderboltPort,
    fault::Rung,
    invariant::{Invariant, Sighting},
    pair::PeerSeen,
};

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
    /// Every rank of this node, in the order of [`crate::Setup::own_ranks`].
    pub ranks: Vec<RankSeen>,
    /// The gateway.
    pub gateway: GatewaySeen,
    /// How often the supervisor was asked to end (SIGTERM, SIGINT).
    pub terminations: u32,
    /// What was read of the host. A missing one was not read yet.
    pub invariants: BTreeMap<Invariant, Sighting>,
    /// This node's Thunderbolt ports; `None` while they are not read, or where there are none to read.
    pub thunderbolt: Option<Vec<ThunderboltPort>>,
    /// The host's memory; `None` if it can't be read.
    pub memory: Option<Memory>,
    /// The model's files.
    pub artifacts: Artifacts,
    /// The fallback model's files; unread where none is configured.
    pub fallback_artifacts: Artifacts,
    /// What is in the model's files; `None` until they are all read.
    pub manifest: Option<ManifestSeen>,
    /// The other nodes, in the config's order.
    pub peers: Vec<PeerSeen>,
    /// Signatures found, oldest first; at most [`EVIDENCE_MAX`].
    pub evidence: Vec<Evidence>,
    /// The last request that was sent to prove serving.
    pub canary: Option<CanarySeen>,
    /// How the gateway's requests ended, but for canaries.
    pub requests: RequestsSeen,
    /// What operators asked for and was not yet obeyed, oldest first.
    pub orders: Vec<Order>,
    /// Why the config file as it is now was refused; `None` while it is the one in force.
    pub config_refused: Option<String>,
    /// Why the last save failed, or why earlier memory was lost; `None` while all is well.
    pub ledger_trouble: Option<String>,
}

impl Observation {
    /// Digest of the manifest of the model's files, if they are all read.
    pub fn manifest_digest(&self) -> Option<&str> {
        self.manifest.as_ref().map(|manifest| manifest.digest.as_str())
    }
}

/// Most signatures that are kept in one observation.
pub const EVIDENCE_MAX: usize = 64;

/// One sample of the host's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// When it was taken, in milliseconds since boot.
    pub at_ms: u64,
    /// All memory, in bytes.
    pub total_bytes: u64,
    /// Wired (on Linux: locked) memory, in bytes.
    pub wired_bytes: u64,
    /// What a new process could have, in bytes.
    pub available_bytes: u64,
    /// Live processes with a footprint of at least `leak.owner_min_mib`, largest first.
    pub owners: Vec<Owner>,
}

/// A live process that may own wired memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its process id.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// The most that it can have wired, in bytes.
    pub footprint_bytes: u64,
}

/// The model's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Artifacts {
    /// Not looked at yet.
    Unread,
    /// All are there.
    Complete {
        /// Size of the weights' files, in bytes.
        weights_bytes: u64,
        /// What this machine's ranks need of its memory to serve them.
        need: Need,
    },
    /// Something is missing or half there.
    Incomplete(String),
}

/// The model's files, all read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestSeen {
    /// Digest of their manifest.
    pub digest: String,
    /// Since when these very files lie there, in milliseconds since boot: at the latest, and if it was a
    /// supervisor's first look, since that one runs.
    pub since_ms: u64,
    /// How they differ from those with which serving was last proven, one file a line; `None` while
    /// it was never proven with this model.
    pub changed: Option<Vec<String>>,
}

/// What this machine's ranks need of its memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// It could not be computed: their share of the weights' files stands in for it.
    Estimated,
    /// So many bytes: weights, the KV cache of one request of the full context, the peak of a step,
    /// and what a process takes.
    Bytes(u64),
    /// More than the machine may ever give: what is needed, what there is, which key to lower.
    TooMuch(String),
}

/// A signature of the catalogue that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The signature's id.
    pub id: String,
    /// The smallest action that mends it.
    pub rung: Rung,
    /// Whether the catalogue counts it to the fabric: what carries data between ranks.
    pub is_of_fabric: bool,
    /// What was found, cut.
    pub text: String,
    /// What an operator can do.
    pub remedy: String,
    /// Where.
    pub source: EvidenceSource,
}

/// The signature of a rank that the kernel killed because memory ran out: where the prefill step is the
/// least already, another start may find more memory.
pub const KILLED_FOR_MEMORY: &str = "killed-for-memory";

/// Where a signature was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EvidenceSource {
    /// In the output, or by the end, of a rank.
    Rank {
        /// Its number.
        rank: u32,
        /// Its epoch.
        epoch: u64,
    },
    /// In the output, or by the end, of the gateway.
    Gateway,
    /// In a crash report of a process of ours or of the system.
    Report {
        /// The report's id: the same report is the same evidence.
        report: String,
    },
    /// In the report of a kernel panic.
    Panic {
        /// The report's id.
        report: String,
        /// The boot that it ended, if the report says so.
        boot: Option<String>,
    },
    /// In a line of the system's own log. Lines are dropped there and anybody's names are in them, so
    /// this is a hint: it is told, and nothing is ever done for it.
    SystemLog {
        /// The process that wrote the line: `kernel` or `launchd`.
        process: String,
    },
}

/// How requests ended, counted since the supervisor started; canaries are none of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestsSeen {
    /// Answered to their end.
    pub answered: u64,
    /// Given up by their clients before.
    pub abandoned: u64,
}

/// A request that was sent to prove serving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanarySeen {
    /// The epoch it was asked for in.
    pub epoch: u64,
    /// Its number within that epoch.
    pub number: u32,
    /// What came of it; `None` while it runs.
    pub outcome: Option<CanaryOutcome>,
    /// When it ended, or began if it runs, in milliseconds since boot.
    pub at_ms: u64,
}

/// What came of a canary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CanaryOutcome {
    /// Tokens came back.
    Answered {
        /// The text, cut.
        text: String,
        /// How many tokens.
        tokens: u32,
    },
    /// The gateway is too busy to take it or to answer it in time (408, 429, 503 or 504): no proof,
    /// and no failure.
    Busy,
    /// The gateway won't answer what is asked, whoever asks (another 4xx), or its answer is none that
    /// can be read: the same requests would be refused after any restart. Why.
    Refused(String),
    /// None came back in time, or an error did.
    Failed(String),
}

/// What an operator asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its number, growing; orders up to [`crate::State::last_order`] are obeyed.
    pub number: u64,
    /// What.
    pub what: OrderKind,
}

/// What operators can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderKind {
    /// End running requests, unload the ranks, and stay so.
    Drain,
    /// Serve again.
    Resume,
    /// Do nothing by yourself: no mending, no restart, no reboot.
    Hold {
        /// Until then, in milliseconds since 1970; `None` is until released.
        until_wall_ms: Option<u64>,
    },
    /// End a hold, an operator's or the supervisor's own.
    Release,
    /// Reboot, now.
    Reboot {
        /// All nodes together, or this one alone.
        all: bool,
        /// Why, for the others and the history.
        reason: String,
    },
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case", deny_unknown_fields)]
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

    /// The epoch that it runs or ended in.
    pub const fn epoch(&self) -> Option<u64> {
        match self {
            Self::Running { epoch, .. } | Self::Ended { epoch, .. } => Some(*epoch),
            Self::Never => None,
        }
    }
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
