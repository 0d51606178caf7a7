//! Where the ranks are, as it is saved and told.

use serde::{Deserialize, Serialize};

use crate::{fault::Kind, reboot};

/// Where the ranks are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// None runs; the next epoch starts as soon as it is admitted.
    Idle,
    /// The epoch is started; not all ranks are ready.
    Starting {
        /// When all must be ready, since boot.
        deadline_ms: u64,
    },
    /// All ranks are ready.
    Serving,
    /// Ranks are unloading.
    Stopping {
        /// When they are killed, since boot.
        deadline_ms: u64,
        /// Why.
        cause: StopCause,
    },
    /// None runs; the next epoch waits.
    Backoff {
        /// When it starts, since boot.
        until_ms: u64,
    },
    /// None runs, and none will until an operator releases it or the machine boots anew.
    Held {
        /// Why, and what to do.
        reason: String,
        /// Set if a reboot may help.
        reboot: Option<reboot::Cause>,
    },
    /// None runs, and none will while all is to be stopped.
    Drained,
}

/// Why the ranks are being stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
pub enum StopCause {
    /// A rank ended, hangs or lies, or the start took too long.
    Failed {
        /// What kind of fault it is.
        kind: Kind,
        /// In words.
        text: String,
    },
    /// They belong to an earlier supervisor, whose memory of them is lost.
    Stale,
    /// The config has another plan for them.
    Plan,
    /// All is to be stopped.
    Drain,
    /// The node with rank 0 ended the epoch, or began another.
    Leader,
    /// They only noticed that a rank of another node was gone, whose node knows why.
    Lost,
    /// Another node asked to end it, in order: it is drained, ends or reboots.
    Peer {
        /// Which.
        node: String,
    },
    /// The fallback is unloaded, because the other nodes are back.
    Return,
}

impl StopCause {
    /// In words.
    pub fn text(&self) -> String {
        match self {
            Self::Failed { text, .. } => text.clone(),
            Self::Stale => "they belong to an earlier supervisor".into(),
            Self::Plan => "the config has another plan for them".into(),
            Self::Drain => "all is to be stopped".into(),
            Self::Leader => "the node with rank 0 ended the epoch".into(),
            Self::Lost => "a rank of another node is gone".into(),
            Self::Peer { node } => format!("{node} is drained, ends or reboots"),
            Self::Return => "the other nodes are back".into(),
        }
    }
}

impl Phase {
    /// One word, for people and the status.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Starting { .. } => "starting",
            Self::Serving => "serving",
            Self::Stopping { .. } => "stopping",
            Self::Backoff { .. } => "backoff",
            Self::Held { .. } => "held",
            Self::Drained => "drained",
        }
    }
}
