//! What a node of several is surrounded by: the truth about the others, which its own processes
//! feel, and what it hears of them, which its supervisor sees.

use std::{cell::RefCell, rc::Rc};

use tandem_policy::pair::{NodeReport, PeerSeen};

use super::{fabric::Felt, truth::Truth};
use crate::trouble::{PairTrouble, Troubles};

/// All that is around one node.
pub(crate) struct Around {
    /// Its own place in the config.
    pub(crate) place: usize,
    /// The others' processes as they truly are.
    pub(crate) others: Vec<Other>,
    /// Whether the ring of all ranks can form: path 0 is up between all nodes.
    pub(crate) is_ring_whole: bool,
    /// What is heard of the others, in the config's order.
    pub(crate) peers: Vec<PeerSeen>,
    /// Whether one of these reports is an old one that the link should have dropped.
    pub(crate) is_stale: bool,
    /// The boots of the leader that were heard of.
    pub(crate) leader_boots: LeaderBoots,
    /// What was done on all nodes.
    pub(crate) truth: Rc<RefCell<Truth>>,
    /// What goes wrong between nodes.
    pub(crate) troubles: Troubles<PairTrouble>,
    /// Number of the supervisor that runs, over all boots; none hears what was sent to another.
    pub(crate) instance: u64,
    /// What it told in this turn, if it did.
    pub(crate) told: Option<NodeReport>,
    /// Whether it is to be cut off now.
    pub(crate) is_to_be_cut: bool,
    /// Digest of its model's files.
    pub(crate) manifest: String,
    /// When it slept last.
    pub(crate) slept: Option<(u64, u64)>,
    /// What it feels of the RDMA fabric.
    pub(crate) fabric: Felt,
}

/// The boots of the leader that this supervisor has heard of, in their order.
#[derive(Default)]
pub(crate) struct LeaderBoots {
    heard: Vec<String>,
    /// Whether the newest report in this turn, and in the turn before, is of one that is over.
    is_over: bool,
    was_over: bool,
}

/// More boots than so many are not remembered as over.
const OVER_MAX: usize = 4;

impl LeaderBoots {
    /// What is heard now; an old report that should not be there is none that tells of a boot.
    pub(crate) fn hear(&mut self, boot: Option<&str>, is_stale: bool) {
        self.was_over = self.is_over;
        let Some(boot) = boot else { return };
        if !is_stale && self.heard.last().is_none_or(|last| last != boot) {
            self.heard.push(boot.to_owned());
        }
        let recent = self.heard.iter().rev().skip(1).take(OVER_MAX);
        self.is_over = recent.into_iter().any(|over| over == boot);
    }

    /// Whether this supervisor was told anything in that boot.
    pub(crate) fn has_heard(&self, boot: &str) -> bool {
        self.heard.iter().any(|heard| heard == boot)
    }

    /// Whether what is heard now is surely of a boot that is over. What goes on being the newest may
    /// be true again.
    pub(crate) const fn is_surely_over(&self) -> bool {
        self.is_over && !self.was_over
    }
}

/// Another node's processes.
pub(crate) struct Other {
    pub(crate) ranks: Vec<OtherRank>,
    /// Whether it has rank 0, which all gateways need.
    pub(crate) leads: bool,
    /// Whether its gateway passes requests on.
    pub(crate) gateway_passes: bool,
    /// Whether memory of it is stranded.
    pub(crate) leaks: bool,
    /// Whether any path to it is up.
    pub(crate) is_reached: bool,
}

/// A rank of another node.
#[derive(Clone, Copy)]
pub(crate) struct OtherRank {
    /// Its epoch, while it runs.
    pub(crate) epoch: Option<u64>,
    /// Whether it says nothing.
    pub(crate) is_mute: bool,
    /// Whether it could generate tokens.
    pub(crate) works: bool,
    /// Whether it was asked to unload.
    pub(crate) is_leaving: bool,
    pub(crate) stalls: bool,
    pub(crate) garbles: bool,
    /// Whether it has had weights in memory for so long that its node must have been heard to say so.
    pub(crate) is_loaded: bool,
    /// Whether it serves the fallback, alone.
    pub(crate) is_alone: bool,
    /// Whether it will fail to form the fabric.
    pub(crate) fails: bool,
}

impl Around {
    /// The ranks of all other nodes.
    pub(crate) fn ranks(&self) -> impl Iterator<Item = &OtherRank> {
        self.others.iter().flat_map(|other| &other.ranks)
    }
}
