//! The application firewall: `/usr/libexec/ApplicationFirewall/socketfilterfw --getglobalstate`.
//!
//! Source: the tool's own `--help`; its answers carry the state as a sentence and as a number.

use tandem_policy::invariant::Found;

use super::{TEXT_BYTES_MAX, Unparsed};

const TOOL: &str = "socketfilterfw --getglobalstate";

/// What the firewall does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firewall {
    /// State 0: nothing.
    Off,
    /// State 1: lets in what has a rule; asks on the screen for what has none.
    PerApplication,
    /// State 2: refuses all but the system's essential connections.
    BlockAll,
}

/// Reads the whole answer.
///
/// # Errors
/// Another sentence, or one whose number says something else.
pub fn parse(text: &str) -> Result<Firewall, Unparsed> {
    Unparsed::bound(TOOL, text.len(), TEXT_BYTES_MAX)?;
    let wrong = || Unparsed::form(TOOL, "a known sentence and `(State = 0|1|2)`", text);
    let (first, more) = text.trim().split_once('\n').unwrap_or((text.trim(), ""));
    // Newer systems add a line about stealth mode, which drops pings and probes of closed ports only.
    if !more.is_empty()
        && !matches!(more, "Firewall stealth mode is on" | "Firewall stealth mode is off")
    {
        return Err(wrong());
    }
    let (sentence, state) = first.trim_end().split_once(" (State = ").ok_or_else(wrong)?;
    match (sentence, state) {
        ("Firewall is disabled.", "0)") => Ok(Firewall::Off),
        ("Firewall is enabled.", "1)") => Ok(Firewall::PerApplication),
        (blocking, "2)") if blocking.starts_with("Firewall is blocking all non-essential ") => {
            Ok(Firewall::BlockAll)
        }
        _ => Err(wrong()),
    }
}

impl Firewall {
    /// For `FirewallOpen`.
    ///
    /// # Errors
    /// With rules per application this answer does not tell whether ours has one; the list of rules
    /// does ([`super::firewall_rules`]).
    pub fn firewall_open(self) -> Result<Found, Unparsed> {
        match self {
            Self::Off => Ok(Found::Flag(true)),
            Self::BlockAll => Ok(Found::Flag(false)),
            Self::PerApplication => Err(Unparsed::Absent {
                tool: TOOL,
                what: "whether the enabled firewall lets connections to this executable in",
            }),
        }
    }
}
