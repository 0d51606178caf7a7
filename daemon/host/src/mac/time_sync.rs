//! The clock: `/usr/sbin/systemsetup -getusingnetworktime`.
//!
//! Source: systemsetup(8). It tells that the system follows a time server, not how far it is off.

use tandem_policy::invariant::Found;

use super::{TEXT_BYTES_MAX, Unparsed};

const TOOL: &str = "systemsetup -getusingnetworktime";

/// Whether the clock follows a time server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkTime {
    /// `Network Time: On`.
    On,
    /// `Network Time: Off`.
    Off,
}

/// Reads the whole answer.
///
/// # Errors
/// Anything else, such as the refusal to a user who is not an administrator.
pub fn parse(text: &str) -> Result<NetworkTime, Unparsed> {
    Unparsed::bound(TOOL, text.len(), TEXT_BYTES_MAX)?;
    match text.trim() {
        "Network Time: On" => Ok(NetworkTime::On),
        "Network Time: Off" => Ok(NetworkTime::Off),
        other => Err(Unparsed::form(TOOL, "`Network Time: On` or `Off`", other)),
    }
}

impl NetworkTime {
    /// For `ClockSynchronised`.
    pub fn clock_synchronised(self) -> Found {
        Found::Flag(self == Self::On)
    }
}
