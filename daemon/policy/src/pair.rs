//! The other nodes: what they say of themselves, and what is known of the ways to them.
//!
//! Nothing is ordered between nodes. Each tells the others its own state, again and again, and each
//! decides alone by what it hears: a report that is lost, repeated or late changes nothing that the
//! next one does not mend.

mod report;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use report::{
    COMPONENTS_MAX, Component, Ending, FAULTS_TOLD_MAX, FaultTold, NodeReport, RANKS_MAX,
    RankReport, Start,
};

use crate::{Moment, Observation, Setup};

/// Most nodes of a gang, this one included.
pub const NODES_MAX: usize = 4;

/// A node of the config, in order of its first rank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePlace {
    /// Its name.
    pub name: String,
    /// The numbers of its ranks.
    pub ranks: Vec<u32>,
}

/// Another node, as it is seen from here.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerSeen {
    /// Its name in the config.
    pub node: String,
    /// Whether its key is known here: `tandem pair join` exchanged it.
    pub is_paired: bool,
    /// Every configured way to it, in the config's order.
    pub paths: Vec<PathSeen>,
    /// The newest report, and when it came, in milliseconds since this node's boot.
    pub report: Option<(NodeReport, u64)>,
    /// Where its model's files differ from this node's, one a line, cut; empty while its manifest is
    /// equal or not known.
    pub differences: Vec<String>,
}

/// One way to another node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PathSeen {
    /// Address and port at the other end.
    pub address: String,
    /// Whether it answered lately.
    pub is_up: bool,
    /// Time of a question and its answer, in microseconds; absent until known.
    pub round_trip_us: Option<u64>,
    /// Measured when the path came up, in megabits per second; absent until known.
    pub throughput_mbps: Option<u64>,
    /// Why it is down; empty while it is up.
    pub problem: String,
}

impl PeerSeen {
    /// Its newest report, unless that is too old to mean anything.
    pub fn fresh(&self, setup: &Setup, now: Moment) -> Option<&NodeReport> {
        let is_fresh =
            |at_ms: u64| now.boot_ms.saturating_sub(at_ms) <= setup.pair.silence_timeout_ms;
        self.report.as_ref().filter(|(_, at_ms)| is_fresh(*at_ms)).map(|(report, _)| report)
    }
}

impl Setup {
    /// Whether there are other nodes.
    pub fn is_alone(&self) -> bool {
        self.nodes.len() < 2
    }

    /// Name of the node with rank 0, which decides about epochs.
    pub fn leader(&self) -> &str {
        self.nodes.first().map_or(self.node.as_str(), |node| node.name.as_str())
    }

    /// Whether this node has rank 0.
    pub fn leads(&self) -> bool {
        self.leader() == self.node
    }
}

impl Observation {
    /// What is seen of a node of this name.
    pub fn peer(&self, node: &str) -> Option<&PeerSeen> {
        self.peers.iter().find(|peer| peer.node == node)
    }
}
