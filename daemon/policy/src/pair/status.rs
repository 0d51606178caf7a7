//! What the status shows of the nodes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tandem_wire::Transport;

use super::{FaultTold, Mode, NodeReport, PathSeen, PeerSeen};
use crate::{Moment, Observation, Setup, State, gang, status};

/// A node's part among the nodes of the config.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// There are no others.
    Alone,
    /// It has rank 0 and decides about epochs.
    Leader,
    /// It has other ranks, starts and stops them with the leader's, and passes requests on to it.
    Follower,
}

/// The nodes, as this one knows them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PairStatus {
    /// This node's part.
    pub role: Role,
    /// [`Mode::name`]: `pair`, `alone` or `returning`.
    pub mode: String,
    /// Why the fallback is served; absent while it is not.
    pub why_alone: Option<String>,
    /// Why the next epoch can't start on all nodes, as this node sees the others; absent if nothing
    /// of theirs keeps it, or one runs.
    pub hindrance: Option<String>,
    /// Every node, this one included, in order of its first rank.
    pub nodes: Vec<NodeStatus>,
    /// What the ranks measured of their group in this epoch; absent until a rank of this node told.
    pub transport: Option<TransportStatus>,
}

/// One node. What it tells of itself is absent until it was heard, and then as it was last heard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Whether it is this one.
    pub is_self: bool,
    /// Whether its key is known here.
    pub is_paired: bool,
    /// Whether its last report is young enough to count.
    pub is_heard: bool,
    /// Milliseconds since its last report came; absent before the first, 0 for this node.
    pub heard_age_ms: Option<u64>,
    /// The boot it runs in.
    pub boot: Option<String>,
    /// Tandem's version.
    pub version: Option<String>,
    /// The system's version and build.
    pub os: Option<String>,
    /// Number of its last epoch.
    pub epoch: Option<u64>,
    /// Where its ranks are: [`crate::gang::Phase::name`].
    pub phase: Option<String>,
    /// Whether it serves the fallback alone.
    pub is_alone: bool,
    /// Milliseconds since tokens last came through its own gateway in its epoch; absent if none did.
    pub proven_age_ms: Option<u64>,
    /// Why its ranks can't be started now; absent if they can, or run.
    pub refusal: Option<String>,
    /// Where it differs from this node in what must be equal, one a line; empty if nowhere known.
    pub differences: Vec<String>,
    /// Its ranks, in order.
    pub ranks: Vec<NodeRank>,
    /// The configured ways to it, in the config's order; empty for this node.
    pub paths: Vec<PathSeen>,
    /// Its faults, the worst first, cut.
    pub faults: Vec<FaultTold>,
}

/// A rank of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeRank {
    /// Its number.
    pub rank: u32,
    /// Its own phase, or `absent`, `ended`, `silent`.
    pub phase: String,
    /// The epoch that it runs or ended in; absent if it never ran.
    pub epoch: Option<u64>,
}

/// What the ranks measured of their group when it was formed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TransportStatus {
    /// What carries it: `ring` or `jaccl`.
    pub backend: String,
    /// How many ranks the group has.
    pub world: u32,
    /// One size of message each, smallest first.
    pub rows: Vec<TransportRowStatus>,
}

/// Sums over all ranks of one size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TransportRowStatus {
    /// Bytes that each rank contributed.
    pub bytes: u64,
    /// How many sums were timed.
    pub rounds: u32,
    /// The median time of one, in nanoseconds.
    pub median_ns: u64,
    /// The shortest time of one, in nanoseconds.
    pub best_ns: u64,
}

impl PairStatus {
    /// The nodes, by the config itself: not as it is while the fallback is served.
    pub(crate) fn of(setup: &Setup, state: &State, seen: &Observation, now: Moment) -> Self {
        let role = match () {
            () if setup.is_alone() => Role::Alone,
            () if setup.leads() => Role::Leader,
            () => Role::Follower,
        };
        let own = NodeReport::of(setup, state, seen, now);
        let node = |name: &str| match seen.peer(name) {
            _ if name == setup.node => NodeStatus::own(&own),
            Some(peer) => NodeStatus::of_peer(setup, seen, peer, now),
            None => NodeStatus::unknown(name),
        };
        let measured = |rank: &crate::RankSeen| {
            let vitals = rank.vitals.as_ref().filter(|vitals| vitals.epoch == state.epoch)?;
            vitals.transport.as_ref().map(TransportStatus::of)
        };
        let is_running = matches!(state.gang, gang::Phase::Starting { .. } | gang::Phase::Serving);
        Self {
            role,
            mode: state.mode.name().into(),
            why_alone: match &state.mode {
                Mode::Pair => None,
                Mode::Alone { why } | Mode::Returning { why, .. } => Some(why.clone()),
            },
            hindrance: super::hindrance(setup, seen, now)
                .filter(|_| !is_running || state.mode.is_alone())
                .map(|hindrance| hindrance.to_string()),
            nodes: setup.nodes.iter().map(|place| node(&place.name)).collect(),
            transport: seen.ranks.iter().find_map(measured),
        }
    }
}

impl NodeStatus {
    fn unknown(name: &str) -> Self {
        Self {
            name: name.into(),
            is_self: false,
            is_paired: false,
            is_heard: false,
            heard_age_ms: None,
            boot: None,
            version: None,
            os: None,
            epoch: None,
            phase: None,
            is_alone: false,
            proven_age_ms: None,
            refusal: None,
            differences: Vec::new(),
            ranks: Vec::new(),
            paths: Vec::new(),
            faults: Vec::new(),
        }
    }

    fn of_report(report: &NodeReport, heard_age_ms: u64) -> Self {
        let is_current = |proof: &(u64, u64)| proof.0 == report.epoch;
        Self {
            heard_age_ms: Some(heard_age_ms),
            boot: Some(report.boot.clone()),
            version: Some(report.version.clone()),
            os: Some(report.os.clone()),
            epoch: Some(report.epoch),
            phase: Some(report.phase.clone()),
            is_alone: report.is_alone,
            proven_age_ms: report
                .proof
                .filter(is_current)
                .map(|(_, age_ms)| age_ms.saturating_add(heard_age_ms)),
            refusal: report.refusal.clone(),
            ranks: report.ranks.iter().map(NodeRank::of).collect(),
            faults: report.faults.clone(),
            ..Self::unknown(&report.node)
        }
    }

    fn own(report: &NodeReport) -> Self {
        Self { is_self: true, is_paired: true, is_heard: true, ..Self::of_report(report, 0) }
    }

    fn of_peer(setup: &Setup, seen: &Observation, peer: &PeerSeen, now: Moment) -> Self {
        let told = match &peer.report {
            Some((report, at_ms)) => Self {
                differences: super::parity::differences(setup, seen, peer, report),
                ..Self::of_report(report, now.boot_ms.saturating_sub(*at_ms))
            },
            None => Self::unknown(&peer.node),
        };
        Self {
            name: peer.node.clone(),
            is_paired: peer.is_paired,
            is_heard: peer.fresh(setup, now).is_some(),
            paths: peer.paths.clone(),
            ..told
        }
    }
}

impl NodeRank {
    fn of(rank: &super::RankReport) -> Self {
        Self {
            rank: rank.rank,
            phase: status::rank_phase(&rank.process, rank.phase).into(),
            epoch: rank.process.epoch(),
        }
    }
}

impl TransportStatus {
    fn of(transport: &Transport) -> Self {
        let row = |row: &tandem_wire::TransportRow| TransportRowStatus {
            bytes: row.bytes,
            rounds: row.rounds,
            median_ns: row.median_ns,
            best_ns: row.best_ns,
        };
        Self {
            backend: transport.backend.clone(),
            world: transport.world,
            rows: transport.rows.iter().map(row).collect(),
        }
    }
}
