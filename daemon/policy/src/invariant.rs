//! The names of the host's invariants, and what a reader of one can find.
//!
//! The names are the keys of `[invariants]` in the config, of the status and of the ledger.

pub mod drift;
pub mod judge;
mod table;
pub(crate) mod version;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use table::Row;

/// A property of the host that serving needs.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Invariant {
    /// The Thunderbolt port has the wanted MTU, in bytes.
    LinkMtu,
    /// The Thunderbolt port has an IPv4 address.
    LinkAddress,
    /// The Thunderbolt port is in no bridge.
    LinkUnbridged,
    /// RDMA over Thunderbolt is switched on in the firmware; needed only by an RDMA fabric.
    RdmaEnabled,
    /// The port's own RDMA device is there and active; needed only by an RDMA fabric.
    RdmaActive,
    /// The GPU may wire as much memory as the config says, in MiB.
    WiredLimit,
    /// No volume is indexed by Spotlight.
    SpotlightOff,
    /// The machine does not sleep.
    SleepOff,
    /// Its disks do not sleep.
    DiskSleepOff,
    /// It does not wake for Power Nap.
    PowerNapOff,
    /// Low Power Mode is off.
    LowPowerOff,
    /// It starts again after a power loss.
    RestartAfterPowerLoss,
    /// The system neither installs updates nor restarts for them by itself.
    AutomaticUpdatesOff,
    /// It boots to serving with nobody present: no disk waits for a password.
    UnattendedBoot,
    /// The GPU can be used where the engine runs.
    GpuUsable,
    /// The system is at least of the wanted version.
    OsVersion,
    /// The clock is synchronised.
    ClockSynchronised,
    /// The disk has room, in bytes.
    DiskSpace,
    /// The supervisor and its children may open enough files.
    OpenFiles,
    /// The firewall does not block the engine's and the API's ports.
    FirewallOpen,
}

/// What a reader found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Found {
    /// Whether it is so.
    Flag(bool),
    /// A number, in the unit of the invariant.
    Count(u64),
    /// A text, such as a version.
    Text(String),
    /// Names, such as volumes or addresses.
    Names(Vec<String>),
}

/// Why something is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "why", content = "detail", rename_all = "snake_case")]
pub enum Unknown {
    /// This platform has no such thing, so serving here can't need it.
    NotOnThisPlatform,
    /// The config does not say what to look at; the text names the key.
    NotConfigured(String),
    /// It was not read yet, or too long ago to mean anything.
    Unread,
    /// Reading failed; the system's reason.
    Failed(String),
    /// The probe did not end in its time; it is not run again until the supervisor restarts.
    Hung(String),
}

/// One reading of one invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// It was read.
    Known {
        /// What was found.
        found: Found,
        /// Where: a file, a call or a command, for people.
        source: String,
        /// When, in milliseconds since boot.
        at_ms: u64,
    },
    /// It was not.
    Unknown(Unknown),
}

/// What is done about an invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Mended where it can be; the engine does not start while one that blocks does not hold.
    Enforce,
    /// Only shown.
    Observe,
}

/// What a broken invariant means for serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The engine may not start.
    Blocks,
    /// Serving may go on, but not as it should.
    Degrades,
}

impl Invariant {
    /// Whether only an RDMA fabric needs it: a ring does without.
    pub(crate) const fn is_of_fabric(self) -> bool {
        matches!(self, Self::RdmaEnabled | Self::RdmaActive)
    }
}

impl Sighting {
    /// What was found, if it was read no longer ago than this.
    pub fn fresh(&self, now_ms: u64, age_ms_max: u64) -> Result<&Found, Unknown> {
        match self {
            Self::Known { found, at_ms, .. } if now_ms.saturating_sub(*at_ms) <= age_ms_max => {
                Ok(found)
            }
            Self::Known { .. } => Err(Unknown::Unread),
            Self::Unknown(unknown) => Err(unknown.clone()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
