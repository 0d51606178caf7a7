//! `tandem.toml`: the one config file. Strict: an unknown key, a wrong type or a value out of range
//! is refused with its line or key and what it may be, and nothing starts.
//!
//! Each section is declared once, by the part that uses it; `config/tandem.toml` shows every key
//! with its default and the reason for it, and a test keeps the two equal.

mod ceiling;
mod check;
mod cross;
pub(crate) mod folder;
mod machine;
mod places;
mod plan;
mod read;
mod refusal;
mod sections;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tandem_engine::settings::{RankPlace, RankSetup};
use tandem_policy::{
    pair::NodePlace,
    settings::{Canary, Host, Invariants, Leak, Pair, Reboot, Supervise},
};

pub use sections::{Fallback, LOG_FILES_MAX, LogFormat, LogLevel, Model, Node, Peer, Rank};

/// Where the config is looked for unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = if cfg!(target_os = "macos") {
    "/usr/local/etc/tandem/tandem.toml"
} else {
    "/etc/tandem/tandem.toml"
};

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// This machine.
    pub node: Node,
    /// What is served.
    pub model: Model,
    /// The processes that share the model, in order; the first is rank 0.
    pub rank: Vec<Rank>,
    /// How they compute.
    pub engine: tandem_engine::Settings,
    /// The HTTP API.
    pub gateway: tandem_gateway::Settings,
    /// Keeping it all alive.
    pub supervise: Supervise,
    /// What the host must be like.
    pub host: Host,
    /// What is done about each invariant of the host.
    pub invariants: Invariants,
    /// When wired memory counts as leaked.
    pub leak: Leak,
    /// The request that proves serving.
    pub canary: Canary,
    /// The last rung.
    pub reboot: Reboot,
    /// How nodes hear each other.
    pub pair: Pair,
    /// The other machines; none makes this one a gang of its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub peer: Vec<Peer>,
    /// What is served alone while the other machines can't take part.
    pub fallback: Fallback,
}

impl Default for Config {
    fn default() -> Self {
        let node = Node::default();
        let rank =
            Rank { node: node.name.clone(), address: IpAddr::V4(Ipv4Addr::LOCALHOST), weight: 1 };
        Self {
            node,
            model: Model::default(),
            rank: vec![rank.clone(), rank],
            engine: tandem_engine::Settings::default(),
            gateway: tandem_gateway::Settings::default(),
            supervise: Supervise::default(),
            host: Host::default(),
            invariants: Invariants::default(),
            leak: Leak::default(),
            canary: Canary::default(),
            reboot: Reboot::default(),
            pair: Pair::default(),
            peer: Vec::new(),
            fallback: Fallback::default(),
        }
    }
}

/// Why a config was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read {} (--config names another file)", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// It is not TOML of the right form; the text has line, key and what is allowed.
    #[error("{}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What, where, and what is allowed.
        message: String,
    },
    /// Values are out of range or contradict each other.
    #[error("{}:\n  {}", path.display(), problems.join("\n  "))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// One sentence each, with the key.
        problems: Vec<String>,
    },
}

impl Config {
    /// Reads and checks a file; relative paths in it are taken from its own folder, so that a
    /// config means the same from wherever it is used.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Read { path: path.into(), source };
        let text = String::from_utf8(read::read(path).map_err(failed)?)
            .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))?;
        let mut config = Self::parse(&text)
            .map_err(|message| ConfigError::Parse { path: path.into(), message })?;
        let folder = path.canonicalize().ok().and_then(|p| p.parent().map(Path::to_path_buf));
        if let Some(folder) = folder {
            config.resolve(&folder);
        }
        let problems = config.problems();
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError::Invalid { path: path.into(), problems })
        }
    }

    /// Takes relative paths from a folder. An empty one names nothing, and not that folder.
    fn resolve(&mut self, folder: &Path) {
        for path in [
            &mut self.node.run_dir,
            &mut self.node.state_dir,
            &mut self.node.log_dir,
            &mut self.model.path,
            &mut self.fallback.path,
            &mut self.host.signatures,
        ] {
            if !path.as_os_str().is_empty() {
                *path = folder.join(&*path);
            }
        }
    }

    /// The same for who makes the folders that it names: also checks that they are not where the file
    /// itself or a model is. The copy that children read is in the run directory, so they don't.
    pub fn load_to_supervise(path: &Path) -> Result<Self, ConfigError> {
        let config = Self::load(path)?;
        let mut problems = Vec::new();
        config.check_places(&path.canonicalize().unwrap_or_else(|_| path.into()), &mut problems);
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError::Invalid { path: path.into(), problems })
        }
    }

    /// Parses without checking values. The error has the line, the key and what is allowed, and no
    /// value: it goes to where others can read it, and a config has keys in it.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| refusal::in_words(text, &error))
    }

    /// Every machine with its ranks, in order of its first rank.
    pub fn nodes(&self) -> Vec<NodePlace> {
        let mut nodes: Vec<NodePlace> = Vec::new();
        for (number, rank) in (0_u32..).zip(&self.rank) {
            match nodes.iter_mut().find(|node| node.name == rank.node) {
                Some(node) => node.ranks.push(number),
                None => nodes.push(NodePlace { name: rank.node.clone(), ranks: vec![number] }),
            }
        }
        nodes
    }

    /// Numbers of the ranks that run on this machine.
    pub fn own_ranks(&self) -> Vec<u32> {
        let is_own = |(number, rank): (u32, &Rank)| (rank.node == self.node.name).then_some(number);
        (0_u32..).zip(&self.rank).filter_map(is_own).collect()
    }

    /// What this machine runs while it serves the fallback model alone: one rank, that model, and
    /// the usual model's names as further names of it.
    pub fn alone(&self) -> Self {
        let mut aliases = vec![self.model.served_id()];
        aliases.extend(self.model.aliases.iter().cloned());
        Self {
            model: Model {
                path: self.fallback.path.clone(),
                id: self.fallback.id.clone(),
                aliases,
            },
            rank: vec![Rank {
                node: self.node.name.clone(),
                address: IpAddr::V4(Ipv4Addr::LOCALHOST),
                weight: 1,
            }],
            peer: Vec::new(),
            fallback: Fallback::default(),
            ..self.clone()
        }
    }

    /// Folder of this machine's key and of the keys that it trusts.
    pub fn peer_folder(&self) -> PathBuf {
        self.node.state_dir.join("peer")
    }

    /// The one folder that the children may write to: their sockets are in it. All else in the run
    /// directory is the supervisor's.
    pub fn children_dir(&self) -> PathBuf {
        children_dir(&self.node.run_dir)
    }

    /// Unix socket of a rank.
    pub fn rank_socket(&self, rank: u32) -> PathBuf {
        self.children_dir().join(format!("rank-{rank}.sock"))
    }

    /// What the rank process of this number is told, but for
    /// [`memory_ceiling`](Self::memory_ceiling); `None` if there is no such rank.
    pub fn rank_setup(&self, rank: u32) -> Option<RankSetup> {
        self.rank.get(rank as usize)?;
        let place = |r: &Rank| RankPlace { address: r.address, weight: r.weight };
        Some(RankSetup {
            rank,
            ranks: self.rank.iter().map(place).collect(),
            model_dir: self.model.path.clone(),
            run_dir: self.children_dir(),
            settings: self.engine.clone(),
            ceiling: None,
        })
    }

    /// What the gateway process is told.
    pub fn gateway_setup(&self) -> tandem_gateway::GatewaySetup {
        tandem_gateway::GatewaySetup {
            settings: self.gateway.clone(),
            model_dir: self.model.path.clone(),
            model_id: self.model.served_id(),
            aliases: self.model.aliases.clone(),
            rank_socket: self.rank_socket(0),
            stands_in_for: Vec::new(),
            canary_key_hash: None,
            peer_listen: self.peer_listen(),
            peer_key_hash: None,
            records: false,
        }
    }

    /// Where the node with rank 0 listens for the other nodes' gateways; `None` if there are none.
    pub fn peer_listen(&self) -> Option<SocketAddr> {
        let first = self.rank.first()?;
        let has_others = self.rank.iter().any(|rank| rank.node != first.node);
        has_others.then(|| SocketAddr::new(first.address, self.gateway.peer_port))
    }

    /// What the gateway process of a node without rank 0 is told.
    pub fn proxy_setup(&self) -> tandem_gateway::ProxySetup {
        tandem_gateway::ProxySetup {
            settings: self.gateway.clone(),
            upstream_file: self.upstream_file(),
            canary_key_hash: None,
            node: self.node.name.clone(),
            records: false,
        }
    }

    /// File in which the supervisor tells a proxying gateway where the one of rank 0 is.
    pub fn upstream_file(&self) -> PathBuf {
        self.node.run_dir.join("upstream.json")
    }
}

/// The children's folder in a run directory.
pub(crate) fn children_dir(run_dir: &Path) -> PathBuf {
    run_dir.join("children")
}

#[cfg(test)]
mod tests;
