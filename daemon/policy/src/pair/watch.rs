//! What is remembered of the other nodes from one turn to the next: what a report alone does not
//! tell. All of it may be forgotten.

use std::collections::BTreeMap;

use super::{NodeReport, PeerSeen};
use crate::{Moment, Observation, Setup, State, fault::Kind};

/// Most boots of a node that are remembered as over. One of which only late reports are heard takes a
/// place too, so this is more than a node goes through while a report is on its way.
const OLD_BOOTS_MAX: usize = 16;

/// What is remembered of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Whether its newest report counts.
    pub is_heard: bool,
    /// Since when it has been heard, or not, since boot.
    pub since_ms: u64,
    /// When it will count as lost if nothing more comes, since boot; `None` once it does.
    pub silent_at_ms: Option<u64>,
    /// Whether it has ever been heard by this supervisor.
    pub was_heard: bool,
    /// The boot it was last heard in.
    pub boot: String,
    /// Boots that are over; at most `OLD_BOOTS_MAX`.
    pub old_boots: Vec<String>,
    /// Of which of these its newest reports have been, and when the first of them came, since this
    /// node's boot.
    pub over: Option<(String, u64)>,
    /// Its ways by address, and whether they are up.
    pub paths: BTreeMap<String, bool>,
    /// The last epoch in which a rank of it was seen running, and the boot of it.
    pub joined: Option<(u64, String)>,
    /// Since when it drains, since this node's boot.
    pub draining_since_ms: Option<u64>,
    /// The epoch in which tokens last came through its gateway, and when, since this node's boot.
    pub proof: Option<(u64, u64)>,
}

/// What is remembered of all, by name.
pub type Watch = BTreeMap<String, Known>;

/// One turn.
pub(crate) fn step(setup: &Setup, state: &mut State, seen: &Observation, now: Moment) {
    let is_peer = |name: &str| setup.nodes.iter().any(|place| place.name == name);
    let epoch = state.epoch;
    let watch = &mut state.scratch.peers;
    watch.retain(|name, _| is_peer(name));
    for peer in seen.peers.iter().filter(|peer| is_peer(&peer.node)) {
        let known = watch
            .entry(peer.node.clone())
            .or_insert_with(|| Known { since_ms: now.boot_ms, ..Known::default() });
        known.look(setup, peer, epoch, now);
    }
}

impl Known {
    fn look(&mut self, setup: &Setup, peer: &PeerSeen, epoch: u64, now: Moment) {
        self.paths = peer.paths.iter().map(|path| (path.address.clone(), path.is_up)).collect();
        let fresh = peer.fresh(setup, now);
        if fresh.is_some() != self.is_heard {
            self.is_heard = fresh.is_some();
            self.since_ms = now.boot_ms;
        }
        let limit_ms = setup.pair.silence_timeout_ms.saturating_add(1);
        let at_ms = peer.report.as_ref().map_or(now.boot_ms, |(_, at_ms)| *at_ms);
        self.silent_at_ms = self.is_heard.then(|| at_ms.saturating_add(limit_ms));
        let Some(report) = fresh else {
            self.over = None;
            return;
        };
        self.was_heard = true;
        if self.is_over(report) {
            // One that was long on its way is followed by newer ones at once; when such come all the
            // time, the node is in that boot. Another old one begins that anew, and so does silence.
            let since_ms = match &self.over {
                Some((boot, since_ms)) if *boot == report.boot => *since_ms,
                _ => at_ms,
            };
            self.over = Some((report.boot.clone(), since_ms));
            if at_ms.saturating_sub(since_ms) >= setup.pair.silence_timeout_ms {
                self.old_boots.retain(|boot| *boot != report.boot);
            }
        } else {
            self.over = None;
        }
        if self.boot != report.boot && !self.old_boots.contains(&report.boot) {
            let over = std::mem::replace(&mut self.boot, report.boot.clone());
            if !over.is_empty() {
                self.old_boots.push(over);
            }
            let surplus = self.old_boots.len().saturating_sub(OLD_BOOTS_MAX);
            self.old_boots.drain(..surplus);
        }
        if report.ranks.iter().any(|r| r.process.is_running() && r.process.epoch() == Some(epoch)) {
            self.joined = Some((epoch, report.boot.clone()));
        }
        let since_ms = self.draining_since_ms.unwrap_or(now.boot_ms);
        self.draining_since_ms = report.is_draining.then_some(since_ms);
        self.see_proof(report, at_ms);
    }

    /// A proof that is not told any more is not taken back by that, since a supervisor that starts
    /// again forgets it: it gets old like any other. Requests that fail take it back.
    fn see_proof(&mut self, report: &NodeReport, at_ms: u64) {
        let fails = |kind: &Kind| matches!(kind, Kind::Canary | Kind::Garbage);
        if report.faults.iter().any(|fault| fails(&fault.kind)) {
            self.proof = None;
        } else if let Some((epoch, age_ms)) = report.proof {
            self.proof = Some((epoch, at_ms.saturating_sub(age_ms)));
        }
    }

    /// Whether a report is of a boot that is over: it was long on its way.
    pub(crate) fn is_over(&self, report: &NodeReport) -> bool {
        self.old_boots.contains(&report.boot)
    }
}
