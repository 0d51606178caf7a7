//! `tandem pair`: makes two machines trust each other, shows whom this one trusts, and ends it.
//!
//! Nothing here speaks to the supervisor: it sees by itself that the pins have changed.

mod init;
mod join;
mod status;

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use nix::unistd::{Uid, User};
use tandem_peer::{
    identity::{Identity, Pins},
    pairing::{Node, Paired, is_node_name},
};
use tandem_wire::exit;

use crate::{
    cli,
    config::{self, Config},
    log,
};

/// The port can't be had, the other can't be reached, or nobody came (`EX_UNAVAILABLE`).
const UNAVAILABLE: i32 = 69;

/// It was refused: by this machine's owner, by the other machine, or for a wrong code
/// (`EX_NOPERM`).
const REFUSED: i32 = 77;

/// What `tandem pair` is told to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Show a one-time code, and wait for the machine that is told it
    ///
    /// Stands for 10 minutes, until one machine has joined, or until 5 wrong codes. Needs the user
    /// that the supervisor runs as, root by default. It listens on pair.pairing_port of pair.listen,
    /// and says so by mDNS. Exit codes: 0 a machine joined, 64 bad config, 69 nobody came or the
    /// port is taken, 77 too many wrong codes or the wrong user.
    Init {
        #[command(flatten)]
        common: Common,
    },
    /// Join the machine that shows a code
    ///
    /// Asks for the code on standard input. Needs the user that the supervisor runs as, root by
    /// default. Exit codes: 0 both trust each other, 64 bad config or not a code, 69 the machine can't
    /// be reached or the connection broke, 77 it was refused, or the wrong user.
    Join {
        /// Name or address of the machine that shows the code; without it, those that say by mDNS
        /// that they do are listed
        #[arg(value_name = "HOST[:PORT]")]
        host: Option<String>,
        /// The code, if it should not be asked for. Other users of this machine can see it while
        /// this runs; it is of no use to anyone once the machines are paired
        #[arg(requires = "host")]
        code: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Trust a machine no longer
    ///
    /// A running supervisor cuts its connections to it. Run it on the other machine too. Exit codes:
    /// 0 it is not trusted now, 64 bad config, 69 the change can't be saved, 77 the wrong user.
    Forget {
        /// Its node.name
        #[arg(value_name = "NODE")]
        node: String,
        #[command(flatten)]
        config: ConfigPath,
    },
    /// Show this machine's fingerprint, whom it trusts, and the ways to them
    ///
    /// The ways are as the running supervisor sees them; without one they are unknown. Exit codes:
    /// 0 shown, 64 bad config, 77 the key or the pins can't be read, or the wrong user.
    Status {
        #[command(flatten)]
        config: ConfigPath,
    },
}

/// Where the config is.
#[derive(Args, Debug)]
pub(crate) struct ConfigPath {
    /// The config file
    #[arg(long, value_name = "PATH", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
}

/// What both sides of a pairing take.
#[derive(Args, Debug)]
pub(crate) struct Common {
    /// Trust the other machine's key in place of another that is trusted under its node.name, as
    /// when it was set up anew
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    config: ConfigPath,
}

/// Runs a command; returns its exit code.
pub(crate) fn run(command: Command) -> anyhow::Result<i32> {
    let path = match &command {
        Command::Init { common } | Command::Join { common, .. } => &common.config.config,
        Command::Forget { config, .. } | Command::Status { config } => &config.config,
    }
    .clone();
    let config = match cli::load(&path) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    log::start(config.node.log_level, config.node.log_format);
    let here = Here { config, path };
    match command {
        Command::Init { common } => here.as_node(common.replace, |node| init::run(&here, node)),
        Command::Join { host: None, .. } => join::look(&here),
        Command::Join { host: Some(host), code, common } => {
            here.as_node(common.replace, |node| join::run(&here, node, &host, code.as_deref()))
        }
        Command::Forget { node, .. } => here.forget(&node),
        Command::Status { .. } => status::run(&here),
    }
}

/// This machine as its config has it.
struct Here {
    config: Config,
    /// Where the config was read.
    path: PathBuf,
}

impl Here {
    fn folder(&self) -> PathBuf {
        self.config.peer_folder()
    }

    /// Does something as this node; or says why it can't be done here, and returns the exit code.
    fn as_node(
        &self,
        replace: bool,
        run: impl FnOnce(Node) -> anyhow::Result<i32>,
    ) -> anyhow::Result<i32> {
        let name = &self.config.node.name;
        if !is_node_name(name) {
            errln!(
                "node.name is {name:?}; to be paired it must have 1 to 63 letters, digits, \"-\", \
                 \"_\" or \".\", and begin with a letter or digit"
            );
            return Ok(exit::USAGE);
        }
        if let Err(why) = self.check_user() {
            errln!("{why}");
            return Ok(REFUSED);
        }
        // As the supervisor makes it.
        let state_dir = &self.config.node.state_dir;
        if let Err(error) = DirBuilder::new().recursive(true).mode(0o750).create(state_dir) {
            errln!(
                "can't make {} (node.state_dir): {error}; run this as the supervisor's user, root \
                 by default",
                state_dir.display()
            );
            return Ok(REFUSED);
        }
        let folder = self.folder();
        let identity = Identity::load_or_make(&folder, name)
            .and_then(|identity| Pins::load(&folder).map(|_| identity));
        let identity = match identity {
            Ok(identity) => identity,
            Err(error) => {
                errln!("{:#}", anyhow::Error::new(error));
                return Ok(REFUSED);
            }
        };
        run(Node {
            folder,
            name: name.clone(),
            certificate: identity.certificate().to_vec(),
            link_port: self.config.pair.listen.port(),
            expected: self.config.peer.iter().map(|peer| peer.name.clone()).collect(),
            replace,
        })
    }

    /// The supervisor reads key and pins only if they are its user's, so only that may write them.
    fn check_user(&self) -> Result<(), String> {
        let folder = &self.config.node.state_dir;
        let own = Uid::effective();
        let owner = match std::fs::metadata(folder) {
            Ok(metadata) => Uid::from_raw(metadata.uid()),
            // What makes it owns it: the supervisor is root unless it is started by hand.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(format!("can't look at {}: {error}", folder.display())),
        };
        if owner == own {
            return Ok(());
        }
        let name = User::from_uid(owner)
            .ok()
            .flatten()
            .map_or_else(|| format!("user {owner}"), |user| user.name);
        Err(format!(
            "{} (node.state_dir) belongs to {name}; run this as {name}: sudo -u {name} tandem pair ...",
            folder.display()
        ))
    }

    fn forget(&self, node: &str) -> anyhow::Result<i32> {
        if let Err(why) = self.check_user() {
            errln!("{why}");
            return Ok(REFUSED);
        }
        match Pins::forget(&self.folder(), node) {
            Ok(true) => {
                tracing::info!(peer = node, "forgotten");
                outln!("{} is not trusted any more; run this there too", shown(node));
                Ok(exit::OK)
            }
            Ok(false) => {
                outln!("{} was not trusted; nothing was changed", shown(node));
                Ok(exit::OK)
            }
            Err(error) => {
                errln!("{:#}", anyhow::Error::new(error));
                Ok(UNAVAILABLE)
            }
        }
    }

    /// Says whom this machine trusts now, and what its config still lacks.
    fn tell_paired(&self, paired: &Paired) {
        outln!("{} and this machine trust each other now", paired.name);
        outln!("its fingerprint is {}", paired.fingerprint);
        if !paired.is_configured {
            outln!(
                "\n{} has no section for it. Add this, with further addresses if there are further \
                 ways to it,\nand a [[rank]] with node = \"{}\":\n\n\
                 [[peer]]\nname = \"{}\"\naddresses = [\"{}\"]",
                self.path.display(),
                paired.name,
                paired.name,
                paired.link
            );
        }
    }

    /// ` --config PATH` for commands that are shown to be typed here.
    fn config_option(&self) -> String {
        match self.path == Path::new(config::DEFAULT_PATH) {
            true => String::new(),
            false => format!(" --config {}", self.path.display()),
        }
    }
}

/// Text that may come from anywhere, on one line and without anything that moves a cursor.
fn shown(text: &str) -> String {
    text.escape_debug().to_string()
}

/// Runs what waits for the network. One thread: nothing here computes for long.
fn block_on<T>(future: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("can't start the network")?;
    let result = runtime.block_on(future);
    // Looking a name up can't be interrupted; nobody waits for it any more.
    runtime.shutdown_background();
    Ok(result)
}
