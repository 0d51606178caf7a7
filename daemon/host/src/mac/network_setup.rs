//! A port's MTU: `/usr/sbin/networksetup -getMTU PORT`.
//!
//! Source: networksetup(8).

use tandem_policy::invariant::Found;

use super::{TEXT_BYTES_MAX, Unparsed};

const TOOL: &str = "networksetup -getMTU";

/// The MTU of one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mtu {
    /// In use, in bytes.
    pub active_bytes: u64,
    /// Stored for this network location, in bytes; what the next boot sets.
    pub setting_bytes: u64,
}

/// Reads `Active MTU: N (Current Setting: N)`.
///
/// # Errors
/// Anything else, such as the complaint about a port that is not there.
pub fn parse(text: &str) -> Result<Mtu, Unparsed> {
    Unparsed::bound(TOOL, text.len(), TEXT_BYTES_MAX)?;
    numbers(text.trim())
        .ok_or_else(|| Unparsed::form(TOOL, "`Active MTU: N (Current Setting: N)`", text))
}

fn numbers(line: &str) -> Option<Mtu> {
    let line = line.strip_prefix("Active MTU: ")?.strip_suffix(')')?;
    let (active, setting) = line.split_once(" (Current Setting: ")?;
    Some(Mtu { active_bytes: active.parse().ok()?, setting_bytes: setting.parse().ok()? })
}

impl Mtu {
    /// For `LinkMtu`: the MTU in use, in bytes.
    pub fn link_mtu(&self) -> Found {
        Found::Count(self.active_bytes)
    }
}
