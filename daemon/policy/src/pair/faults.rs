//! What is wrong with the other nodes, the ways to them, and with serving alone. None of it is for
//! this node to mend: it is told, with the command that helps.

use super::{
    Mode, NodeReport, PeerSeen, bounded,
    fabric::{self, Fabric},
    parity,
};
use crate::{
    Moment, Observation, Rung, Setup, State,
    fault::{Condition, Kind},
    gang,
};

/// All that is wrong now. The evidence has no figure that changes by itself.
pub(crate) fn conditions(
    setup: &Setup,
    state: &State,
    seen: &Observation,
    now: Moment,
) -> Vec<Condition> {
    let mut found = Vec::new();
    for place in setup.nodes.iter().filter(|place| place.name != setup.node) {
        let Some(peer) = seen.peer(&place.name) else { continue };
        if !peer.is_paired {
            found.push(unpaired(peer));
        } else if let Some(report) = peer.fresh(setup, now) {
            found.extend(of_heard(setup, seen, peer, report));
        } else if is_lost(setup, state, &peer.node, now) {
            found.push(lost(setup, peer));
        }
    }
    found.extend(fallback(state));
    found.extend(of_fabric(setup, state, seen, now));
    found
}

fn told(kind: Kind, evidence: &str, remedy: String) -> Condition {
    Condition { kind, evidence: bounded(evidence), rung: Rung::None, remedy }
}

fn unpaired(peer: &PeerSeen) -> Condition {
    let evidence = format!("the key of {} is not known here", peer.node);
    let remedy = format!(
        "run `tandem pair init` on one of the two and `tandem pair join` on the other, which is {}",
        peer.node
    );
    told(Kind::Unpaired(peer.node.clone()), &evidence, remedy)
}

/// Whether it was silent for its time: a supervisor that has just started has heard nobody yet.
fn is_lost(setup: &Setup, state: &State, node: &str, now: Moment) -> bool {
    let known = state.scratch.peers.get(node);
    let limit_ms = setup.pair.silence_timeout_ms;
    known.is_some_and(|known| {
        known.was_heard || now.boot_ms.saturating_sub(known.since_ms) > limit_ms
    })
}

fn lost(setup: &Setup, peer: &PeerSeen) -> Condition {
    let ways: Vec<String> = peer
        .paths
        .iter()
        .filter(|path| !path.problem.is_empty())
        .map(|path| format!("{}: {}", path.address, path.problem))
        .collect();
    let ways = if ways.is_empty() { String::new() } else { format!(" ({})", ways.join("; ")) };
    let evidence = format!(
        "{} was not heard for {} ms on any way{ways}",
        peer.node, setup.pair.silence_timeout_ms
    );
    let remedy = format!(
        "`tandem pair status` shows every way; see that {} is on, its cable is in and its \
         supervisor runs",
        peer.node
    );
    told(Kind::PeerLost(peer.node.clone()), &evidence, remedy)
}

fn of_heard(
    setup: &Setup,
    seen: &Observation,
    peer: &PeerSeen,
    report: &NodeReport,
) -> Vec<Condition> {
    let mut found = Vec::new();
    for path in peer.paths.iter().filter(|path| !path.is_up) {
        let evidence = format!("{} does not answer: {}", path.address, path.problem);
        let remedy = "`tandem pair status` shows every way; see to the cable and to the address of \
                      that way in [[peer]]";
        let kind = Kind::PathLost(format!("{} {}", peer.node, path.address));
        found.push(told(kind, &evidence, remedy.into()));
    }
    let differences = parity::differences(setup, seen, peer, report);
    if !differences.is_empty() {
        let remedy = format!(
            "make them equal: `tandem pair status` tells what differs, on {} and here",
            peer.node
        );
        found.push(told(Kind::Parity(peer.node.clone()), &differences.join("; "), remedy));
    }
    found
}

/// That the ranks do without the fabric that the config asks for, or that it is cabled wrongly.
fn of_fabric(setup: &Setup, state: &State, seen: &Observation, now: Moment) -> Option<Condition> {
    if !setup.uses_fabric || state.mode.is_alone() {
        return None;
    }
    if let Some(why) = &state.fabric_fallback {
        let evidence = format!("the ranks' group is a TCP ring and not JACCL: {why}");
        let remedy = "mend the cause; then `tandem drain` and `tandem resume` on the node with rank 0 \
                      when it suits, or wait for the next epoch: one that serves is not ended for it";
        return Some(told(Kind::Fabric, &evidence, remedy.into()));
    }
    let waits = matches!(state.gang, gang::Phase::Idle | gang::Phase::Backoff { .. });
    match Fabric::of(setup, seen, now) {
        Fabric::Mismatch(why) if waits => Some(told(Kind::Fabric, &why, fabric::REMEDY.into())),
        _ => None,
    }
}

fn fallback(state: &State) -> Option<Condition> {
    let why = match &state.mode {
        Mode::Pair => return None,
        Mode::Alone { why } | Mode::Returning { why, .. } => why,
    };
    let evidence = format!("the fallback model is served alone, because of {why}");
    let remedy = "`tandem pair status` shows what the others lack; this node hands back by itself";
    Some(told(Kind::Fallback, &evidence, remedy.into()))
}
