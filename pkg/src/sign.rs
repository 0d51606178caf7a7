//! Signing and notarising a package: which commands, word for word. None runs unless it is asked for.
//!
//! Two sets of tools do it. Apple's, on a Mac, take an identity from a keychain; `rcodesign` (crate
//! apple-codesign) takes a certificate from a file and runs on Linux as well. The certificate is a "Developer
//! ID Installer" one. What is *in* the package is signed before, with a "Developer ID Application" one, by
//! the build: contents can't change once the package is made.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

/// Longest wait for Apple's notary, in seconds. It mostly answers within minutes.
const NOTARY_MAX_S: u32 = 3600;

/// A command and its arguments.
pub type Argv = Vec<OsString>;

/// With what to sign.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Signing {
    /// `productsign`, `notarytool` and `stapler`.
    Apple {
        /// Identity "Developer ID Installer: NAME (TEAM)" or its SHA-1.
        installer: String,
        /// Profile that `notarytool store-credentials` saved; none: not notarised.
        notary_profile: Option<String>,
    },
    /// `rcodesign`.
    Rcodesign {
        /// PKCS #12 file with the "Developer ID Installer" certificate and key.
        installer: PathBuf,
        /// File with its password: never an argument, which every user could see.
        password: PathBuf,
        /// Key of App Store Connect's API as `rcodesign encode-app-store-connect-api-key` writes
        /// it; none: not notarised.
        notary_key: Option<PathBuf>,
    },
}

impl Signing {
    /// Signs a package; the signed one is another file.
    #[must_use]
    pub fn package(&self, unsigned: &Path, signed: &Path) -> Argv {
        match self {
            Signing::Apple { installer, .. } => argv([
                &"/usr/bin/productsign",
                &"--timestamp",
                &"--sign",
                installer,
                &absolute(unsigned),
                &absolute(signed),
            ]),
            Signing::Rcodesign { installer, password, .. } => argv([
                &"rcodesign",
                &"sign",
                &"--p12-file",
                installer,
                &"--p12-password-file",
                password,
                &absolute(unsigned),
                &absolute(signed),
            ]),
        }
    }

    /// Has Apple's notary look at a signed package and staples its ticket to it, so that a Mac without a
    /// network can check it. No commands where no notary was asked for.
    #[must_use]
    pub fn notarize(&self, signed: &Path) -> Vec<Argv> {
        let signed = absolute(signed);
        match self {
            Signing::Apple { notary_profile: Some(profile), .. } => vec![
                argv([
                    &"/usr/bin/xcrun",
                    &"notarytool",
                    &"submit",
                    &"--keychain-profile",
                    profile,
                    &"--wait",
                    &"--timeout",
                    &format!("{NOTARY_MAX_S}s"),
                    &signed,
                ]),
                argv([&"/usr/bin/xcrun", &"stapler", &"staple", &signed]),
            ],
            Signing::Rcodesign { notary_key: Some(key), .. } => vec![argv([
                &"rcodesign",
                &"notary-submit",
                &"--api-key-file",
                key,
                &"--max-wait-seconds",
                &NOTARY_MAX_S.to_string(),
                &"--staple",
                &signed,
            ])],
            Signing::Apple { notary_profile: None, .. }
            | Signing::Rcodesign { notary_key: None, .. } => Vec::new(),
        }
    }
}

/// Runs a command with our own terminal.
///
/// # Errors
/// When it can't be started or fails.
pub fn run(argv: &Argv) -> Result<()> {
    let (program, arguments) = argv.split_first().context("there is no command to run")?;
    let shown = program.display();
    let status = Command::new(program)
        .args(arguments)
        .status()
        .with_context(|| format!("{shown} can't be run; is it installed?"))?;
    ensure!(status.success(), "{shown} failed: {status}");
    Ok(())
}

/// A word of a command.
trait Word {
    fn word(&self) -> OsString;
}

impl Word for &str {
    fn word(&self) -> OsString {
        OsString::from(self)
    }
}

impl Word for String {
    fn word(&self) -> OsString {
        OsString::from(self)
    }
}

impl Word for PathBuf {
    fn word(&self) -> OsString {
        self.clone().into_os_string()
    }
}

fn argv<const N: usize>(words: [&dyn Word; N]) -> Argv {
    words.iter().map(|word| word.word()).collect()
}

/// A path that no tool takes for an option.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| Path::new("./").join(path))
}

#[cfg(test)]
mod tests;
