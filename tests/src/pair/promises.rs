//! What supervisors promise of several nodes together. Each is checked against what truly happened
//! on all of them, not against what they say.

pub(crate) mod reboots;

use tandem_policy::{
    Moment, Observation, State, Turn,
    invariant::Invariant,
    leak,
    pair::{Mode, PeerSeen},
};

use super::{Pair, truth::Truth};
use crate::{node::Node, oracle};

type Outcome = Result<(), String>;

/// Longest that what a node said may be under way and then wait for a turn, beyond the silence
/// after which it counts as lost.
pub(crate) const LATE_MS: u64 = 9_000;

/// Longest that all could serve before a fallback is not started any more.
const RETURN_MS: u64 = 15_000;

fn broken(why: impl Into<String>) -> Outcome {
    Err(why.into())
}

/// All that is promised of a start on one of several nodes.
pub(crate) fn start(node: &Node, epoch: u64, now: Moment) -> Outcome {
    let Some(around) = &node.around else { return Ok(()) };
    let truth = around.truth.borrow();
    if node.setup.leads() {
        a_leader_starts_what_all_can(node, now)?;
        let lost = truth.nodes.get(around.place).and_then(|node| node.lost_memory_at);
        // Of one that forgot, and is shown an old report in place of the newest, nobody can ask it.
        if around.is_stale && lost.is_some() {
            return Ok(());
        }
        a_number_is_new_to_all(&truth, epoch)
    } else {
        a_follower_starts_what_is_led(node, &truth, epoch, now)
    }
}

/// Rank 0 starts only if every other node is heard, has the same plan and files, can start its ranks
/// and runs none.
fn a_leader_starts_what_all_can(node: &Node, now: Moment) -> Outcome {
    let (Some(around), Some((seen, _))) = (&node.around, &node.shown) else { return Ok(()) };
    if around.is_stale {
        return Ok(());
    }
    for peer in &seen.peers {
        let name = &peer.node;
        let Some((report, at_ms)) = &peer.report else {
            return broken(format!("ranks were started though {name} was not heard"));
        };
        let age_ms = now.boot_ms.saturating_sub(*at_ms);
        if !peer.is_paired || age_ms > node.setup.pair.silence_timeout_ms {
            return broken(format!("ranks were started though {name} was silent for {age_ms} ms"));
        }
        if report.ranks.iter().any(|rank| rank.process.is_running()) {
            return broken(format!("ranks were started while ranks of {name} ran"));
        }
        if report.plan != node.setup.plan {
            return broken(format!("ranks were started though {name} has another plan"));
        }
        if report.manifest.is_none() || report.manifest.as_deref() != seen.manifest_digest() {
            return broken(format!("ranks were started though {name} has other files"));
        }
        if report.version != node.setup.version || report.os != node.setup.os {
            return broken(format!("ranks were started though {name} has another version"));
        }
        if let Some(why) = &report.refusal {
            return broken(format!("ranks were started though {name} refuses: {why}"));
        }
        if report.is_held || report.is_draining {
            return broken(format!("ranks were started though {name} is held or drained"));
        }
    }
    let is_loaded =
        |rank: &super::around::OtherRank| rank.epoch.is_some() && rank.is_loaded && !rank.is_alone;
    match around.ranks().find(|rank| is_loaded(rank)) {
        Some(rank) => broken(format!("a start while ranks of epoch {:?} had loaded", rank.epoch)),
        None => Ok(()),
    }
}

/// An epoch's number is above all that any node could still know of.
fn a_number_is_new_to_all(truth: &Truth, epoch: u64) -> Outcome {
    match truth.nodes.iter().find(|node| node.epoch_floor >= epoch) {
        Some(node) => {
            broken(format!("epoch {epoch} after epoch {} of {}", node.epoch_floor, node.name))
        }
        None => Ok(()),
    }
}

/// Another node starts only what the leader had on disk as started, says so now, and said so in the
/// boot that it is in.
fn a_follower_starts_what_is_led(node: &Node, truth: &Truth, epoch: u64, now: Moment) -> Outcome {
    let (Some(around), Some((seen, _))) = (&node.around, &node.shown) else { return Ok(()) };
    if around.leader_boots.is_surely_over() {
        return broken(format!("epoch {epoch} of a boot of its leader that is known to be over"));
    }
    if around.is_stale {
        return Ok(());
    }
    let leader = seen.peer(node.setup.leader());
    let Some((report, at_ms)) = leader.and_then(|peer| peer.report.as_ref()) else {
        return broken("a follower started ranks and never heard its leader");
    };
    if report.start.as_ref().map(|start| start.epoch) != Some(epoch) {
        return broken(format!("epoch {epoch} was started; the leader said {:?}", report.start));
    }
    let limit_ms = node.setup.pair.silence_timeout_ms;
    if now.boot_ms.saturating_sub(*at_ms) > limit_ms {
        return broken("a follower obeyed a leader that was silent");
    }
    let Some(of) = truth.nodes.first() else { return Ok(()) };
    let is_lost = of.lost_memory_at.is_some_and(|at| node.t - at.min(node.t) < limit_ms + LATE_MS);
    match of.led.get(&epoch) {
        Some(boot) if *boot != report.boot => {
            return broken(format!("epoch {epoch} was led in {boot}, not in {}", report.boot));
        }
        None if !is_lost => return broken(format!("epoch {epoch} was never on its leader's disk")),
        _ => {}
    }
    let gone_at = if of.boot == report.boot { of.down_at } else { Some(of.boot_since) };
    match gone_at {
        Some(at) if node.t.saturating_sub(at) > limit_ms + LATE_MS => {
            broken(format!("epoch {epoch} of a boot that ended {} ms ago", node.t - at))
        }
        _ => Ok(()),
    }
}

/// The fallback is started only where the config has one, and after the others could not take part
/// for as long as it asks.
pub(crate) fn a_fallback_is_needed(node: &Node) -> Outcome {
    let Some(fallback) = &node.setup.fallback else {
        return broken("a fallback was started where none is configured");
    };
    let lasted_ms = node.record.pair_possible_for_ms;
    if lasted_ms > RETURN_MS {
        return broken(format!(
            "{} was started, and all could serve for {lasted_ms} ms",
            fallback.model
        ));
    }
    Ok(())
}

/// A node turns to its fallback only after the others could not take part for as long as the config
/// asks.
pub(crate) fn turned_to_fallback(node: &Node, state: &State) -> Outcome {
    let (Some(fallback), Some((_, now))) = (&node.setup.fallback, &node.shown) else {
        return Ok(());
    };
    let is_alone = matches!(state.mode, Mode::Alone { .. });
    let was_alone = matches!(node.record.mode, Some(Mode::Alone { .. }));
    let lasted_ms = now.boot_ms.saturating_sub(node.record.pair_possible_ms);
    if is_alone && !was_alone && lasted_ms < fallback.after_ms {
        return broken(format!("turned to the fallback {lasted_ms} ms after all could serve"));
    }
    Ok(())
}

/// Whether nothing of this node's own keeps its fallback from starting.
pub(crate) fn could_start_fallback(node: &Node, seen: &Observation, now: Moment) -> bool {
    let (setup, seen) = oracle::of_fallback(&node.setup, seen);
    // A leak that was confirmed is over by evidence of its own kind only.
    let saved = node.disk.saved.as_ref();
    let is_leaking = saved.is_some_and(|s| matches!(s.leak, leak::Verdict::Confirmed { .. }));
    !is_leaking
        && node.record.intent.hold.is_none()
        && !node.record.intent.drained
        && reboots::on_disk(node).is_none()
        && oracle::refuses_start(node, &setup, &seen, now).is_none()
}

/// Whether the others look as if the pair could be served, by what is shown.
pub(crate) fn is_pair_possible(node: &Node, seen: &Observation, now: Moment) -> bool {
    let setup = &node.setup;
    let could = |peer: &PeerSeen| {
        let Some((report, at_ms)) = &peer.report else { return false };
        let is_fresh = now.boot_ms.saturating_sub(*at_ms) <= setup.pair.silence_timeout_ms;
        let is_equal = report.plan == setup.plan
            && report.manifest.is_some()
            && report.manifest.as_deref() == seen.manifest_digest()
            && report.version == setup.version
            && report.os == setup.os;
        let is_free = !report.ranks.iter().any(|rank| rank.process.is_running());
        peer.is_paired
            && is_fresh
            && is_equal
            && !report.is_draining
            && !report.is_held
            && report.refusal.is_none()
            && (report.is_alone || is_free)
    };
    // One that may not do without its fabric serves with the others only by it.
    let has_fabric = !setup.uses_fabric
        || setup.ring_fallback
        || [Invariant::RdmaEnabled, Invariant::RdmaActive]
            .into_iter()
            .all(|invariant| oracle::accepts(setup, invariant, seen, now));
    has_fabric && seen.peers.iter().all(could)
}

/// Whether a node's gateway was too busy for a canary lately, or tokens of the leader came since:
/// then those, which [`proof_is_of_all`] looks at, prove that it passes requests on.
pub(crate) fn was_busy(node: &Node, limit_ms: u64) -> bool {
    let Some(around) = &node.around else { return false };
    let truth = around.truth.borrow();
    let last = truth.nodes.get(around.place).and_then(|truth| truth.busy.max(truth.carried));
    last.is_some_and(|(_, at)| node.t.saturating_sub(at) <= limit_ms + LATE_MS)
}

/// Serving is called proven only if tokens came lately through the gateway of every node.
pub(crate) fn proof_is_of_all(node: &Node, turn: &Turn) -> Outcome {
    let Some(around) = &node.around else { return Ok(()) };
    if !turn.status.proven || around.is_stale || node.ranks.iter().any(|rank| rank.is_alone) {
        return Ok(());
    }
    let canary = &node.setup.canary;
    let limit_ms = 3 * canary.period_ms + canary.timeout_ms;
    let limit_ms = limit_ms + node.setup.pair.silence_timeout_ms + LATE_MS;
    let truth = around.truth.borrow();
    let epoch = turn.status.epoch;
    let is_recent = |at: Option<&u64>| at.is_some_and(|at| node.t.saturating_sub(*at) <= limit_ms);
    let leader = truth.nodes.first().and_then(|leader| leader.proofs.get(&epoch));
    for other in &truth.nodes {
        let own = other.proofs.get(&epoch);
        // A gateway that is only too busy for a canary passes on what others' tokens prove.
        let of_epoch = |proof: &Option<(u64, u64)>| proof.filter(|(of, _)| *of == epoch);
        let busy = of_epoch(&other.busy).map(|(_, at)| at);
        let carried = of_epoch(&other.carried).map(|(_, at)| at);
        let is_carried =
            is_recent(busy.as_ref()) && is_recent(leader) || is_recent(carried.as_ref());
        if !is_recent(own) && !is_carried {
            return broken(format!(
                "proven in epoch {epoch}; through {} tokens came: {own:?}",
                other.name
            ));
        }
    }
    Ok(())
}

/// What is promised of all nodes at any time, after one of them had its turn.
pub(super) fn of_all(pair: &mut Pair, place: usize) {
    let outcome = one_epoch_has_loaded(pair)
        .and_then(|()| super::carriers::one_carrier_for_all(pair))
        .and_then(|()| fallback_and_pair_exclude_each_other(pair))
        .and_then(|()| reboots::of_all(pair));
    pair.lives[place].node.check(outcome);
}

/// Never two epochs alive: all ranks that have loaded are of one. One that waits for its peers has
/// loaded nothing, and without those of its epoch it never will.
fn one_epoch_has_loaded(pair: &Pair) -> Outcome {
    let mut epochs = Vec::new();
    for life in &pair.lives {
        let t = life.node.t;
        let of = |rank: &crate::node::ranks::Rank| {
            rank.epoch().filter(|_| rank.has_loaded(t) && !rank.is_alone)
        };
        epochs.extend(life.node.ranks.iter().filter_map(of));
    }
    epochs.dedup();
    match epochs.as_slice() {
        [] | [_] => Ok(()),
        several => broken(format!("epochs {several:?} were alive at once")),
    }
}

/// A node that serves the fallback runs no rank of the pair.
fn fallback_and_pair_exclude_each_other(pair: &Pair) -> Outcome {
    for life in &pair.lives {
        let runs = |is_alone: bool| {
            let is = |rank: &&crate::node::ranks::Rank| {
                rank.process.is_running() && rank.is_alone == is_alone
            };
            life.node.ranks.iter().any(|rank| is(&rank))
        };
        if runs(true) && runs(false) {
            return broken(format!("{} runs fallback and pair at once", life.node.setup.node));
        }
    }
    Ok(())
}
