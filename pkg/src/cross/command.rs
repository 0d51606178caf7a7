//! Runs one tool and explains when it fails.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// A program with its arguments and what it needs of the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Invocation {
    /// Program, then arguments.
    pub(super) argv: Vec<OsString>,
    /// Set for it.
    pub(super) env: Vec<(String, OsString)>,
    /// Taken away from it.
    pub(super) unset: Vec<&'static str>,
    /// Where it runs; here if none.
    pub(super) folder: Option<PathBuf>,
}

impl Invocation {
    /// `argv` with nothing else.
    pub(super) fn new<S: Into<OsString>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self { argv: argv.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Adds one argument.
    pub(super) fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.argv.push(arg.into());
        self
    }

    /// Adds arguments.
    pub(super) fn args<S: Into<OsString>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.argv.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable.
    pub(super) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Takes variables away.
    pub(super) fn without(mut self, names: &[&'static str]) -> Self {
        self.unset.extend(names);
        self
    }

    /// Runs in `folder`.
    pub(super) fn in_folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    fn program(&self) -> &OsStr {
        self.argv.first().map_or(OsStr::new(""), OsString::as_os_str)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.program());
        command.args(self.argv.iter().skip(1)).stdin(Stdio::null());
        for name in &self.unset {
            command.env_remove(name);
        }
        for (name, value) in &self.env {
            command.env(name, value);
        }
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
    }

    /// Runs it; what it says goes to stderr, so that stdout stays the result's.
    ///
    /// # Errors
    /// It is not there or failed.
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let output =
            self.command().stdout(std::io::stderr()).status().with_context(|| self.absent())?;
        if output.success() {
            return Ok(());
        }
        bail!("{} failed ({output}): {}", self.name(), self.text())
    }

    /// Runs it and returns what it printed.
    ///
    /// # Errors
    /// It is not there, failed, or printed what is no text.
    pub(super) fn output(&self) -> anyhow::Result<String> {
        let output =
            self.command().stderr(Stdio::inherit()).output().with_context(|| self.absent())?;
        if !output.status.success() {
            bail!("{} failed ({}): {}", self.name(), output.status, self.text())
        }
        String::from_utf8(output.stdout).with_context(|| format!("what {} printed", self.name()))
    }

    fn name(&self) -> String {
        Path::new(self.program()).file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn absent(&self) -> String {
        format!(
            "can't run {}: install it, or set up with ./install.sh package",
            self.program().display()
        )
    }

    fn text(&self) -> String {
        self.argv.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }
}
