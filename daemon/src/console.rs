//! The commands that ask a supervisor: which one, where its parts are, and what `doctor` can tell
//! without it.

use std::{
    io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use tandem_console::{
    Style,
    command::{self, Command, Context},
};
use tandem_evidence::Catalogue;

use crate::{
    cli,
    config::{self, Config},
    output, own_checks, supervise,
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
    let terminal = output::terminal(&io::stdout());
    let now_wall_ms = tandem_host::now().wall_ms;
    let no_color = std::env::var_os("NO_COLOR");
    let context = Context {
        url: &url,
        control: &config.node.run_dir.join(supervise::CONTROL_SOCKET),
        ledger: &config.node.state_dir,
        catalogue: loaded.as_ref().unwrap_or(Catalogue::builtin()),
        checks: &|| own_checks::all(&path, &config),
        model_path: command.url().is_none().then_some(config.model.path.as_path()),
        style: Style::of(terminal, no_color.as_deref(), tandem_host::columns(), now_wall_ms),
        terminal,
    };
    let printed = command::run(command, &context, &mut io::stdout().lock(), &mut output::Problems);
    Ok(printed.unwrap_or_else(|error| output::failed(&error)))
}
