//! The commands that ask a supervisor: which one, where its parts are, and what `doctor` can tell
//! without it.

use std::{
    io::{self, ErrorKind, IsTerminal},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use tandem_console::{
    Style,
    command::{self, Check, Command, Context, Outcome},
};
use tandem_evidence::Catalogue;
use tandem_policy::invariant::{Invariant, Sighting, judge};
use tandem_wire::exit;

use crate::{
    cli,
    config::{self, Config},
    supervise,
};

/// Runs a command; returns its exit code.
pub(crate) fn run(command: &Command) -> anyhow::Result<i32> {
    let named = command.config();
    let path = named.map_or_else(|| PathBuf::from(config::DEFAULT_PATH), Path::to_path_buf);
    // With a URL no config is needed, so none is read; `doctor` tells what is wrong with one.
    let config = match command.url() {
        Some(_) => Config::default(),
        None if matches!(command, Command::Doctor(_)) => Config::load(&path).unwrap_or_default(),
        None => match cli::load(&path) {
            Ok(config) => config,
            Err(code) => return Ok(code),
        },
    };
    let url = match command.url() {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => format!("http://{}", config.supervise.status_listen),
    };
    let loaded = if config.host.signatures.as_os_str().is_empty() {
        None
    } else {
        Some(Catalogue::load(&config.host.signatures).context("host.signatures")?)
    };
    let is_terminal = io::stdout().is_terminal();
    let now_wall_ms = tandem_host::now().wall_ms;
    let no_color = std::env::var_os("NO_COLOR");
    let context = Context {
        url: &url,
        control: &config.node.run_dir.join(supervise::CONTROL_SOCKET),
        ledger: &config.node.state_dir,
        catalogue: loaded.as_ref().unwrap_or(Catalogue::builtin()),
        checks: &|| checks(&path, &config),
        model_path: command.url().is_none().then_some(config.model.path.as_path()),
        style: Style::of(is_terminal, no_color.as_deref(), tandem_host::columns(), now_wall_ms),
        is_terminal,
    };
    match command::run(command, &context, &mut io::stdout().lock(), &mut io::stderr()) {
        // A pipe whose reader has gone has what it wanted.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(exit::OK),
        other => other.context("can't print"),
    }
}

/// What can be checked without a supervisor: the config, the model's folder, and the host as this
/// user sees it.
fn checks(path: &Path, config: &Config) -> Vec<Check> {
    let mut checks = vec![of_config(path)];
    let setup = config.policy_setup();
    let now = tandem_host::now();
    let disks = [config.node.state_dir.clone(), config.model.path.clone()];
    for invariant in Invariant::ALL {
        let sighting = match tandem_host::read(invariant, &config.host, &disks) {
            Ok((found, source)) => Sighting::Known { found, source, at_ms: now.boot_ms },
            Err(unknown) => Sighting::Unknown(unknown),
        };
        let row = invariant.row();
        let outcome = match judge::judge(&setup, invariant, Some(&sighting), now) {
            judge::Verdict::Holds { found } => Outcome::Fine(judge::in_words(invariant, &found)),
            judge::Verdict::Broken { found, wanted, .. } => {
                let found = judge::in_words(invariant, &found);
                Outcome::Wrong(format!("{found}, wanted {wanted}"))
            }
            // What this platform lacks, or the config does not ask for, is nothing to do.
            verdict if verdict.is_accepted() => continue,
            judge::Verdict::Unknown(unknown) => Outcome::Unknown(unknown.to_string()),
        };
        checks.push(Check {
            name: format!("{} (read now)", row.name),
            outcome,
            remedy: row.remedy.to_owned(),
        });
    }
    checks
}

fn of_config(path: &Path) -> Check {
    let outcome = match Config::load(path) {
        Ok(_) => Outcome::Fine(path.display().to_string()),
        Err(error) => Outcome::Wrong(format!("{:#}", anyhow::Error::new(error))),
    };
    let remedy = "mend the file; config/tandem.toml explains every key".into();
    Check { name: "config".into(), outcome, remedy }
}
