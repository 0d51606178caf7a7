//! The sections that no other part declares: machine, model, ranks, other machines, fallback.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

/// `[node]`: this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// Name of this machine in `[[rank]]` and in the status.
    pub name: String,
    /// Folder for sockets, process ids and logs of the children; it may be emptied at a boot.
    pub run_dir: PathBuf,
    /// Folder for what must outlive a boot: the supervisor's ledger.
    pub state_dir: PathBuf,
    /// User that gateway and ranks run as when the supervisor is root; empty keeps root.
    pub user: String,
    /// Least severe level that is logged.
    pub log_level: LogLevel,
    /// How a line of log looks.
    pub log_format: LogFormat,
    /// Folder of the supervisor's log files; empty for none.
    pub log_dir: PathBuf,
    /// Largest log file, in MiB.
    pub log_file_max_mib: u32,
    /// Most log files, the newest included.
    pub log_files_max: u32,
}

/// Most that `node.log_files_max` can be.
pub const LOG_FILES_MAX: u32 = 100;

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only what failed.
    Error,
    /// And what may fail soon.
    Warn,
    /// And what changed.
    Info,
    /// And why.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The name, as `RUST_LOG` takes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How a line of log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[model]`: what is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// Folder with config.json, weights and tokeniser.
    pub path: PathBuf,
    /// Name that clients ask for; empty takes the folder's name.
    pub id: String,
    /// More names that mean the same model.
    pub aliases: Vec<String>,
}

impl Model {
    /// The name the model is served as.
    pub fn served_id(&self) -> String {
        if !self.id.is_empty() {
            return self.id.clone();
        }
        self.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }
}

/// `[[rank]]`: one process that holds a share of the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rank {
    /// Name of the machine it runs on.
    pub node: String,
    /// IP address that the other ranks reach it at.
    pub address: IpAddr,
    /// Its share of heads and columns, relative to the others'.
    #[serde(default = "one")]
    pub weight: u32,
}

/// `[[peer]]`: another machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Its `node.name`.
    pub name: String,
    /// Address and port of its supervisor, once for each way to it.
    pub addresses: Vec<SocketAddr>,
}

/// `[fallback]`: a smaller model for one machine alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fallback {
    /// Folder of the model; empty for none.
    pub path: PathBuf,
    /// Name that answers carry; empty takes the folder's name.
    pub id: String,
    /// For how long the others can't take part before it is served.
    pub after_ms: u64,
}

impl Fallback {
    /// Whether there is one.
    pub fn is_set(&self) -> bool {
        !self.path.as_os_str().is_empty()
    }

    /// The name that answers carry; empty if there is none.
    pub fn served_id(&self) -> String {
        Model { path: self.path.clone(), id: self.id.clone(), aliases: Vec::new() }.served_id()
    }
}

fn one() -> u32 {
    1
}

impl Default for Node {
    fn default() -> Self {
        Self {
            name: "local".into(),
            run_dir: "/var/run/tandem".into(),
            state_dir: "/usr/local/var/tandem/state".into(),
            user: "_tandem".into(),
            log_level: LogLevel::Info,
            log_format: LogFormat::Text,
            log_dir: PathBuf::new(),
            log_file_max_mib: 16,
            log_files_max: 8,
        }
    }
}

impl Default for Fallback {
    fn default() -> Self {
        Self { path: PathBuf::new(), id: String::new(), after_ms: 120_000 }
    }
}

impl Default for Model {
    fn default() -> Self {
        Self {
            path: "/usr/local/var/tandem/models/default".into(),
            id: String::new(),
            aliases: Vec::new(),
        }
    }
}
