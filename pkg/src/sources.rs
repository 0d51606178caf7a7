//! The files of this tree that go into the package as they are.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::{layout, payload::read};

/// Most bytes of one of them: they are short texts.
const SOURCE_MAX_BYTES: u64 = 1 << 20;

/// Contents of the files, read once.
#[derive(Clone, Debug)]
pub struct Sources {
    /// `config/tandem.toml` with its logs kept in [`layout::LOGS`]: what an admin's config begins as.
    pub config: Vec<u8>,
    /// `LICENSE`.
    pub license: Vec<u8>,
    /// `launchd/io.tandem.supervise.plist`.
    pub job: Vec<u8>,
    /// `pkg/newsyslog/tandem.conf`.
    pub newsyslog: Vec<u8>,
    /// `pkg/scripts/uninstall`.
    pub uninstall: Vec<u8>,
    /// `pkg/scripts/preinstall`: run by the Installer, as root, before anything is replaced.
    pub preinstall: Vec<u8>,
    /// `pkg/scripts/postinstall`: run by the Installer, as root, when all is in its place.
    pub postinstall: Vec<u8>,
    /// `pkg/resources/welcome.html`: the Installer's first page.
    pub welcome: Vec<u8>,
    /// `pkg/resources/conclusion.html`: the Installer's last page.
    pub conclusion: Vec<u8>,
}

impl Sources {
    /// Reads them below the repository's root.
    ///
    /// # Errors
    /// When one can't be read, or is not what it is for.
    pub fn read(root: &Path) -> Result<Sources> {
        let at = |path: &str| read(&root.join(path), SOURCE_MAX_BYTES);
        let sources = Sources {
            config: for_mac(at("config/tandem.toml")?)?,
            license: at("LICENSE")?,
            job: at("launchd/io.tandem.supervise.plist")?,
            newsyslog: at("pkg/newsyslog/tandem.conf")?,
            uninstall: at("pkg/scripts/uninstall")?,
            preinstall: at("pkg/scripts/preinstall")?,
            postinstall: at("pkg/scripts/postinstall")?,
            welcome: at("pkg/resources/welcome.html")?,
            conclusion: at("pkg/resources/conclusion.html")?,
        };
        sources.check()?;
        Ok(sources)
    }

    /// Checks what would only fail on a Mac, after the Installer said that all went well.
    ///
    /// # Errors
    /// When the launchd job does not run what the package installs, or a script is none.
    pub fn check(&self) -> Result<()> {
        let job = plist::from_bytes::<plist::Dictionary>(&self.job)
            .context("the launchd job is no property list")?;
        let label = job.get("Label").and_then(plist::Value::as_string);
        ensure!(label == Some(layout::LABEL), "the launchd job's label is {label:?}");
        let arguments = job.get("ProgramArguments").and_then(plist::Value::as_array);
        let arguments: Vec<&str> =
            arguments.into_iter().flatten().filter_map(plist::Value::as_string).collect();
        ensure!(
            arguments.first() == Some(&layout::EXECUTABLE) && arguments.contains(&layout::CONFIG),
            "the launchd job runs {arguments:?}, not {} with {}",
            layout::EXECUTABLE,
            layout::CONFIG
        );
        for (name, script) in [
            ("preinstall", &self.preinstall),
            ("postinstall", &self.postinstall),
            ("uninstall", &self.uninstall),
        ] {
            // The interpreters that every Mac has; an unknown one fails the whole installation.
            let run = ["#!/bin/sh\n", "#!/bin/bash\n", "#!/bin/zsh\n"];
            ensure!(
                run.iter().any(|first| script.starts_with(first.as_bytes())),
                "{name} does not begin with one of {run:?}"
            );
        }
        Ok(())
    }
}

/// The config with what is another default where the package is installed.
fn for_mac(config: Vec<u8>) -> Result<Vec<u8>> {
    const NONE: &str = "\nlog_dir = \"\"\n";
    let config = String::from_utf8(config).context("config/tandem.toml is not UTF-8")?;
    let (before, after) =
        config.split_once(NONE).context("config/tandem.toml has no line log_dir = \"\"")?;
    Ok(format!("{before}\nlog_dir = \"{}\"\n{after}", layout::LOGS).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_kept_where_they_are_rotated_and_removed() {
        let config = for_mac(b"# a\nlog_dir = \"\"\nx = 1\n".to_vec()).unwrap();
        assert_eq!(config, b"# a\nlog_dir = \"/var/log/tandem\"\nx = 1\n");
        assert!(for_mac(b"x = 1\n".to_vec()).is_err());
    }
}
