//! What the supervisor can set on the host.

use serde::{Deserialize, Serialize};

use crate::invariant::Invariant;

/// One setting to be made. Making it again does no harm.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "repair", rename_all = "snake_case")]
pub enum Repair {
    /// Sets the MTU of an interface, now and, where the platform can, for the next boot.
    LinkMtu {
        /// The interface.
        link: String,
        /// The MTU in bytes.
        mtu_bytes: u32,
    },
    /// Gives an interface a link-local IPv4 address.
    LinkAddress {
        /// The interface.
        link: String,
    },
    /// Takes an interface out of its bridge.
    LinkUnbridged {
        /// The interface.
        link: String,
    },
    /// Sets the memory that the GPU may wire.
    WiredLimit {
        /// In MiB.
        mib: u64,
    },
    /// Turns Spotlight off.
    SpotlightOff {
        /// On these volumes.
        volumes: Vec<String>,
    },
    /// Sets one power key (`pmset -a KEY VALUE`).
    Power {
        /// The key.
        key: String,
        /// The value.
        value: u32,
    },
    /// Turns automatic updates off.
    AutomaticUpdatesOff,
    /// Raises the number of files that this process and its children may open.
    OpenFiles {
        /// At least.
        count: u64,
    },
    /// Turns the network clock on.
    ClockSynchronised,
}

impl Repair {
    /// The invariant that it mends.
    pub fn invariant(&self) -> Invariant {
        match self {
            Self::LinkMtu { .. } => Invariant::LinkMtu,
            Self::LinkAddress { .. } => Invariant::LinkAddress,
            Self::LinkUnbridged { .. } => Invariant::LinkUnbridged,
            Self::WiredLimit { .. } => Invariant::WiredLimit,
            Self::SpotlightOff { .. } => Invariant::SpotlightOff,
            Self::Power { key, .. } => match key.as_str() {
                "disksleep" => Invariant::DiskSleepOff,
                "powernap" => Invariant::PowerNapOff,
                "lowpowermode" => Invariant::LowPowerOff,
                "autorestart" => Invariant::RestartAfterPowerLoss,
                _ => Invariant::SleepOff,
            },
            Self::AutomaticUpdatesOff => Invariant::AutomaticUpdatesOff,
            Self::OpenFiles { .. } => Invariant::OpenFiles,
            Self::ClockSynchronised => Invariant::ClockSynchronised,
        }
    }
}
