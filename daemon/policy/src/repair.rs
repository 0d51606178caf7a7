//! What the supervisor can set on the host.

use serde::{Deserialize, Serialize};

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
