//! The other nodes' say in an epoch.
//!
//! The node with rank 0 leads: it begins an epoch when all could take part, tells it with its report
//! as long as it wants it, and ends it when a rank of another node is gone. The others follow: they
//! start and stop with what it tells. A node that is silent stops nothing, since its ranks may run
//! on while its supervisor starts again, and a way that is cut between the ranks is found by the
//! ranks themselves.

use super::{StopCause, failed, failure};
use crate::{
    Moment, Observation, Process, Setup, State,
    fault::Kind,
    pair::{self, NodePlace, NodeReport, Start, fabric, parity::Parity},
};

/// How long another node may take to start its ranks once rank 0 listens, in milliseconds. It hears
/// of it within two reports and starts a process within seconds; rank 0 has loaded nothing yet and
/// loses nothing by waiting.
const JOIN_TIMEOUT_MS: u64 = 30_000;

/// How long another node may refuse an epoch that has just begun, in milliseconds: what it reads of
/// its host once in a while may be too old for a moment.
const REFUSAL_GRACE_MS: u64 = 5_000;

/// What the other nodes mean for this one's epoch.
pub(super) struct Others {
    /// Why the epoch is to end.
    pub(super) stop: Option<StopCause>,
    /// Whether all their ranks are ready.
    pub(super) are_ready: bool,
    /// Whether none of their ranks is known to run.
    pub(super) are_gone: bool,
    /// Those that are not ready, for people.
    pub(super) late: Vec<String>,
}

/// What a node's newest report says of its ranks in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Nothing that counts.
    Silent,
    /// It has none in it.
    Absent,
    /// They run, and not all are ready.
    Rising,
    /// All are ready.
    Ready,
    /// One has ended.
    Broken,
}

impl Part {
    fn of(place: &NodePlace, report: Option<&NodeReport>, epoch: u64) -> Self {
        let Some(report) = report else { return Self::Silent };
        let of_epoch = || {
            let ranks = report.ranks.iter().filter(|rank| place.ranks.contains(&rank.rank));
            ranks.filter(|rank| rank.process.epoch() == Some(epoch))
        };
        let is_ready = |rank: &&pair::RankReport| rank.phase == Some(tandem_wire::Phase::Ready);
        if of_epoch().next().is_none() {
            Self::Absent
        } else if of_epoch().any(|rank| !rank.process.is_running()) {
            Self::Broken
        } else if of_epoch().filter(is_ready).count() == place.ranks.len() {
            Self::Ready
        } else {
            Self::Rising
        }
    }
}

/// What the others mean now, by the role of this node.
pub(super) fn look(setup: &Setup, state: &State, seen: &Observation, now: Moment) -> Others {
    let mut others = Others { stop: None, are_ready: true, are_gone: true, late: Vec::new() };
    if setup.is_alone() {
        return others;
    }
    if !setup.leads() {
        others.stop = stopped_by_leader(setup, state, seen, now);
        return others;
    }
    for place in setup.nodes.iter().filter(|place| place.name != setup.node) {
        let report = seen.peer(&place.name).and_then(|peer| peer.fresh(setup, now));
        let part = Part::of(place, report, state.epoch);
        if part != Part::Ready {
            others.are_ready = false;
            others.late.push(place.name.clone());
        }
        others.are_gone &= !report.is_some_and(has_running);
        if others.stop.is_none() {
            others.stop = lost(setup, state, seen, now, (place, part, report));
        }
    }
    others
}

/// Whether a rank of the pair runs there.
fn has_running(report: &NodeReport) -> bool {
    !report.is_alone && report.ranks.iter().any(|rank| rank.process.is_running())
}

/// Why the leader ends an epoch because of one other node.
fn lost(
    setup: &Setup,
    state: &State,
    seen: &Observation,
    now: Moment,
    (place, part, report): (&NodePlace, Part, Option<&NodeReport>),
) -> Option<StopCause> {
    let node = &place.name;
    let fails = |text: String| Some(failed(Kind::Engine, format!("{node}: {text}")));
    let known = state.scratch.peers.get(node);
    if report.is_some_and(|report| report.is_draining) && state.draining_since_ms.is_none() {
        let since_ms = known.and_then(|known| known.draining_since_ms).unwrap_or(now.boot_ms);
        // Its ranks wait for all of the time; the others may need half of it to unload.
        let patience_ms = setup.supervise.drain_timeout_ms / 2;
        let is_over = now.boot_ms.saturating_sub(since_ms) >= patience_ms;
        let ends = is_over || !has_requests(state, seen);
        return ends.then(|| StopCause::Peer { node: node.clone() });
    }
    let joined = known.and_then(|known| known.joined.as_ref());
    let joined = joined.filter(|(epoch, _)| *epoch == state.epoch);
    let is_overdue = state.scratch.join_due_ms.is_some_and(|due_ms| now.boot_ms >= due_ms);
    let lasted_ms = now.boot_ms.saturating_sub(state.gang_since_ms);
    match (part, report) {
        (Part::Broken, _) => {
            let root = failure::root_cause(setup, seen, state.epoch);
            Some(failed(Kind::Engine, root.text))
        }
        (Part::Absent, Some(report)) if joined.is_some_and(|(_, boot)| *boot != report.boot) => {
            fails("it has rebooted".into())
        }
        (Part::Absent, _) if joined.is_some() || state.gang == super::Phase::Serving => {
            fails("its ranks are gone".into())
        }
        (Part::Absent, Some(report))
            if lasted_ms >= REFUSAL_GRACE_MS
                && let Some(refusal) =
                    report.refusal.as_ref().or(fabric::refused_by(state, report)) =>
        {
            fails(refusal.clone())
        }
        (Part::Absent, _) if is_overdue => {
            fails(format!("it did not start its ranks within {JOIN_TIMEOUT_MS} ms"))
        }
        (Part::Silent, _) if is_overdue && joined.is_none() => {
            fails("it fell silent before it started its ranks".into())
        }
        _ => None,
    }
}

/// Whether rank 0 says that requests run.
fn has_requests(state: &State, seen: &Observation) -> bool {
    let vitals = seen.ranks.first().and_then(|rank| rank.vitals.as_ref());
    vitals.is_some_and(|vitals| vitals.epoch == state.epoch && vitals.active > 0)
}

/// Sets when the others must have begun: from when this node's first rank listens.
pub(super) fn note_listening(setup: &Setup, state: &mut State, seen: &Observation, now: Moment) {
    let leads = setup.leads() && !setup.is_alone();
    let is_starting = matches!(state.gang, super::Phase::Starting { .. });
    let missing = |(name, known): (&String, &pair::watch::Known)| {
        *name != setup.node && known.joined.as_ref().is_none_or(|(epoch, _)| *epoch != state.epoch)
    };
    let is_waited_for = state.scratch.peers.iter().any(missing);
    let listens = seen.ranks.first().is_some_and(|rank| rank.phase.is_some());
    let waits = leads && is_starting && is_waited_for && listens;
    let due_ms = state.scratch.join_due_ms.unwrap_or(now.boot_ms.saturating_add(JOIN_TIMEOUT_MS));
    state.scratch.join_due_ms = waits.then_some(due_ms);
}

/// What the leader tells now, if it is heard and of no boot that is over.
fn leader<'a>(
    setup: &Setup,
    state: &State,
    seen: &'a Observation,
    now: Moment,
) -> Option<&'a NodeReport> {
    let report = seen.peer(setup.leader())?.fresh(setup, now)?;
    let is_over = state.scratch.peers.get(setup.leader()).is_some_and(|k| k.is_over(report));
    (!is_over).then_some(report)
}

/// Why a follower ends an epoch: the leader does not want it any more.
fn stopped_by_leader(
    setup: &Setup,
    state: &State,
    seen: &Observation,
    now: Moment,
) -> Option<StopCause> {
    let report = leader(setup, state, seen, now)?;
    let is_wanted = report.start.as_ref().is_some_and(|start| start.epoch == state.epoch);
    (!is_wanted).then_some(StopCause::Leader)
}

/// Whether the leader can be relied on to end the epoch when this node drains.
pub(super) fn is_led(setup: &Setup, seen: &Observation, now: Moment) -> bool {
    let is_heard =
        || seen.peer(setup.leader()).is_some_and(|peer| peer.fresh(setup, now).is_some());
    !setup.is_alone() && !setup.leads() && is_heard()
}

/// The epoch that a follower is to start: newer than all that it knows, of the same plan, and with
/// a rank 0 that listens.
pub(super) fn told_start(
    setup: &Setup,
    state: &State,
    seen: &Observation,
    now: Moment,
) -> Option<Start> {
    let peer = seen.peer(setup.leader()).filter(|peer| peer.is_paired)?;
    let report = leader(setup, state, seen, now)?;
    let start = report.start.clone().filter(|start| start.epoch > highest_epoch(state, seen))?;
    let listens = |rank: &pair::RankReport| {
        let is_running =
            matches!(rank.process, Process::Running { epoch, .. } if epoch == start.epoch);
        rank.rank == 0 && is_running && rank.phase.is_some()
    };
    let is_equal = Parity::of(setup, seen, peer, report) == Parity::Equal;
    let is_possible = is_equal && fabric::agrees(setup, state, seen, now, &start.carrier);
    (is_possible && report.ranks.iter().any(listens)).then_some(start)
}

/// Whether the other nodes are still as they were when the epoch was decided on: it may have waited
/// for the disk.
pub(super) fn still_agree(setup: &Setup, state: &State, seen: &Observation, now: Moment) -> bool {
    if !fabric::is_still_there(setup, state, seen, now) {
        return false;
    }
    if setup.leads() {
        return pair::hindrance(setup, seen, now).is_none();
    }
    let start = leader(setup, state, seen, now).and_then(|report| report.start.as_ref());
    start.is_some_and(|start| start.epoch == state.epoch)
}

/// The highest epoch that this node knows of itself: its own memory of them may be lost.
pub(super) fn highest_epoch(state: &State, seen: &Observation) -> u64 {
    let of_ranks = seen.ranks.iter().filter_map(|rank| rank.process.epoch());
    of_ranks.max().unwrap_or(0).max(state.epoch)
}

/// The highest epoch that any other node tells of, heard lately or not.
pub(super) fn highest_told(setup: &Setup, seen: &Observation) -> u64 {
    let reports = seen.peers.iter().filter_map(|peer| peer.report.as_ref());
    let told = reports.flat_map(|(report, _)| {
        let of_ranks = report.ranks.iter().filter_map(|rank| rank.process.epoch());
        of_ranks.chain([report.epoch])
    });
    if setup.is_alone() { 0 } else { told.max().unwrap_or(0) }
}
