//! What the gates ask of the other nodes.
//!
//! A node that is not heard for a moment takes nothing back that was shown before: while an epoch
//! serves, only what is heard can speak against a gate.

use tandem_wire::{Phase as RankPhase, Transport};

use super::Look;
use crate::{
    Moment, Observation, Setup, State, gang,
    pair::{
        PeerSeen,
        fabric::{self, Fabric},
        parity::Parity,
    },
};

const STATUS: &str = "`tandem pair status` shows every node and every way to it";

/// The first other node that is heard and has not read all of its model's files.
pub(super) fn unread(setup: &Setup, seen: &Observation, now: Moment) -> Option<Look> {
    others(setup, seen).find_map(|(name, peer)| {
        let report = peer?.fresh(setup, now).filter(|report| report.manifest.is_none())?;
        let why = report.refusal.as_deref().unwrap_or("it has not read its model's files yet");
        Some(Look::Lacks(format!("{name}: {why}"), STATUS.into()))
    })
}

/// Whether all nodes have the same.
pub(super) fn parity(setup: &Setup, state: &State, seen: &Observation, now: Moment) -> Look {
    if setup.is_alone() {
        return Look::Passes("one node: nothing to compare".into());
    }
    let is_serving = state.gang == gang::Phase::Serving;
    let mut lacking = None;
    for (name, peer) in others(setup, seen) {
        if let Some(peer) = peer.filter(|peer| !peer.is_paired) {
            let remedy = "run `tandem pair init` on one of the two and `tandem pair join` on the \
                          other";
            return Look::Fails(
                format!("{} is not paired with this node", peer.node),
                remedy.into(),
            );
        }
        let report = peer.and_then(|peer| Some((peer, peer.fresh(setup, now)?)));
        let missing = match report.map(|(peer, report)| Parity::of(setup, seen, peer, report)) {
            Some(Parity::Unequal(lines)) => {
                let remedy = format!("make {name} and this node equal, then `tandem pair status`");
                return Look::Fails(format!("{name} differs: {}", lines.join("; ")), remedy);
            }
            Some(Parity::Equal) => continue,
            Some(Parity::Unknown(why)) => format!("{name}: {why}"),
            None => format!("{name} is not heard"),
        };
        lacking = lacking.or(Some(missing));
    }
    match lacking.filter(|_| !is_serving) {
        Some(missing) => Look::Lacks(missing, STATUS.into()),
        None => Look::Passes(format!("{} nodes have the same", setup.nodes.len())),
    }
}

/// What keeps the next epoch from the RDMA fabric, before anything is started.
pub(super) fn fabric(
    setup: &Setup,
    state: &State,
    seen: &Observation,
    now: Moment,
) -> Option<Look> {
    let waits = matches!(state.gang, gang::Phase::Idle | gang::Phase::Backoff { .. });
    let why = fabric::refusal(setup, state, seen, now).filter(|_| waits)?;
    let remedy = fabric::REMEDY.to_owned();
    Some(match Fabric::of(setup, seen, now) {
        // A cable does not move by itself.
        Fabric::Mismatch(_) => Look::Fails(why, remedy),
        Fabric::Matched { .. } | Fabric::Unknown(_) => Look::Lacks(why, remedy),
    })
}

/// The other nodes one of whose ranks is not in such a phase in this epoch. One that is not heard
/// counts until the epoch serves: then its ranks were there.
pub(super) fn without(
    setup: &Setup,
    state: &State,
    seen: &Observation,
    now: Moment,
    is_there: &dyn Fn(Option<RankPhase>) -> bool,
) -> Vec<String> {
    let is_serving = state.gang == gang::Phase::Serving;
    let lacks = |peer: Option<&PeerSeen>| {
        let Some(report) = peer.and_then(|peer| peer.fresh(setup, now)) else { return !is_serving };
        let of_epoch = |rank: &&crate::pair::RankReport| {
            rank.process.is_running() && rank.process.epoch() == Some(state.epoch)
        };
        let place = setup.nodes.iter().find(|place| place.name == report.node);
        let wanted = place.map_or(0, |place| place.ranks.len());
        let there = report.ranks.iter().filter(of_epoch).filter(|rank| is_there(rank.phase));
        there.count() < wanted
    };
    let found = others(setup, seen).filter(|(_, peer)| lacks(*peer));
    found.map(|(name, _)| name.to_owned()).collect()
}

/// The other nodes of the config, and what is seen of each.
fn others<'a>(
    setup: &'a Setup,
    seen: &'a Observation,
) -> impl Iterator<Item = (&'a str, Option<&'a PeerSeen>)> {
    let others = setup.nodes.iter().filter(|place| place.name != setup.node);
    others.map(|place| (place.name.as_str(), seen.peer(&place.name)))
}

/// That the ranks joined, and what they measured. The figures are of the epoch's start.
pub(super) fn measured(setup: &Setup, state: &State, seen: &Observation) -> String {
    let joined = format!("{} ranks joined in epoch {}", setup.ranks, state.epoch);
    let of_epoch = |rank: &crate::RankSeen| {
        let vitals = rank.vitals.as_ref().filter(|vitals| vitals.epoch == state.epoch)?;
        vitals.transport.clone()
    };
    match seen.ranks.iter().find_map(of_epoch) {
        Some(transport) => format!("{joined} by {}{}", transport.backend, figures(&transport)),
        None => joined,
    }
}

/// The time of the smallest message and the rate of the largest, which are what latency and
/// bandwidth are told by: `; 4 KiB in 25.0 us, 64 MiB at 7.90 GB/s`.
fn figures(transport: &Transport) -> String {
    let smallest = transport.rows.first().map(|row| {
        let us = row.median_ns as f64 / 1e3;
        format!("{} in {us:.1} us", size(row.bytes))
    });
    // One byte in a nanosecond is one gigabyte in a second.
    let largest = transport.rows.last().filter(|_| transport.rows.len() > 1).map(|row| {
        let gb_per_s = row.bytes as f64 / row.median_ns.max(1) as f64;
        format!("{} at {gb_per_s:.2} GB/s", size(row.bytes))
    });
    let figures: Vec<String> = [smallest, largest].into_iter().flatten().collect();
    if figures.is_empty() { String::new() } else { format!("; {}", figures.join(", ")) }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}
