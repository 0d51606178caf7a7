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
