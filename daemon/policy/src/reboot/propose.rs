//! What a node wants a reboot for, and whom it asks to take part.

use std::collections::BTreeMap;

use super::{
    Cause, Intent, Stage, VetoKind, cause, heard,
    limits::{self, Asked},
};
use crate::{Moment, Observation, Setup, State, gang, leak};

/// A reboot that is wanted here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    /// Why.
    pub cause: Cause,
    /// Whether an operator ordered it.
    pub is_ordered: bool,
    /// Whether the other nodes are to take part.
    pub is_for_all: bool,
}

/// Faults that a reboot is wanted for now, the most certain first. One that is behind another is
/// still known, so that it is not new when the other is over.
pub(super) fn faults(state: &State) -> Vec<Cause> {
    let mut causes = Vec::new();
    if let leak::Verdict::Confirmed { unexplained_bytes, .. } = &state.leak {
        let mib = unexplained_bytes >> 20;
        let evidence = format!("{mib} MiB of wired memory are owned by no process");
        causes.push(Cause { kind: cause::LEAK.into(), evidence });
    }
    if let gang::Phase::Held { reboot: Some(cause), .. } = &state.gang {
        causes.push(cause.clone());
    }
    causes
}

/// All that is wanted now: an order comes before a fault, and the first fault before the others.
pub(super) fn wishes(state: &State) -> Vec<Wish> {
    let order = state.reboot_memory.order.as_ref().map(|order| Wish {
        cause: Cause { kind: cause::ORDERED.into(), evidence: order.reason.clone() },
        is_ordered: true,
        is_for_all: order.all,
    });
    let fault = faults(state).into_iter().next().map(|cause| Wish {
        cause,
        is_ordered: false,
        is_for_all: true,
    });
    order.into_iter().chain(fault).collect()
}

/// Whether what an intent of this node was made for is still wanted.
pub(super) fn is_wanted(state: &State, intent: &Intent) -> bool {
    if intent.is_ordered { state.reboot_memory.order.is_some() } else { !faults(state).is_empty() }
}

/// The intent for what is wanted and allowed, unless nothing is.
pub(super) fn propose(
    setup: &Setup,
    state: &mut State,
    seen: &Observation,
    now: Moment,
) -> Option<Intent> {
    let allowed = |wish: Wish| Some((participants(setup, state, seen, now, &wish).ok()?, wish));
    let (boots, wish) = wishes(state).into_iter().find_map(allowed)?;
    let memory = &mut state.reboot_memory;
    memory.number = memory.number.saturating_add(1);
    Some(Intent {
        id: format!("{}/{}/{}", setup.node, state.boot, memory.number),
        proposer: setup.node.clone(),
        cause: wish.cause,
        is_ordered: wish.is_ordered,
        boots,
    })
}

/// The nodes that would take part, each with its boot; or why it is not allowed now.
pub(super) fn participants(
    setup: &Setup,
    state: &State,
    seen: &Observation,
    now: Moment,
    wish: &Wish,
) -> Result<BTreeMap<String, String>, String> {
    let asked = Asked { kind: &wish.cause.kind, is_ordered: wish.is_ordered };
    if let Some(refusal) = limits::refuse(setup, state, seen, now, asked) {
        return Err(refusal.text);
    }
    let mut boots = BTreeMap::from([(setup.node.clone(), state.boot.clone())]);
    if !wish.is_for_all || setup.is_alone() {
        return Ok(boots);
    }
    let memory = &state.reboot_memory;
    if wish.is_ordered
        && let Some(why) = memory.order.as_ref().and_then(|order| order.vetoed.clone())
    {
        return Err(why);
    }
    if !wish.is_ordered && now.boot_ms < memory.not_before_ms {
        let last = memory.closed.last().map_or("", |closed| closed.detail.as_str());
        return Err(format!("the last one was refused ({last}); it is tried again later"));
    }
    for (node, report) in heard::nodes(setup, seen, now) {
        let Some(report) = report else {
            silence(setup, state, now, node, wish)?;
            continue;
        };
        let is_going = report
            .reboot
            .as_ref()
            .is_some_and(|told| told.veto.is_none() && told.stage < Stage::Verifying);
        if is_going {
            return Err(format!("node {node} is on its way to another reboot"));
        }
        if let Some(kind) = report.would_veto.filter(|kind| counts(*kind, wish.is_ordered)) {
            return Err(format!("node {node} would refuse: {}", kind.text()));
        }
        boots.insert(node.to_owned(), report.boot.clone());
    }
    Ok(boots)
}

/// Whether a node that is not heard may be left behind: only for a fault, and after a time of grace.
fn silence(
    setup: &Setup,
    state: &State,
    now: Moment,
    node: &str,
    wish: &Wish,
) -> Result<(), String> {
    let grace_ms = setup.reboot.alone_after_ms;
    if wish.is_ordered {
        Err(format!("node {node} is not heard; `tandem reboot` reboots this node alone"))
    } else if heard::silent_ms(state, node, now) < grace_ms {
        Err(format!("node {node} has been silent for less than {} s", grace_ms / 1_000))
    } else {
        Ok(())
    }
}

/// Whether another node's refusal of an automatic reboot may hold for this one.
const fn counts(kind: VetoKind, is_ordered: bool) -> bool {
    match kind {
        VetoKind::Held | VetoKind::Attended | VetoKind::Ledger | VetoKind::Ending => true,
        // An order overrules these, or some of them; the node itself tells when it is asked.
        VetoKind::NotAllowed | VetoKind::Budget | VetoKind::Latched => !is_ordered,
    }
}
