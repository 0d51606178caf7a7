//! The commands about packages: `pack` and `check`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;

use crate::{cross::Built, pack, sign::Signing};

/// Packs executables that were built before.
#[derive(Args, Debug)]
pub struct Pack {
    /// `tandem` for Apple silicon, signed.
    #[arg(long, value_name = "FILE")]
    executable: PathBuf,
    /// `libmlx.dylib` and `libjaccl.dylib`, signed.
    #[arg(long = "library", value_name = "FILE", required = true, num_args = 1..)]
    libraries: Vec<PathBuf>,
    /// `mlx.metallib`.
    #[arg(long, value_name = "FILE")]
    metallib: PathBuf,
    /// The licences of what others wrote in these files.
    #[arg(long, value_name = "FILE")]
    licenses: PathBuf,
    /// This checkout.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    root: PathBuf,
    #[command(flatten)]
    options: PackOptions,
}

/// Where a package is made and how it is signed.
#[derive(Args, Debug)]
pub struct PackOptions {
    /// Folder for the package; without one, `target/mac` in the checkout.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Sign the package with this "Developer ID Installer" identity of the keychain (on a Mac).
    #[arg(long, value_name = "NAME", conflicts_with = "installer_p12_file")]
    installer_identity: Option<String>,
    /// Have Apple notarise it with the credentials of this notarytool profile (on a Mac).
    #[arg(long, value_name = "NAME", requires = "installer_identity")]
    notary_profile: Option<String>,
    /// Sign the package with this "Developer ID Installer" certificate and key, by rcodesign.
    #[arg(long, value_name = "FILE", requires = "installer_p12_password_file")]
    installer_p12_file: Option<PathBuf>,
    /// File with the password of --installer-p12-file.
    #[arg(long, value_name = "FILE", requires = "installer_p12_file")]
    installer_p12_password_file: Option<PathBuf>,
    /// Have Apple notarise it with this key for App Store Connect, by rcodesign.
    #[arg(long, value_name = "FILE", requires = "installer_p12_file")]
    notary_key_file: Option<PathBuf>,
}

/// Reads a package again and prints what it holds; fails at the first thing that is not in order.
#[derive(Args, Debug)]
pub struct Check {
    /// The package.
    file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Pack {
    /// Makes the package from the checkout and prints its path.
    ///
    /// # Errors
    /// See [`pack::pack`].
    pub fn run(self) -> Result<()> {
        let built = Built {
            executable: self.executable,
            libraries: self.libraries,
            metallib: self.metallib,
            licenses: self.licenses,
        };
        self.options.run(&built, &self.root)
    }
}

impl PackOptions {
    /// Makes the package of these files and prints its path.
    ///
    /// # Errors
    /// See [`pack::pack`].
    pub fn run(&self, built: &Built, root: &Path) -> Result<()> {
        let out = self.out.clone().unwrap_or_else(|| root.join("target/mac"));
        let path = pack::pack(built, root, &out, self.signing()?.as_ref())?;
        println!("{}", path.display());
        Ok(())
    }

    /// How to sign; none: not at all.
    fn signing(&self) -> Result<Option<Signing>> {
        let files = (&self.installer_p12_file, &self.installer_p12_password_file);
        Ok(match (&self.installer_identity, files) {
            (Some(installer), (None, None)) => Some(Signing::Apple {
                installer: installer.clone(),
                notary_profile: self.notary_profile.clone(),
            }),
            (None, (Some(installer), Some(password))) => Some(Signing::Rcodesign {
                installer: installer.clone(),
                password: password.clone(),
                notary_key: self.notary_key_file.clone(),
            }),
            (None, (None, None)) => None,
            _ => bail!("sign with an identity or with a file and its password, not with both"),
        })
    }
}

impl Check {
    /// Looks at the package and prints what it holds.
    ///
    /// # Errors
    /// See [`pack::look`].
    pub fn run(&self) -> Result<()> {
        let report = pack::look(&self.file)?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&report)?);
        } else {
            print!("{}", report.text());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        pack: Pack,
    }

    fn signing(words: &[&str]) -> Result<Option<Signing>> {
        let fixed = "pack --executable e --library libmlx.dylib libjaccl.dylib --metallib m \
             --licenses l --out o";
        let line = Line::try_parse_from(fixed.split_whitespace().chain(words.iter().copied()))?;
        assert_eq!(line.pack.libraries, [Path::new("libmlx.dylib"), Path::new("libjaccl.dylib")]);
        line.pack.options.signing()
    }

    #[test]
    fn a_package_is_signed_by_one_of_two_means_or_not_at_all() {
        assert_eq!(signing(&[]).unwrap(), None);
        assert_eq!(
            signing(&["--installer-identity", "I", "--notary-profile", "P"]).unwrap(),
            Some(Signing::Apple {
                installer: "I".to_owned(),
                notary_profile: Some("P".to_owned())
            })
        );
        let files = ["--installer-p12-file", "c", "--installer-p12-password-file", "p"];
        let rcodesign = |notary_key| {
            Some(Signing::Rcodesign { installer: "c".into(), password: "p".into(), notary_key })
        };
        assert_eq!(signing(&files).unwrap(), rcodesign(None));
        let notary = [&files[..], &["--notary-key-file", "k"]].concat();
        assert_eq!(signing(&notary).unwrap(), rcodesign(Some("k".into())));
    }

    #[test]
    fn means_that_do_not_go_together_are_refused() {
        for words in [
            &["--notary-profile", "P"][..],
            &["--notary-key-file", "k"],
            &["--installer-p12-file", "c"],
            &["--installer-p12-password-file", "p"],
            &["--installer-identity", "I", "--notary-key-file", "k"],
            &[
                "--installer-identity",
                "I",
                "--installer-p12-file",
                "c",
                "--installer-p12-password-file",
                "p",
            ],
        ] {
            assert!(signing(words).is_err(), "{words:?}");
        }
    }
}
