//! Disk encryption: `/usr/bin/fdesetup status`.
//!
//! Source: fdesetup(8). With FileVault on, the data volume, and with it `/Library/LaunchDaemons`,
//! stays locked after a boot until somebody gives a password: nothing of ours starts.

use tandem_policy::invariant::Found;

use super::{TEXT_BYTES_MAX, Unparsed};

const TOOL: &str = "fdesetup status";

/// Where FileVault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileVault {
    /// `FileVault is Off.`
    Off,
    /// `FileVault is On.`
    On,
    /// `Encryption in progress: …`, with or without one of the lines above.
    Encrypting,
}

/// Reads the whole answer.
///
/// # Errors
/// Anything but the three forms. A decryption in progress and an enabling that waits for a log-in
/// are such: what the next boot will ask is not known.
pub fn parse(text: &str) -> Result<FileVault, Unparsed> {
    Unparsed::bound(TOOL, text.len(), TEXT_BYTES_MAX)?;
    let mut found = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let next = match line {
            "FileVault is Off." => FileVault::Off,
            "FileVault is On." => FileVault::On,
            _ if line.starts_with("Encryption in progress") => FileVault::Encrypting,
            other => return Err(Unparsed::form(TOOL, "`FileVault is On.` or `Off.`", other)),
        };
        found = match (found, next) {
            (Some(FileVault::On | FileVault::Off), FileVault::On | FileVault::Off) => {
                return Err(Unparsed::form(TOOL, "one state", text));
            }
            (_, FileVault::Encrypting) | (Some(FileVault::Encrypting), _) => {
                Some(FileVault::Encrypting)
            }
            (None, next) => Some(next),
        };
    }
    found.ok_or_else(|| Unparsed::form(TOOL, "`FileVault is On.` or `Off.`", text))
}

impl FileVault {
    /// For `UnattendedBoot`: only a disk that is not encrypted starts with nobody present.
    pub fn unattended_boot(self) -> Found {
        Found::Flag(self == Self::Off)
    }
}
