//! Preferences: `/usr/bin/defaults read DOMAIN KEY`, and the set that governs software updates.
//!
//! Source: defaults(1): the value on standard output; for a key that is not set, exit status 1 and
//! a sentence on standard error.

use tandem_policy::invariant::Found;

use super::{TEXT_BYTES_MAX, Unparsed};

const TOOL: &str = "defaults read";

/// A preference that is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `0`.
    Off,
    /// `1`.
    On,
    /// The key or the domain is not there; the system's own default holds.
    Unset,
}

/// Reads one answer: standard output, or standard error where the command failed.
///
/// # Errors
/// Neither `0`, `1` nor the sentence for a key that does not exist.
pub fn parse(text: &str) -> Result<Setting, Unparsed> {
    Unparsed::bound(TOOL, text.len(), TEXT_BYTES_MAX)?;
    match text.trim() {
        "0" => Ok(Setting::Off),
        "1" => Ok(Setting::On),
        said if is_unset(said) => Ok(Setting::Unset),
        said => Err(Unparsed::form(TOOL, "`0`, `1` or `… does not exist`", said)),
    }
}

/// The sentence, alone or after one line with the time and the process.
fn is_unset(said: &str) -> bool {
    let sentence = match said.split_once('\n') {
        Some((stamp, rest)) if stamp.contains(" defaults[") => rest,
        _ => said,
    };
    let rest = sentence.strip_prefix("The domain/default pair of (");
    rest.and_then(|rest| rest.strip_suffix(") does not exist")).is_some_and(|r| !r.contains('\n'))
}

/// A preference to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preference {
    /// The domain, as `defaults` wants it.
    pub domain: &'static str,
    /// The key in it.
    pub key: &'static str,
}

const SOFTWARE_UPDATE: &str = "/Library/Preferences/com.apple.SoftwareUpdate";
const COMMERCE: &str = "/Library/Preferences/com.apple.commerce";

/// The preferences that let the system fetch and install updates, or restart for them, by itself.
pub const UPDATE_PREFERENCES: [Preference; 7] = [
    Preference { domain: SOFTWARE_UPDATE, key: "AutomaticCheckEnabled" },
    Preference { domain: SOFTWARE_UPDATE, key: "AutomaticDownload" },
    Preference { domain: SOFTWARE_UPDATE, key: "AutomaticallyInstallMacOSUpdates" },
    Preference { domain: SOFTWARE_UPDATE, key: "CriticalUpdateInstall" },
    Preference { domain: SOFTWARE_UPDATE, key: "ConfigDataInstall" },
    Preference { domain: COMMERCE, key: "AutoUpdate" },
    Preference { domain: COMMERCE, key: "AutoUpdateRestartRequired" },
];

/// For `AutomaticUpdatesOff`: every one of [`UPDATE_PREFERENCES`], in their order, is off. Several
/// of them are on when unset, so unset is not off.
pub fn automatic_updates_off(settings: &[Setting; UPDATE_PREFERENCES.len()]) -> Found {
    Found::Flag(settings.iter().all(|setting| *setting == Setting::Off))
}
