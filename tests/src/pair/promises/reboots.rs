//! What supervisors promise of the reboots of several nodes together.

use tandem_policy::{
    Moment, State,
    reboot::{Intent, Stage, Told, told},
};

use super::{Outcome, broken};
use crate::{
    node::Node,
    pair::{
        PATHS, Pair,
        truth::{Deed, NodeTruth, Truth},
    },
};

/// Longest until a node follows one that rebooted by their intent, while both hear each other and
/// nothing keeps it.
const FOLLOW_MS: u64 = 60_000;

/// Longest until one of two proposals is given up: a report, and a turn of either node.
const AGREE_MS: u64 = 8_000;

/// The part in a reboot that is on a node's disk.
pub(crate) fn on_disk(node: &Node) -> Option<Told> {
    let saved = node.disk.saved.as_ref().filter(|_| node.shown.is_some())?;
    told(saved).filter(|told| told.veto.is_none())
}

/// All that is promised of the first time that one of several nodes asks its system to reboot;
/// returns the intent that it acts on, or none if it acted on it before.
pub(crate) fn start(node: &Node) -> Result<Option<Intent>, String> {
    let Some(around) = &node.around else { return Ok(None) };
    let Some(told) = on_disk(node) else {
        return Err("a reboot was asked for with no intent on disk".into());
    };
    let (intent, boot) = (told.intent, node.boot_id());
    if told.stage < Stage::Committed || told.stage == Stage::Verifying {
        return Err(format!("a reboot was asked for in stage {:?}", told.stage));
    }
    let mut truth = around.truth.borrow_mut();
    if let Some((_, asked)) =
        truth.part(&intent.id, around.place).and_then(|part| part.asked.as_ref())
    {
        if *asked != boot {
            return Err(format!("{} was obeyed in {asked} and again in {boot}", intent.id));
        }
        return Ok(None);
    }
    if intent.boots.get(&node.setup.node) != Some(&boot) {
        return Err(format!("{} was obeyed in {boot}, which it does not name", intent.id));
    }
    the_commit_comes_first(node, &truth, &intent)?;
    all_others_are_ready(node, &truth, &intent)?;
    let deed = truth.deeds.get_mut(&intent.id);
    if let Some(part) = deed.and_then(|deed| deed.parts.get_mut(&around.place)) {
        part.asked = Some((node.t, boot));
    }
    Ok(Some(intent))
}

/// Nobody acts on an intent before its proposer has it on disk that there is no way back.
fn the_commit_comes_first(node: &Node, truth: &Truth, intent: &Intent) -> Outcome {
    let proposer = truth.place(&intent.proposer);
    // A node that is ready and finds the proposer in another boot takes that for the commit.
    let boot = proposer.and_then(|place| truth.nodes.get(place)).map(|node| &node.boot);
    if boot != intent.boots.get(&intent.proposer) {
        return Ok(());
    }
    let part = proposer.and_then(|place| truth.part(&intent.id, place));
    match part.and_then(|part| part.reached(Stage::Committed)) {
        Some(_) => Ok(()),
        None => broken(format!(
            "{} reboots before {} had {} committed",
            node.setup.node, intent.proposer, intent.id
        )),
    }
}

/// Whether a node acts on an intent whose proposer is already in another boot.
pub(crate) fn is_following(node: &Node, intent: &Intent) -> bool {
    let Some(around) = &node.around else { return false };
    let truth = around.truth.borrow();
    let place = truth.place(&intent.proposer);
    let boot = place.and_then(|place| truth.nodes.get(place)).map(|node| &node.boot);
    boot != intent.boots.get(&intent.proposer)
}

/// What a node decides to do about a reboot, whether it can be saved or not: it leaves others
/// behind only after a long silence.
pub(crate) fn decided(node: &mut Node, state: &State) -> Outcome {
    let Some((_, now)) = node.shown.as_ref() else { return Ok(()) };
    let now = *now;
    let (Some(intent), Some(stage)) = (state.reboot.intent(), state.reboot.stage()) else {
        node.record.proposes = None;
        return Ok(());
    };
    it_is_of_this_boot_and_not_over(node, intent, stage)?;
    the_first_proposal_counts(node, intent, stage)?;
    let is_going = matches!(stage, Stage::Committed | Stage::Rebooting);
    if !is_going || node.record.left_for.as_ref() == Some(&intent.id) {
        return Ok(());
    }
    node.record.left_for = Some(intent.id.clone());
    let known = node.disk.saved.as_ref().and_then(|saved| {
        saved.reboot.intent().filter(|known| known.id == intent.id)?;
        saved.reboot.stage()
    });
    // An earlier supervisor of this boot decided it.
    if matches!(known, Some(Stage::Committed | Stage::Rebooting)) {
        return Ok(());
    }
    if intent.is_ordered || intent.proposer != node.setup.node {
        return Ok(());
    }
    let is_left = |name: &&String| !intent.boots.contains_key(*name);
    let left: Vec<String> =
        node.setup.nodes.iter().map(|place| &place.name).filter(is_left).cloned().collect();
    left.iter().try_for_each(|name| the_silence_was_long(node, name, known.is_some(), now))
}

/// A node takes part only in an intent that names its present boot, and never again in one that is
/// over, unless it lost its memory.
fn it_is_of_this_boot_and_not_over(node: &Node, intent: &Intent, stage: Stage) -> Outcome {
    let (Some(around), boot) = (&node.around, node.boot_id()) else { return Ok(()) };
    if stage == Stage::Verifying {
        return Ok(());
    }
    if intent.boots.get(&node.setup.node) != Some(&boot) {
        return broken(format!("took part in {} in {boot}, which it does not name", intent.id));
    }
    let truth = around.truth.borrow();
    match truth.part(&intent.id, around.place) {
        Some(part) if part.is_over => broken(format!("{} was over and is obeyed again", intent.id)),
        _ => Ok(()),
    }
}

/// A node gives up its own proposal only for that of a node before it in the config.
fn the_first_proposal_counts(node: &mut Node, intent: &Intent, stage: Stage) -> Outcome {
    let is_own = intent.proposer == node.setup.node;
    let proposed = node.record.proposes.take();
    if is_own && stage <= Stage::Ready {
        node.record.proposes = Some(intent.id.clone());
    }
    let place = |name: &str| node.setup.nodes.iter().position(|place| place.name == name);
    match proposed {
        Some(own) if !is_own && place(&intent.proposer) > place(&node.setup.node) => {
            broken(format!("{own} was given up for {}", intent.id))
        }
        _ => Ok(()),
    }
}

/// The proposer goes only once all that take part are ready, by their own disks, and none refused;
/// and goes without the others only after a long silence, unless an operator ordered that.
fn all_others_are_ready(node: &Node, truth: &Truth, intent: &Intent) -> Outcome {
    if intent.proposer != node.setup.node {
        return Ok(());
    }
    for (place, other) in truth.nodes.iter().enumerate() {
        if other.name == node.setup.node {
            continue;
        }
        if !intent.boots.contains_key(&other.name) {
            continue;
        }
        // One that is in another boot has nothing to get ready any more.
        if intent.boots.get(&other.name) != Some(&other.boot) {
            continue;
        }
        let part = truth.part(&intent.id, place);
        if part.is_some_and(|part| part.vetoed.is_some() && part.reached(Stage::Ready).is_none()) {
            return broken(format!("{} went though {} refused", intent.id, other.name));
        }
        if part.and_then(|part| part.reached(Stage::Ready)).is_none() {
            return broken(format!("{} went though {} was not ready", intent.id, other.name));
        }
    }
    Ok(())
}

/// A node that is left behind was silent for as long as the config asks.
/// A supervisor that finds the intent on disk must only have listened itself.
fn the_silence_was_long(node: &Node, other: &str, is_known: bool, now: Moment) -> Outcome {
    let (Some(around), Some((seen, _))) = (&node.around, &node.shown) else { return Ok(()) };
    if around.is_stale {
        return Ok(());
    }
    let heard_ms = seen.peer(other).and_then(|peer| peer.report.as_ref()).map(|(_, at)| *at);
    let since_ms = heard_ms.unwrap_or(node.machine.supervisor_since - node.machine.booted_at);
    let silent_ms = now.boot_ms.saturating_sub(since_ms);
    let was_long = is_known && heard_ms.is_none();
    let limit_ms = if was_long {
        node.setup.pair.silence_timeout_ms
    } else {
        node.setup.reboot.alone_after_ms
    };
    if silent_ms < limit_ms {
        return broken(format!("a reboot alone, {silent_ms} ms after {other} was heard"));
    }
    Ok(())
}

/// What is promised of all nodes at any time.
pub(super) fn of_all(pair: &mut Pair) -> Outcome {
    nobody_is_down_by_another_choice(pair)?;
    nobody_is_left_behind(pair)?;
    of_two_proposals_one_is_given_up(pair)
}

/// Nodes that are down at once because they were told to are so by one intent, or each alone after
/// the silence of all others, or by an operator.
fn nobody_is_down_by_another_choice(pair: &Pair) -> Outcome {
    let truth = pair.truth.borrow();
    let is_down = |node: &&NodeTruth| node.commanded.as_ref().is_some_and(|c| c.back_at.is_none());
    let down: Vec<_> = truth.nodes.iter().filter(is_down).collect();
    for (index, one) in down.iter().enumerate() {
        for other in down.iter().skip(index + 1) {
            let id = |node: &NodeTruth| node.commanded.as_ref().map(|c| c.id.clone());
            let (Some(of_one), Some(of_other)) = (id(one), id(other)) else { continue };
            let named = |id: &str, node: &NodeTruth| {
                let deed = truth.deeds.get(id).filter(|deed| !deed.intent.is_ordered);
                deed.is_some_and(|deed| {
                    let is_meant = deed.intent.boots.get(&node.name) == Some(&node.boot);
                    let part = truth.place(&node.name).and_then(|place| deed.parts.get(&place));
                    let is_excused = part.is_some_and(|part| part.is_over && part.excuse.is_some());
                    // Its disk has said nothing of it since its memory was lost.
                    let has_forgotten =
                        part.zip(node.lost_memory_at).is_some_and(|(part, lost_at)| {
                            part.saved.values().all(|saved_at| *saved_at < lost_at)
                        });
                    is_meant && !is_excused && !has_forgotten && was_committed(&truth, deed)
                })
            };
            if of_one != of_other && (named(&of_one, other) || named(&of_other, one)) {
                return broken(format!("down at once by {of_one} and by {of_other}"));
            }
        }
    }
    Ok(())
}

/// Whether its proposer had it on disk that there is no way back, and not only looked back at it.
fn was_committed(truth: &Truth, deed: &Deed) -> bool {
    let proposer = truth.place(&deed.intent.proposer).and_then(|place| deed.parts.get(&place));
    proposer.is_some_and(|part| part.reached_before_boot(Stage::Committed))
}

/// Where one node rebooted by an intent, all others that it names do too, once they hear its proposer
/// and nothing keeps them. Another that is back does not tell whether there was no way back: it looks
/// back at an intent also after a power cut.
fn nobody_is_left_behind(pair: &mut Pair) -> Outcome {
    let truth = pair.truth.borrow();
    let mut owed = std::mem::take(&mut pair.owed);
    let mut late = Ok(());
    for (id, deed) in &truth.deeds {
        // A node that was ready may go by itself when it finds the proposer in another boot, though
        // that had withdrawn: then the others owe nothing.
        let is_real = deed.parts.values().any(|part| part.down_at.is_some())
            && deed.intent.boots.len() > 1
            && was_committed(&truth, deed);
        let Some(proposer) = truth.place(&deed.intent.proposer).filter(|_| is_real) else {
            continue;
        };
        for (place, node) in truth.nodes.iter().enumerate() {
            let key = (id.clone(), place);
            let part = deed.parts.get(&place);
            let is_owed = deed.intent.boots.get(&node.name) == Some(&node.boot)
                && node.down_at.is_none()
                && part.is_some_and(|part| part.asked.is_none() && part.excuse.is_none())
                && pair.can_follow(proposer, place, id);
            if !is_owed {
                owed.remove(&key);
                continue;
            }
            let t = pair.lives[place].node.t;
            let since = *owed.entry(key).or_insert(t);
            if t.saturating_sub(since) > FOLLOW_MS {
                late = broken(format!("{} did not reboot with the others: {id}", node.name));
            }
        }
    }
    drop(truth);
    pair.owed = owed;
    late
}

/// Two nodes that propose to each other agree on one as soon as they hear each other.
fn of_two_proposals_one_is_given_up(pair: &mut Pair) -> Outcome {
    let proposals: Vec<Option<Intent>> =
        pair.lives.iter().map(|life| open_proposal(&life.node)).collect();
    for (first, one) in proposals.iter().enumerate() {
        for (second, other) in proposals.iter().enumerate().skip(first + 1) {
            let names = |intent: &Intent, place: usize| {
                let node = &pair.lives[place].node;
                intent.boots.get(&node.setup.node) == Some(&node.boot_id())
            };
            let is_open = one.as_ref().is_some_and(|one| names(one, second))
                && other.as_ref().is_some_and(|other| names(other, first))
                && pair.can_agree(first, second);
            if !is_open {
                pair.rivals.remove(&(first, second));
                continue;
            }
            let t = pair.lives[first].node.t.min(pair.lives[second].node.t);
            let since = *pair.rivals.entry((first, second)).or_insert(t);
            if t.saturating_sub(since) > AGREE_MS {
                return broken(format!("two proposals for {} ms: {one:?}, {other:?}", t - since));
            }
        }
    }
    Ok(())
}

/// The reboot that a node proposes, by its disk, while it could still be given up.
fn open_proposal(node: &Node) -> Option<Intent> {
    let told = on_disk(node).filter(|told| told.stage <= Stage::Ready)?;
    (told.intent.proposer == node.setup.node).then_some(told.intent)
}

impl Pair {
    /// Whether two nodes hear each other soon, and can save what they decide.
    fn can_agree(&self, one: usize, other: usize) -> bool {
        let is_able = |place: usize| {
            let node = &self.lives[place].node;
            let is_stale = node.around.as_ref().is_some_and(|around| around.is_stale);
            node.is_supervised()
                && !node.is_disk_full()
                && !is_stale
                && !self.is_away[place]
                && node.t >= self.unpaired_until[place]
        };
        let t = self.lives[one].node.t.min(self.lives[other].node.t);
        let hears = |from: usize, to: usize| {
            (0..PATHS).any(|path| self.network.is_prompt(from, to, path, t))
        };
        is_able(one) && is_able(other) && hears(one, other) && hears(other, one)
    }

    /// Whether a node could follow another that rebooted: both have supervisors that hear each
    /// other, remember the intent, can save, and nobody holds it.
    fn can_follow(&self, proposer: usize, place: usize, id: &str) -> bool {
        let (one, other) = (&self.lives[proposer].node, &self.lives[place].node);
        let t = one.t.min(other.t);
        let hears = (0..PATHS).any(|path| self.network.is_clear(place, proposer, path, t));
        let remembers = |node: &Node| on_disk(node).is_some_and(|told| told.intent.id == id);
        one.is_supervised()
            && other.is_supervised()
            && hears
            && other.t >= self.unpaired_until[place]
            && remembers(one)
            && !other.is_disk_full()
            && other.machine.terminations == 0
            && self.boots_unattended(place)
    }
}

/// Once all serve, every reboot is over.
pub(in crate::pair) fn nothing_is_owed(pair: &mut Pair) -> Outcome {
    let most = pair.lives[0].node.setup.reboot.return_timeout_ms + 60_000;
    let until = pair.lives.iter().map(|life| life.node.t).max().unwrap_or(0) + most;
    loop {
        let open = pair.lives.iter().find_map(|life| on_disk(&life.node));
        let Some(open) = open else { return Ok(()) };
        if pair.lives.iter().all(|life| life.node.t > until) {
            return broken(format!("all serve, and a reboot is not over: {open:?}"));
        }
        pair.step();
        if pair.is_broken() {
            return Ok(());
        }
    }
}
