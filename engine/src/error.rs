//! What can go wrong in a rank, sorted by what its exit code says.

use tandem_wire::exit;

/// An error that ends the rank. Its exit code tells the supervisor what kind it is.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The config or command line can't be served so.
    #[error("{0}")]
    Usage(String),
    /// The model folder is missing, malformed, unsupported or can't be split so.
    #[error("{0}")]
    Model(String),
    /// A socket, file or address can't be had.
    #[error("{what}")]
    Os {
        /// What was tried, on which path or address.
        what: String,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The distributed group could not be formed.
    #[error("{0}")]
    Group(String),
    /// MLX refused or failed an operation.
    #[error("{what}: {message}")]
    Mlx {
        /// What was being computed.
        what: &'static str,
        /// MLX's own words.
        message: String,
    },
    /// Another rank closed its control channel.
    #[error("rank {rank} closed its control channel: {reason}")]
    PeerLost {
        /// Which rank.
        rank: u32,
        /// What was seen.
        reason: String,
    },
    /// Another rank is connected but says nothing.
    #[error("rank {rank} said nothing for {silent_ms} ms")]
    PeerSilent {
        /// Which rank.
        rank: u32,
        /// For how long.
        silent_ms: u64,
    },
    /// Ranks disagree, or what came from another was not what it sent.
    #[error("{0}")]
    Integrity(String),
    /// A step did not finish in time.
    #[error("step {seq} did not finish in {timeout_ms} ms")]
    Stalled {
        /// Number of the step.
        seq: u64,
        /// How long it might have taken: at least `step_timeout_ms`, more where steps were slow.
        timeout_ms: u64,
    },
    /// A bug of ours.
    #[error("bug: {0}")]
    Software(String),
}

impl EngineError {
    /// The process exit code for this error, from [`tandem_wire::exit`].
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Usage(_) => exit::USAGE,
            Self::Model(_) => exit::MODEL,
            Self::Os { .. } => exit::OS,
            Self::Group(_) => exit::GROUP,
            Self::Mlx { .. } => exit::ENGINE,
            Self::PeerLost { .. } => exit::PEER_LOST,
            Self::PeerSilent { .. } => exit::PEER_SILENT,
            Self::Integrity(_) => exit::INTEGRITY,
            Self::Stalled { .. } => exit::STALLED,
            Self::Software(_) => exit::SOFTWARE,
        }
    }
}
