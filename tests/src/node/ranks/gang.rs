//! What ranks feel of each other: a group forms once all are there, and ends with one that is lost.

use tandem_policy::Ended;
use tandem_wire::exit;

use super::{Forming, Rank};
use crate::{node::Node, pair::around::OtherRank};

impl Node {
    /// A rank whose peer is gone or mute ends within seconds, unless it hangs itself.
    pub(super) fn notice_peers(&mut self) {
        let t = self.t;
        let lost = self.ranks.iter().any(|r| !r.process.is_running());
        let mute = self.ranks.iter().any(|r| r.is_mute(t));
        for index in 0..self.ranks.len() {
            let rank = &mut self.ranks[index];
            if !rank.process.is_running() || rank.is_mute(t) || !(lost || mute) {
                rank.alone_since = None;
                continue;
            }
            let since = *rank.alone_since.get_or_insert(t);
            if rank.asked_at.is_none() && t - since >= 2_000 {
                let code = if lost { exit::PEER_LOST } else { exit::PEER_SILENT };
                self.end_rank(index, Ended::Code(code));
            }
        }
    }

    /// A rank of several nodes loads once all of its epoch are there.
    pub(super) fn wait_for_others(&mut self, index: usize) {
        if self.around.is_none() || self.ranks[index].is_alone {
            return;
        }
        let is_patient = self.dice.once_in(2);
        let patience_ms = self.dice.between(20_000, 40_000);
        let t = self.t;
        let rank = &mut self.ranks[index];
        rank.forming = Some(Forming {
            gives_up_at: (!is_patient).then_some(t + patience_ms),
            load_ms: rank.loads_at.saturating_sub(t).max(100),
            warm_ms: rank.warms_at.saturating_sub(rank.loads_at),
            ready_ms: rank.ready_at.saturating_sub(rank.warms_at),
        });
        rank.loads_at = u64::MAX;
        rank.warms_at = u64::MAX;
        rank.ready_at = u64::MAX;
    }

    /// The ranks of other nodes that this node's work with: none while it serves alone.
    pub(crate) fn fellows(&self) -> impl Iterator<Item = &OtherRank> {
        let around = self.around.as_ref().filter(|_| !self.serves_alone());
        around.into_iter().flat_map(|around| around.ranks())
    }

    /// Whether the ranks of all other nodes could generate tokens together with this node's.
    pub(super) fn others_work(&self) -> bool {
        let epoch = self.ranks.first().and_then(Rank::epoch);
        let is_one = |rank: &OtherRank| rank.works && rank.epoch == epoch && !rank.is_alone;
        self.ring_reaches() && self.fellows().all(is_one)
    }

    /// Whether the ring of this node's ranks reaches all that it has to.
    pub(crate) fn ring_reaches(&self) -> bool {
        let Some(around) = &self.around else { return true };
        around.is_ring_whole || self.serves_alone()
    }

    /// Whether tokens of this epoch are garbage.
    pub(crate) fn garbles(&self) -> bool {
        self.ranks.iter().any(|rank| rank.garbles) || self.fellows().any(|rank| rank.garbles)
    }

    /// What ranks of several nodes feel of each other: they form a group once all of one epoch
    /// run, and end within seconds of one that is lost, mute or out of reach.
    pub(super) fn notice_gang(&mut self) {
        let t = self.t;
        let Some(around) = &self.around else { return };
        let own: Vec<OtherRank> = self.ranks.iter().map(|r| r.outwards(t)).collect();
        let all: Vec<OtherRank> = around.ranks().copied().chain(own).collect();
        let is_whole = around.is_ring_whole;
        for index in 0..self.ranks.len() {
            let rank = &mut self.ranks[index];
            let Some(epoch) = rank.epoch() else { continue };
            if rank.is_alone {
                continue;
            }
            let is_lost = all.iter().any(|other| other.epoch != Some(epoch) || other.is_alone);
            let is_mute = !is_whole || all.iter().any(|other| other.is_mute);
            if let Some(forming) = rank.forming {
                let is_left = is_lost
                    || is_mute
                    || rank.fails_at.is_some()
                    || all.iter().any(|other| other.is_leaving || other.fails);
                if !is_left {
                    rank.forming = None;
                    rank.loads_at = t + forming.load_ms;
                    rank.warms_at = rank.loads_at + forming.warm_ms;
                    rank.ready_at = rank.warms_at + forming.ready_ms;
                } else if forming.gives_up_at.is_some_and(|at| t >= at)
                    && rank.asked_at.is_none()
                    && !rank.is_mute(t)
                {
                    self.end_rank(index, Ended::Code(exit::GROUP));
                }
                continue;
            }
            if rank.is_mute(t) || !(is_lost || is_mute) {
                rank.alone_since = None;
                continue;
            }
            let since = *rank.alone_since.get_or_insert(t);
            if rank.asked_at.is_none() && t - since >= 2_000 {
                let code = if is_lost { exit::PEER_LOST } else { exit::PEER_SILENT };
                self.end_rank(index, Ended::Code(code));
            }
        }
    }
}
