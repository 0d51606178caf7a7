//! What truly was saved, asked for and done on all nodes: what the promises between nodes are checked
//! against.

use std::collections::BTreeMap;

use tandem_policy::reboot::{Intent, Stage, Told};

use super::promises::LATE_MS;

/// The truth about all nodes.
#[derive(Default)]
pub(crate) struct Truth {
    /// Every node, in the config's order.
    pub(crate) nodes: Vec<NodeTruth>,
    /// Every reboot that was ever on a disk, by its intent's id.
    pub(crate) deeds: BTreeMap<String, Deed>,
    /// When a rank last failed to form the RDMA fabric.
    pub(crate) fabric_failed_at: Option<u64>,
}

/// The truth about one node.
#[derive(Default)]
pub(crate) struct NodeTruth {
    pub(crate) name: String,
    /// The boot it is in, or was in until it went down.
    pub(crate) boot: String,
    pub(crate) boot_since: u64,
    /// When its memory was last lost.
    pub(crate) lost_memory_at: Option<u64>,
    /// The intent that its disk is about.
    pub(crate) intent: Option<String>,
    /// The intent that it last was ready for, and since when, whether or not it could save that.
    pub(super) ready: Option<(String, u64)>,
    /// When it went down, while it is.
    pub(crate) down_at: Option<u64>,
    /// When it last went down because it was told to, by which intent, and when it was back.
    pub(crate) commanded: Option<Commanded>,
    /// The highest epoch that was started since its memory was last lost.
    pub(crate) epoch_floor: u64,
    /// The epochs that were on its disk as started, and in which boot each was.
    pub(crate) led: BTreeMap<u64, String>,
    /// When tokens last came through its gateway in each epoch: others may not know yet that one is
    /// over, while it serves the next alone.
    pub(crate) proofs: BTreeMap<u64, u64>,
    /// The epoch in which its gateway was last too busy for a canary, and when.
    pub(crate) busy: Option<(u64, u64)>,
    /// The same of the first tokens of the leader since then of which it heard: they prove as much as
    /// its own.
    pub(crate) carried: Option<(u64, u64)>,
    /// When it heard of them.
    pub(super) carried_told_at: Option<u64>,
}

/// A machine that went down because it was told to.
#[derive(Clone)]
pub(crate) struct Commanded {
    pub(crate) back_at: Option<u64>,
    pub(crate) id: String,
}

/// One intent, and what every node did about it.
pub(crate) struct Deed {
    pub(crate) intent: Intent,
    /// By the node's place in the config.
    pub(crate) parts: BTreeMap<usize, Part>,
}

/// What one node did about an intent.
#[derive(Clone, Default)]
pub(crate) struct Part {
    /// When each stage was first on its disk.
    pub(crate) saved: BTreeMap<Stage, u64>,
    /// When its refusal was first on its disk.
    pub(crate) vetoed: Option<u64>,
    /// When the machine was first asked to reboot for it, and in which boot.
    pub(crate) asked: Option<(u64, String)>,
    /// When the machine went down for it.
    pub(crate) down_at: Option<u64>,
    /// Whether it was on its disk and is not any more: it is over for this node.
    pub(crate) is_over: bool,
    /// Something that excuses it from following: its memory was lost, an operator came between.
    pub(crate) excuse: Option<&'static str>,
}

impl Part {
    /// When it was first on disk that it had come so far, or farther.
    pub(crate) fn reached(&self, stage: Stage) -> Option<u64> {
        self.saved.range(stage..).map(|(_, at)| *at).min()
    }
}

impl Part {
    /// The same, not counting that another boot only looks back at it.
    pub(crate) fn reached_before_boot(&self, stage: Stage) -> bool {
        self.saved.range(stage..Stage::Verifying).next().is_some()
    }
}

impl NodeTruth {
    /// Tokens came through the leader's gateway.
    fn is_carried(&mut self, epoch: u64, t: u64) {
        let Some((_, busy_at)) = self.busy.filter(|(of, _)| *of == epoch) else { return };
        if self.carried < Some((epoch, busy_at)) {
            self.carried_told_at = None;
        } else if self.carried_told_at.is_some_and(|at| t > at + LATE_MS) {
            return;
        }
        self.carried = Some((epoch, t));
    }
}

impl Truth {
    /// A node's disk now says this about a reboot; returns whether that is news.
    pub(crate) fn saved(&mut self, place: usize, told: &Told, t: u64) -> bool {
        let deed = self
            .deeds
            .entry(told.intent.id.clone())
            .or_insert_with(|| Deed { intent: told.intent.clone(), parts: BTreeMap::new() });
        let part = deed.parts.entry(place).or_default();
        if told.veto.is_some() {
            let is_news = part.vetoed.is_none();
            part.vetoed.get_or_insert(t);
            return is_news;
        }
        let is_news = !part.saved.contains_key(&told.stage);
        part.saved.entry(told.stage).or_insert(t);
        is_news
    }

    /// Tokens came through a node's gateway.
    pub(crate) fn saw_tokens(&mut self, place: usize, epoch: u64, t: u64) {
        if let Some(node) = self.nodes.get_mut(place) {
            node.proofs.insert(epoch, t);
        }
        if place == 0 {
            self.nodes.iter_mut().for_each(|node| node.is_carried(epoch, t));
        }
    }

    /// A node hears what the leader said at this time.
    pub(crate) fn hears_leader(&mut self, place: usize, said_at: u64, t: u64) {
        let Some(node) = self.nodes.get_mut(place) else { return };
        if node.carried.is_some_and(|(_, at)| said_at >= at) {
            node.carried_told_at.get_or_insert(t);
        }
    }

    /// A node decided how far it is with a reboot, and may not be able to save it.
    pub(crate) fn decided(&mut self, place: usize, told: &Told, t: u64) {
        let Some(node) = self.nodes.get_mut(place) else { return };
        let is_known = node.ready.as_ref().is_some_and(|(id, _)| *id == told.intent.id);
        match told.stage {
            Stage::Draining => node.ready = None,
            Stage::Ready if !is_known => node.ready = Some((told.intent.id.clone(), t)),
            _ => {}
        }
    }

    /// A node's disk is now about this intent, or none: the one before is over for it.
    /// Who was ready for the one before since long ago, and whose proposer is down or not heard, has waited
    /// for it as long as it must.
    pub(crate) fn turns_to(
        &mut self,
        place: usize,
        id: Option<&str>,
        long_ago: u64,
        unheard: &[String],
    ) {
        let is_away = |node: &&NodeTruth| node.down_at.is_some() || unheard.contains(&node.name);
        let away: Vec<_> =
            self.nodes.iter().filter(is_away).map(|node| node.name.clone()).collect();
        let Some(node) = self.nodes.get_mut(place).filter(|node| node.intent.as_deref() != id)
        else {
            return;
        };
        let before = std::mem::replace(&mut node.intent, id.map(str::to_owned));
        let waited_since = node.ready.as_ref().filter(|(id, _)| before.as_ref() == Some(id));
        let has_waited = waited_since.is_some_and(|(_, at)| *at <= long_ago);
        let deed = before.and_then(|before| self.deeds.get_mut(&before));
        let Some(deed) = deed else { return };
        if let Some(part) = deed.parts.get_mut(&place) {
            part.is_over = true;
            if has_waited && away.contains(&deed.intent.proposer) {
                part.excuse.get_or_insert(
                    "its proposer was away when it had waited for as long as it must",
                );
            }
        }
    }

    /// A node forgot what is over.
    pub(crate) fn forget(&mut self, place: usize) {
        if let Some(node) = self.nodes.get_mut(place) {
            node.intent = None;
        }
        let parts = self.deeds.values_mut().filter_map(|deed| deed.parts.get_mut(&place));
        parts.for_each(|part| part.is_over = false);
    }

    /// What a node did about an intent.
    pub(crate) fn part(&self, id: &str, place: usize) -> Option<&Part> {
        self.deeds.get(id).and_then(|deed| deed.parts.get(&place))
    }

    /// A node's place in the config.
    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.name == name)
    }

    /// Something excuses a node from all that is under way.
    pub(crate) fn excuse(&mut self, place: usize, why: &'static str) {
        for deed in self.deeds.values_mut() {
            if let Some(part) = deed.parts.get_mut(&place)
                && part.asked.is_none()
            {
                part.excuse.get_or_insert(why);
            }
        }
    }
}
