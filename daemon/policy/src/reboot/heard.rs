//! What the other nodes say of a reboot, and since when they say nothing.

use std::collections::BTreeMap;

use super::{
    Intent, Phase, Stage, Told, VetoKind,
    limits::{self, Asked},
};
use crate::{Moment, Observation, Setup, State, pair::NODES_MAX, pair::NodeReport};

/// What a crash may forget: it is heard again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ears {
    /// Since when each other node that is not heard has been silent, since boot.
    silent_since_ms: BTreeMap<String, u64>,
    /// How long its proposer was up when it last told of the present intent, and that intent's id.
    told: Option<(String, u64)>,
    /// Since when its proposer has been heard in the named boot without a word of it, since boot.
    unsaid_since_ms: Option<u64>,
    /// Since when each node of the present intent has been heard in another boot than it names, since
    /// boot.
    other_boot_since_ms: BTreeMap<String, u64>,
    /// The intent that another node was last heard to have committed to, which this node may not have
    /// been able to save.
    committed: Option<String>,
}

/// Another node's part in an intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// It is not heard.
    Silent,
    /// The boot that was to end did.
    Back,
    /// It takes no part, or no longer.
    Out,
    /// It refuses.
    Refuses(VetoKind),
    /// It takes part, so far.
    At(Stage),
}

impl Part {
    /// Whether it is at least there.
    pub(super) fn has_reached(self, stage: Stage) -> bool {
        match self {
            Self::Back => true,
            Self::At(reached) => reached >= stage,
            Self::Silent | Self::Out | Self::Refuses(_) => false,
        }
    }
}

/// Another node's part in an intent that is to end this boot of it.
pub(super) fn part(
    setup: &Setup,
    state: &State,
    seen: &Observation,
    now: Moment,
    intent: &Intent,
    (node, boot): (&str, &str),
) -> Part {
    let Some(report) = fresh(setup, seen, now, node) else { return Part::Silent };
    if report.boot != boot {
        // One report may be of an earlier boot and long on its way. No single one is fresh for longer
        // than this.
        let since_ms = state.scratch.reboot.other_boot_since_ms.get(node);
        let lasted_ms = since_ms.map_or(0, |since_ms| now.boot_ms.saturating_sub(*since_ms));
        let is_back = lasted_ms > setup.pair.silence_timeout_ms;
        return if is_back { Part::Back } else { Part::Silent };
    }
    match report.reboot.as_ref().filter(|told| told.intent.id == intent.id) {
        None => Part::Out,
        Some(Told { veto: Some(kind), .. }) => Part::Refuses(*kind),
        Some(told) => Part::At(told.stage),
    }
}

/// The proposer's part, in another node's intent. A report older than one that told of the intent
/// does not take it back: reports on two paths can pass each other.
pub(super) fn proposer(
    setup: &Setup,
    state: &State,
    seen: &Observation,
    now: Moment,
    intent: &Intent,
) -> Part {
    let node = intent.proposer.as_str();
    let boot = intent.boots.get(node).map_or("", String::as_str);
    match part(setup, state, seen, now, intent, (node, boot)) {
        Part::Out | Part::Refuses(_) => {
            let uptime_ms = fresh(setup, seen, now, node).map_or(0, |report| report.uptime_ms);
            let told = state.scratch.reboot.told.as_ref().filter(|(id, _)| *id == intent.id);
            let is_old = match told {
                Some((_, told_ms)) => uptime_ms < *told_ms,
                // A supervisor that has just started does not know which report is the newer one. No
                // single one is fresh for longer than this.
                None => {
                    let since_ms = state.scratch.reboot.unsaid_since_ms.unwrap_or(now.boot_ms);
                    now.boot_ms.saturating_sub(since_ms) <= setup.pair.silence_timeout_ms
                }
            };
            if is_old { Part::Silent } else { Part::Out }
        }
        part => part,
    }
}

/// Whether the proposer is heard in another boot than the intent is to end, be it for too short a time to
/// count as back.
pub(super) fn may_be_back(state: &State, intent: &Intent) -> bool {
    state.scratch.reboot.other_boot_since_ms.contains_key(&intent.proposer)
}

/// Whether another node was heard to have committed, and its proposer not to have given it up since.
pub(super) fn was_committed(state: &State, intent: &Intent) -> bool {
    state.scratch.reboot.committed.as_ref() == Some(&intent.id)
}

/// The present intent, if another node says that it has committed to it; nothing if its proposer gave it
/// up; what was heard before while neither is so.
fn committed(setup: &Setup, state: &State, seen: &Observation, now: Moment) -> Option<String> {
    let intent = state.reboot.intent()?;
    let is_past = |other| {
        let part = part(setup, state, seen, now, intent, other);
        matches!(part, Part::At(Stage::Committed | Stage::Rebooting))
    };
    let is_over = || proposer(setup, state, seen, now, intent) == Part::Out;
    let was_heard = was_committed(state, intent) && !is_over();
    (intent.others(setup).any(is_past) || was_heard).then(|| intent.id.clone())
}

fn fresh<'a>(
    setup: &Setup,
    seen: &'a Observation,
    now: Moment,
    node: &str,
) -> Option<&'a NodeReport> {
    seen.peer(node).and_then(|peer| peer.fresh(setup, now))
}

/// When a node was last heard, however long ago, since boot.
pub(super) fn last_ms(seen: &Observation, node: &str) -> Option<u64> {
    let peer = seen.peer(node).filter(|peer| peer.is_paired)?;
    peer.report.as_ref().map(|(_, at_ms)| *at_ms)
}

/// The other nodes of the config, and what they say.
pub(super) fn nodes<'a>(
    setup: &'a Setup,
    seen: &'a Observation,
    now: Moment,
) -> impl Iterator<Item = (&'a str, Option<&'a NodeReport>)> {
    let others = setup.nodes.iter().map(|node| node.name.as_str()).filter(|n| *n != setup.node);
    others.map(move |node| (node, fresh(setup, seen, now, node)))
}

/// One turn: notes who is silent, who is in another boot, and what was told last.
pub(super) fn listen(setup: &Setup, state: &mut State, seen: &Observation, now: Moment) {
    let committed = committed(setup, state, seen, now);
    let ears = &mut state.scratch.reboot;
    ears.committed = committed;
    for (node, report) in nodes(setup, seen, now) {
        match report {
            Some(_) => drop(ears.silent_since_ms.remove(node)),
            None => {
                let since_ms = ears.silent_since_ms.entry(node.to_owned()).or_insert(now.boot_ms);
                // It may have spoken between two turns that are far apart, and be silent again.
                *since_ms = (*since_ms).max(last_ms(seen, node).unwrap_or(0));
            }
        }
    }
    let Some(intent) = state.reboot.intent() else {
        ears.other_boot_since_ms.clear();
        ears.unsaid_since_ms = None;
        return ears.told = None;
    };
    for (node, report) in nodes(setup, seen, now) {
        let named = intent.boots.get(node);
        if report.is_some_and(|report| named.is_some_and(|boot| *boot != report.boot)) {
            ears.other_boot_since_ms.entry(node.to_owned()).or_insert(now.boot_ms);
        } else {
            ears.other_boot_since_ms.remove(node);
        }
    }
    let speaker = fresh(setup, seen, now, &intent.proposer);
    let tells = |report: &NodeReport| {
        report.reboot.as_ref().is_some_and(|told| told.intent.id == intent.id)
    };
    match speaker.filter(|report| intent.boots.get(&intent.proposer) == Some(&report.boot)) {
        Some(report) if !tells(report) => {
            ears.unsaid_since_ms.get_or_insert(now.boot_ms);
        }
        _ => ears.unsaid_since_ms = None,
    }
    if let Some(report) = speaker.filter(|report| tells(report)) {
        let last_ms = ears.told.take().filter(|(id, _)| *id == intent.id).map_or(0, |(_, ms)| ms);
        // In another boot it looks back at it, so all that is heard of the named one is older.
        let is_named = intent.boots.get(&intent.proposer) == Some(&report.boot);
        let uptime_ms = if is_named { report.uptime_ms } else { u64::MAX };
        ears.told = Some((intent.id.clone(), uptime_ms.max(last_ms)));
    }
}

/// Since when a node has not been heard, in milliseconds.
pub(super) fn silent_ms(state: &State, node: &str, now: Moment) -> u64 {
    let since_ms = state.scratch.reboot.silent_since_ms.get(node).copied();
    now.boot_ms.saturating_sub(since_ms.unwrap_or(now.boot_ms))
}

/// A node's place among those that propose at the same time; the first one's counts.
pub(super) fn place(setup: &Setup, node: &str) -> usize {
    setup.nodes.iter().position(|place| place.name == node).unwrap_or(usize::MAX)
}

/// The proposal of another node that counts: it asks for this boot of this node, comes from the boot
/// that it says, and is not over.
pub(super) fn proposal<'a>(
    setup: &Setup,
    state: &State,
    seen: &'a Observation,
    now: Moment,
) -> Option<&'a Intent> {
    let is_meant = |intent: &Intent| {
        intent.boots.len() <= NODES_MAX
            && intent.boots.get(&setup.node) == Some(&state.boot)
            && !state.reboot_memory.is_closed(&intent.id)
    };
    let reports = setup.nodes.iter().filter(|node| node.name != setup.node);
    reports.into_iter().find_map(|node| {
        let report = fresh(setup, seen, now, &node.name)?;
        let told = report.reboot.as_ref()?;
        let intent = &told.intent;
        let is_open = told.veto.is_none() && told.stage <= Stage::Ready;
        let is_its_own = intent.proposer == node.name
            && intent.boots.get(&intent.proposer) == Some(&report.boot);
        (is_open && is_its_own && is_meant(intent)).then_some(intent)
    })
}

/// What this node refuses to take part in now.
pub(super) fn veto(setup: &Setup, state: &State, seen: &Observation, now: Moment) -> Option<Told> {
    if !matches!(state.reboot, Phase::Steady | Phase::Verifying { .. }) {
        return None;
    }
    let intent = proposal(setup, state, seen, now)?;
    let kind = limits::veto(setup, state, seen, now, Asked::of(intent))?;
    Some(Told { intent: intent.clone(), stage: Stage::Draining, veto: Some(kind) })
}
