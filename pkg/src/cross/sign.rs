//! The code signature.
//!
//! The linker signs ad hoc, which is all that the kernel of an Apple-silicon Mac asks for. An identity
//! signs with the hardened runtime, under which a library loads only if the same team signed it: so the
//! libraries are signed too, before the executable that loads them.

use std::path::{Path, PathBuf};

use super::Built;
use super::command::Invocation;

/// How to sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sign {
    /// As the linker did: hashes of the content, nobody's name.
    AdHoc,
    /// With Apple's `codesign` (on a Mac).
    Codesign {
        /// Name or hash of a "Developer ID Application" identity in the keychain.
        identity: String,
    },
    /// With `rcodesign` of the crate apple-codesign (anywhere).
    Rcodesign {
        /// Certificate and key.
        p12_file: PathBuf,
        /// Holds the password of `p12_file`; a file, because arguments are seen by all.
        password_file: PathBuf,
    },
}

/// Signs the libraries, then the executable.
///
/// # Errors
/// The signer is not there or refuses.
pub(super) fn sign(sign: &Sign, built: &Built) -> anyhow::Result<()> {
    for file in built.libraries.iter().chain([&built.executable]) {
        if let Some(invocation) = invocation(sign, file) {
            invocation.run()?;
        }
    }
    Ok(())
}

fn invocation(sign: &Sign, file: &Path) -> Option<Invocation> {
    let invocation = match sign {
        Sign::AdHoc => return None,
        Sign::Codesign { identity } => Invocation::new(["/usr/bin/codesign", "--force", "--sign"])
            .arg(identity)
            .args(["--options", "runtime", "--timestamp"]),
        Sign::Rcodesign { p12_file, password_file } => {
            Invocation::new(["rcodesign", "sign", "--p12-file"])
                .arg(p12_file)
                .arg("--p12-password-file")
                .arg(password_file)
                .args(["--code-signature-flags", "runtime"])
        }
    };
    Some(invocation.arg(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(sign: &Sign) -> Option<Vec<String>> {
        let text = |arg: std::ffi::OsString| arg.into_string().unwrap();
        invocation(sign, Path::new("/out/tandem")).map(|it| it.argv.into_iter().map(text).collect())
    }

    #[test]
    fn an_identity_signs_with_the_hardened_runtime_and_none_leaves_the_linkers_signature() {
        let codesign = Sign::Codesign { identity: "Developer ID Application: A (TEAM)".to_owned() };
        let rcodesign =
            Sign::Rcodesign { p12_file: "/keys/a.p12".into(), password_file: "/keys/a.txt".into() };
        assert_eq!(argv(&Sign::AdHoc), None);
        assert_eq!(
            argv(&codesign).unwrap(),
            [
                "/usr/bin/codesign",
                "--force",
                "--sign",
                "Developer ID Application: A (TEAM)",
                "--options",
                "runtime",
                "--timestamp",
                "/out/tandem"
            ]
        );
        assert_eq!(
            argv(&rcodesign).unwrap(),
            [
                "rcodesign",
                "sign",
                "--p12-file",
                "/keys/a.p12",
                "--p12-password-file",
                "/keys/a.txt",
                "--code-signature-flags",
                "runtime",
                "/out/tandem"
            ]
        );
    }
}
