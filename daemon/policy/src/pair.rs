//! The other nodes: what they say of themselves, and what is known of the ways to them.
//!
//! Nothing is ordered between nodes. Each tells the others its own state, again and again, and each
//! decides alone by what it hears: a report that is lost, repeated or late changes nothing that the
//! next one does not mend.

pub(crate) mod alone;
pub(crate) mod events;
pub mod fabric;
pub(crate) mod faults;
pub mod parity;
mod report;
mod status;
#[cfg(test)]
mod tests;
pub mod watch;

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use report::{
    COMPONENTS_MAX, Component, Ending, FAULTS_TOLD_MAX, FaultTold, NodeReport, RANKS_MAX,
    RankReport, Start,
};
pub use status::{NodeRank, NodeStatus, PairStatus, Role, TransportRowStatus, TransportStatus};

use crate::{Moment, Observation, Setup};
use parity::Parity;

/// Most nodes of a gang, this one included.
pub const NODES_MAX: usize = 4;

/// Most characters of a text that is told to other nodes or shown beside many others.
pub const TEXT_CHARS_MAX: usize = 300;

/// What this node serves with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case", deny_unknown_fields)]
pub enum Mode {
    /// All nodes of the config, or the only one.
    Pair,
    /// Only itself: the fallback model.
    Alone {
        /// Why the others can't take part.
        why: String,
    },
    /// Only itself, and it unloads the fallback model because the others are back.
    Returning {
        /// Why the others could not take part.
        why: String,
        /// When it no longer waits for requests that still run, since boot.
        deadline_ms: u64,
    },
}

impl Mode {
    /// One word, for people and the status.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Pair => "pair",
            Self::Alone { .. } => "alone",
            Self::Returning { .. } => "returning",
        }
    }

    /// Whether the ranks that run here, if any do, are the fallback's.
    pub const fn is_alone(&self) -> bool {
        !matches!(self, Self::Pair)
    }
}

/// Why another node can't take part in an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hindrance {
    /// Which.
    pub node: String,
    /// Why, with no figure that changes by itself.
    pub text: String,
    /// Whether it only has to hand back first, which it does by itself.
    pub is_returning: bool,
}

impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.node, self.text)
    }
}

/// The first thing about another node that keeps the next epoch from starting on all.
pub fn hindrance(setup: &Setup, seen: &Observation, now: Moment) -> Option<Hindrance> {
    let others = setup.nodes.iter().filter(|place| place.name != setup.node);
    let found = others.filter_map(|place| {
        let (text, is_returning) = hindrance_of(setup, seen, &place.name, now)?;
        Some(Hindrance { node: place.name.clone(), text, is_returning })
    });
    found.min_by_key(|hindrance| hindrance.is_returning)
}

/// Why this node can't take part, and whether that passes by itself.
fn hindrance_of(
    setup: &Setup,
    seen: &Observation,
    node: &str,
    now: Moment,
) -> Option<(String, bool)> {
    let for_good = |text: &str| Some((text.to_owned(), false));
    let Some(peer) = seen.peer(node) else { return for_good("nothing is known of it") };
    if !peer.is_paired {
        return for_good("it is not paired with this node");
    }
    let Some(report) = peer.fresh(setup, now) else { return for_good("it is not heard") };
    if report.is_draining {
        return for_good("it is drained, ends or reboots");
    }
    if report.is_held {
        return for_good("an operator holds it");
    }
    match Parity::of(setup, seen, peer, report) {
        Parity::Equal => {}
        Parity::Unknown(why) => return Some((why, false)),
        Parity::Unequal(lines) => {
            return Some((bounded(&format!("it differs: {}", lines.join("; "))), false));
        }
    }
    if let Some(refusal) = &report.refusal {
        return Some((bounded(refusal), false));
    }
    if report.is_alone {
        return Some(("it serves the fallback alone, and hands back".into(), true));
    }
    let is_running = report.ranks.iter().any(|rank| rank.process.is_running());
    is_running.then(|| ("its ranks of an earlier epoch still run".into(), false))
}

/// A text cut to [`TEXT_CHARS_MAX`].
pub(crate) fn bounded(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

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

    /// The number in the gang of this node's rank of that index.
    pub fn rank_number(&self, index: usize) -> u32 {
        let index_number = u32::try_from(index).unwrap_or(u32::MAX);
        self.own_ranks.get(index).copied().unwrap_or(index_number)
    }
}

impl Observation {
    /// What is seen of a node of this name.
    pub fn peer(&self, node: &str) -> Option<&PeerSeen> {
        self.peers.iter().find(|peer| peer.node == node)
    }
}
