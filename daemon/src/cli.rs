//! The command line.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use clap::{
    Args, ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind,
};
use tandem_console::Terminal;
use tandem_wire::exit;

use crate::{
    bench, config, config::Config, console, fit, log, output, pair_command, role, selftest,
    service, supervise, world,
};

/// Serve a language model as tensor-parallel ranks behind an OpenAI-compatible API.
#[derive(Parser, Debug)]
#[command(name = "tandem", version, disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Args, Debug)]
struct ConfigPath {
    /// The config file
    #[arg(long, value_name = "PATH", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Start gateway and ranks, keep them alive, stop them in order on SIGTERM
    ///
    /// A second SIGTERM does not wait for running requests. Exit codes: 0 stopped in order,
    /// 64 bad config, 69 it could not begin (its run directory or status address is taken, its ledger
    /// can't be opened).
    Supervise(ConfigPath),
    #[command(flatten)]
    Console(tandem_console::command::Command),
    /// Make this machine and another trust each other
    #[command(subcommand)]
    Pair(pair_command::Command),
    /// Have launchd start and stop the supervisor (macOS)
    Service(service::Command),
    /// Import and inspect models
    #[command(subcommand)]
    Model(ModelCommand),
    /// Check or show the config
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Make an API key
    Key {
        #[command(subcommand)]
        command: Option<KeyCommand>,
    },
    /// Show what this machine is and has, without a supervisor and without changing anything
    ///
    /// Reads every invariant of the host once, and multiplies two small matrices on the engine's device.
    /// The report holds no secret: it is made to be pasted. Exit codes: 0 all is fine, 1 something is
    /// not.
    Selftest(selftest::Options),
    /// Measure a server with an OpenAI-compatible API
    Bench(bench::Options),
    /// Print the version
    Version,
    /// Print a script that completes commands in a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
    /// Serve the HTTP API (started by the supervisor)
    Gateway {
        #[command(flatten)]
        config: ConfigPath,
        /// What it does with requests
        #[arg(long, value_enum, default_value_t)]
        mode: role::gateway::Mode,
    },
    /// Read the model's files and note what is in them (started by the supervisor)
    ///
    /// Exit codes: 0 done, 65 no model can be in that folder, 71 it can't be read or the note can't
    /// be written, 75 something changes the files or another process reads them.
    Manifest {
        #[command(flatten)]
        config: ConfigPath,
        /// Folder of the model; without it that of the config
        #[arg(long, value_name = "DIR")]
        model: Option<PathBuf>,
        /// The note, which also keeps files that did not change from being read again
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Run one share of the model (started by the supervisor)
    ///
    /// The supervisor writes the session of the epoch to its standard input.
    Rank {
        #[command(flatten)]
        config: ConfigPath,
        /// Which [[rank]] of the config, from 0
        #[arg(long, value_name = "N")]
        rank: u32,
    },
}

#[derive(Subcommand, Debug)]
enum ModelCommand {
    /// Import a GGUF file without loss into a model folder
    Import {
        /// The GGUF file
        file: PathBuf,
        /// Name of the folder; without it the file's
        #[arg(long)]
        name: Option<String>,
        /// Folder that the model's folder is made in
        #[arg(long = "models", alias = "models-dir", value_name = "DIR", default_value = DEFAULT_MODELS)]
        models: PathBuf,
    },
    /// Say how much memory the model needs on each machine, and whether this one has it
    ///
    /// Weights, KV cache and the peak of a step are computed from the files' headers and the config;
    /// no weight is read. Exit codes: 0 it fits, 64 it does not or the config is bad, 65 no model that
    /// can be served is there.
    Fit {
        #[command(flatten)]
        config: ConfigPath,
        #[command(flatten)]
        options: fit::Options,
    },
}

/// Where models are kept unless `--models` says otherwise: beside the default of `model.path`.
const DEFAULT_MODELS: &str = "/usr/local/var/tandem/models";

#[derive(Subcommand, Debug)]
enum ConfigCommand {
    /// Say what is wrong with a config; exit code 64 if anything is
    ///
    /// That includes what this machine lacks for it: users, folders, memory, ports that may be listened
    /// on, and, where the model's folder is there, enough memory for the model (`tandem model fit` shows
    /// the figures). A note tells what may be meant so.
    Check(ConfigPath),
    /// Print the config in force, defaults included, as TOML
    Show(ConfigPath),
}

#[derive(Subcommand, Debug)]
enum KeyCommand {
    /// Print a new key for a client and its hash for gateway.api_keys (the default)
    New,
}

/// Longest time that the supervisor's end waits for a read or a write that is under way.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// Exit code of a supervisor that could not begin (`EX_UNAVAILABLE`).
const EXIT_UNAVAILABLE: i32 = 69;

/// Reads the command line and runs it; returns the exit code.
pub fn main() -> i32 {
    // What clap takes for a terminal that obeys is not only one that says so.
    let color = match output::terminal(&io::stdout()) {
        Terminal::Dumb => ColorChoice::Never,
        Terminal::None | Terminal::Able => ColorChoice::Auto,
    };
    let parsed = Cli::command().color(color).try_get_matches();
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error)
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) =>
        {
            return error.print().map_or_else(|error| output::failed(&error), |()| exit::OK);
        }
        Err(error) => {
            // There is nowhere else to say what is wrong.
            let _ = error.print();
            return exit::USAGE;
        }
    };
    run(cli).unwrap_or_else(|error| {
        errln!("{error:#}");
        1
    })
}

/// Runs a command; returns its exit code.
fn run(cli: Cli) -> anyhow::Result<i32> {
    match cli.command {
        Command::Supervise(path) => run_supervisor(&path.config),
        Command::Gateway { config, mode } => {
            with_config(&config.config, |config| role::gateway::run(config, mode))
        }
        Command::Rank { config, rank } => {
            with_config(&config.config, |config| role::rank::run(config, rank))
        }
        Command::Manifest { config, model, out } => with_config(&config.config, |config| {
            role::manifest::run(model.as_deref().unwrap_or(&config.model.path), &out)
        }),
        Command::Console(command) => console::run(&command),
        Command::Pair(command) => pair_command::run(command),
        Command::Service(command) => service::run(&command),
        Command::Model(ModelCommand::Import { file, name, models }) => {
            import(&file, &models, name.as_deref())
        }
        Command::Model(ModelCommand::Fit { config, options }) => match load(&config.config) {
            Ok(config) => fit::run(&config, &options),
            Err(code) => Ok(code),
        },
        Command::Config(ConfigCommand::Check(path)) => Ok(match load_to_supervise(&path.config) {
            Ok(config) => check(&path.config, &config),
            Err(code) => code,
        }),
        Command::Config(ConfigCommand::Show(path)) => match load(&path.config) {
            Ok(config) => {
                out!("{}", toml::to_string_pretty(&config).context("can't print the config")?);
                Ok(exit::OK)
            }
            Err(code) => Ok(code),
        },
        Command::Key { .. } => new_key(),
        Command::Selftest(options) => selftest::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Completions { shell } => {
            let mut out = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tandem", &mut out);
            output::print_all(&out);
            Ok(exit::OK)
        }
        Command::Man => {
            let mut out = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut out)?;
            output::print_all(&out);
            Ok(exit::OK)
        }
        Command::Version => {
            outln!("tandem {}", env!("CARGO_PKG_VERSION"));
            Ok(exit::OK)
        }
    }
}

/// The config, or the exit code after saying what is wrong with it.
pub(crate) fn load(path: &Path) -> Result<Config, i32> {
    Config::load(path).map_err(refused)
}

/// The same for who makes the folders that it names.
fn load_to_supervise(path: &Path) -> Result<Config, i32> {
    Config::load_to_supervise(path).map_err(refused)
}

fn refused(error: config::ConfigError) -> i32 {
    errln!("{:#}", anyhow::Error::new(error));
    exit::USAGE
}

/// Says whether this machine has what the config asks for: users, folders, and for its models, where
/// they are there, enough memory.
fn check(path: &Path, config: &Config) -> i32 {
    let found = config.on_this_machine();
    for note in &found.notes {
        errln!("note: {note}");
    }
    if !found.problems.is_empty() {
        let problems = found.problems;
        return refused(config::ConfigError::Invalid { path: path.into(), problems });
    }
    if let Some(refusal) = world::run_dir_refusal(config) {
        errln!("{}: {refusal}", path.display());
        return exit::USAGE;
    }
    let fallback = config.fallback.is_set().then(|| config.alone());
    for config in std::iter::once(config).chain(&fallback) {
        let model_dir = &config.model.path;
        if !model_dir.join("config.json").exists() {
            continue;
        }
        match fit::report(config) {
            Ok(report) if report.verdict.too_much.is_some() => {
                errln!("{}: {}", path.display(), report.text.trim_end());
                return exit::USAGE;
            }
            Ok(_) => {}
            // The config is none the worse for it: the folder may not be filled yet.
            Err(error) => {
                let error = anyhow::Error::new(error);
                errln!("whether the model fits into memory can't be told: {error:#}");
            }
        }
    }
    outln!("{} is fine", path.display());
    exit::OK
}

fn with_config(path: &Path, run: impl FnOnce(&Config) -> i32) -> anyhow::Result<i32> {
    Ok(match load(path) {
        Ok(config) => {
            log::start(config.node.log_level, config.node.log_format);
            run(&config)
        }
        Err(code) => code,
    })
}

fn run_supervisor(path: &Path) -> anyhow::Result<i32> {
    let config = match load_to_supervise(path) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    // Kept to the end: the last lines are to be in the file.
    let _log_file = log::start_supervisor(&config.node);
    // Two threads: one may wait for a disk while the other answers for the status.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("can't start the supervisor's threads")?;
    let code = match runtime.block_on(supervise::run(config, path)) {
        Ok(()) => exit::OK,
        Err(error) => {
            tracing::error!("{error:#}");
            EXIT_UNAVAILABLE
        }
    };
    // All that matters is saved and stopped; what a disk still holds up must not hold up a shutdown.
    runtime.shutdown_timeout(END_TIMEOUT);
    Ok(code)
}

fn import(file: &Path, models: &Path, name: Option<&str>) -> anyhow::Result<i32> {
    match tandem_engine::gguf::import(file, models, name) {
        Ok(imported) if imported.already_there => {
            outln!("{} is there already; nothing was changed", imported.dir.display());
            Ok(exit::OK)
        }
        Ok(imported) => {
            outln!(
                "{}: {} tensors, {} MiB",
                imported.dir.display(),
                imported.tensors,
                imported.bytes >> 20
            );
            Ok(exit::OK)
        }
        Err(error) => {
            errln!("{:#}", anyhow::Error::new(error));
            Ok(exit::MODEL)
        }
    }
}

fn new_key() -> anyhow::Result<i32> {
    let key = format!("tandem-{}", world::random_hex().context("no random bytes")?);
    outln!("key for the client (shown only here):\n  {key}");
    outln!("for gateway.api_keys in tandem.toml:\n  \"{}\"", tandem_gateway::hash_api_key(&key));
    Ok(exit::OK)
}
