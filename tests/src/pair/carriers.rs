//! What supervisors promise of what carries an epoch: the RDMA fabric only where it is matched, the
//! same on all nodes, and the ring in its place only when nothing else is left, with a fault.

use tandem_policy::{
    Health, Moment, Observation, State, ThunderboltPort, Turn, gang,
    invariant::{Invariant, Mode},
    pair::{Mode as Serving, fabric::Carrier},
};

use super::Pair;
use crate::{node::Node, oracle};

type Outcome = Result<(), String>;

fn broken(why: impl Into<String>) -> Outcome {
    Err(why.into())
}

/// All that is promised of what carries a start of the pair.
pub(crate) fn start(node: &Node, carrier: &Carrier, now: Moment) -> Outcome {
    let Some((seen, _)) = &node.shown else { return Ok(()) };
    match carrier {
        Carrier::Ring { instead } if !node.setup.uses_fabric => match instead {
            None => Ok(()),
            Some(why) => broken(format!("a ring in the place of a fabric nobody asks for: {why}")),
        },
        Carrier::Ring { .. } if !node.setup.ring_fallback => {
            broken("a ring was started where the config allows only the fabric")
        }
        Carrier::Ring { instead: None } => broken("a ring in the fabric's place, without a word"),
        Carrier::Ring { instead: Some(why) } => a_ring_is_the_last_way(node, seen, now, why),
        Carrier::Jaccl { .. } if !node.setup.uses_fabric => {
            broken("a fabric was started where the config asks for none")
        }
        Carrier::Jaccl { devices } => {
            if node.around.as_ref().is_some_and(|around| around.is_stale) {
                return Ok(());
            }
            rdma_is_active(node, seen, now)?;
            devices_are_matched(node, seen, now, devices)
        }
    }
}

/// No start by the fabric while what it needs of this host does not hold or is not known.
fn rdma_is_active(node: &Node, seen: &Observation, now: Moment) -> Outcome {
    for invariant in [Invariant::RdmaEnabled, Invariant::RdmaActive] {
        let is_asked = node.setup.invariants.mode(invariant) == Mode::Enforce;
        if is_asked && !oracle::accepts(&node.setup, invariant, seen, now) {
            return broken(format!(
                "the fabric was started though {invariant:?} is not known to hold"
            ));
        }
    }
    Ok(())
}

/// What a node's ports were last told to be, if that is known.
fn ports<'a>(node: &'a Node, seen: &'a Observation, name: &str) -> Option<&'a [ThunderboltPort]> {
    if name == node.setup.node {
        return seen.thunderbolt.as_deref();
    }
    seen.peer(name)?.report.as_ref()?.0.thunderbolt.as_deref()
}

/// Every device of the matrix that this node can judge is one whose port and the port at the other end
/// see each other. The node with rank 0 judges all, the others their own.
fn devices_are_matched(
    node: &Node,
    seen: &Observation,
    now: Moment,
    devices: &[Vec<Option<String>>],
) -> Outcome {
    let setup = &node.setup;
    if node.around.is_none() {
        return Ok(());
    }
    if devices.len() != setup.nodes.len() {
        return broken(format!("{} rows for {} nodes", devices.len(), setup.nodes.len()));
    }
    let limit_ms = setup.pair.silence_timeout_ms;
    for (row, one) in setup.nodes.iter().enumerate() {
        for (column, other) in setup.nodes.iter().enumerate() {
            let is_own = one.name == setup.node;
            if row == column || !(is_own || setup.leads()) {
                continue;
            }
            for name in [&one.name, &other.name].into_iter().filter(|name| **name != setup.node) {
                let heard = seen.peer(name).and_then(|peer| peer.report.as_ref());
                if heard.is_none_or(|(_, at_ms)| now.boot_ms.saturating_sub(*at_ms) > limit_ms) {
                    return broken(format!("the fabric was started though {name} was silent"));
                }
            }
            let device = devices.get(row).and_then(|row| row.get(column)).cloned().flatten();
            let (Some(device), Some(near), Some(far)) =
                (device, ports(node, seen, &one.name), ports(node, seen, &other.name))
            else {
                return broken(format!("no device from {} to {} is known", one.name, other.name));
            };
            let port = near.iter().find(|port| port.rdma_device.as_ref() == Some(&device));
            let is_joined = port.is_some_and(|port| {
                let there =
                    far.iter().find(|far| port.peer_domain_uuid.as_ref() == Some(&far.domain_uuid));
                there.is_some_and(|far| far.peer_domain_uuid.as_ref() == Some(&port.domain_uuid))
            });
            if !is_joined {
                return broken(format!(
                    "the fabric was started though {device} of {} is not known to lead to {}: {near:?} \
                     {far:?}",
                    one.name, other.name
                ));
            }
        }
    }
    nobody_refuses(node, seen)?;
    a_link_is_used(node, seen, devices)
}

/// The node with rank 0 starts by the fabric only what every other node says it could.
fn nobody_refuses(node: &Node, seen: &Observation) -> Outcome {
    let reports = seen.peers.iter().filter_map(|peer| peer.report.as_ref());
    for (report, _) in reports.filter(|_| node.setup.leads()) {
        if let Some(why) = &report.fabric_refusal {
            return broken(format!(
                "the fabric was started though {} refuses it: {why}",
                report.node
            ));
        }
    }
    Ok(())
}

/// The port whose address and state are watched is one of those used.
fn a_link_is_used(node: &Node, seen: &Observation, devices: &[Vec<Option<String>>]) -> Outcome {
    let link = &node.setup.host.link;
    let place = node.around.as_ref().map_or(0, |around| around.place);
    let own = seen.thunderbolt.iter().flatten();
    let is_used = |port: &ThunderboltPort| {
        port.rdma_device.is_some()
            && devices.get(place).is_some_and(|row| row.contains(&port.rdma_device))
    };
    if link.is_empty() || own.clone().any(|port| port.interface == *link && is_used(port)) {
        return Ok(());
    }
    broken(format!("the fabric was started by other ports than {link}"))
}

/// The node with rank 0 takes the ring only if the fabric can't be used, failed before, or has no start
/// left in this boot.
fn a_ring_is_the_last_way(node: &Node, seen: &Observation, now: Moment, why: &str) -> Outcome {
    let Some(around) = &node.around else { return Ok(()) };
    if !node.setup.leads() || around.is_stale {
        return Ok(());
    }
    let record = &node.record;
    let starts = record.fabric_starts_in_boot + record.takeovers_in_boot;
    let failed_at = around.truth.borrow().fabric_failed_at;
    let has_failed = failed_at.is_some_and(|at| at >= node.machine.booted_at);
    if has_failed || starts >= node.setup.supervise.fabric_starts_max {
        return Ok(());
    }
    let is_refused = seen
        .peers
        .iter()
        .filter_map(|peer| peer.report.as_ref())
        .any(|(report, _)| report.fabric_refusal.is_some() || report.thunderbolt.is_none());
    let ports_of = |name: &str| ports(node, seen, name).unwrap_or_default();
    let joined = |one: &str, other: &str| {
        ports_of(one).iter().any(|near| {
            near.rdma_device.is_some()
                && ports_of(other).iter().any(|far| {
                    far.rdma_device.is_some()
                        && near.peer_domain_uuid.as_ref() == Some(&far.domain_uuid)
                        && far.peer_domain_uuid.as_ref() == Some(&near.domain_uuid)
                })
        })
    };
    let nodes = &node.setup.nodes;
    let is_whole = nodes.iter().all(|one| {
        nodes.iter().all(|other| one.name == other.name || joined(&one.name, &other.name))
    });
    let is_active = rdma_is_active(node, seen, now).is_ok();
    if is_whole && is_active && !is_refused {
        return broken(format!("a ring was started though the fabric could be used: {why}"));
    }
    Ok(())
}

/// While the ring serves in the fabric's place, a fault says so and nothing is called healthy.
pub(crate) fn a_ring_is_told(node: &mut Node, turn: &Turn, state: &State) -> Outcome {
    let is_replaced = matches!(state.carrier, Carrier::Ring { instead: Some(_) });
    let serves = state.gang == gang::Phase::Serving && state.mode == Serving::Pair;
    if !node.setup.uses_fabric || !is_replaced || !serves {
        return Ok(());
    }
    node.met.mark("the ring in the fabric's place");
    if !turn.status.faults.iter().any(|fault| fault.kind.name() == "fabric") {
        return broken("the ring serves in the fabric's place, and no fault says so");
    }
    if turn.status.health == Health::Healthy {
        return broken("healthy by the ring in the fabric's place");
    }
    Ok(())
}

/// All ranks of an epoch are carried by the same; those that their node does not remember to have started
/// are of another supervisor, and not of this epoch whatever their number.
pub(super) fn one_carrier_for_all(pair: &Pair) -> Outcome {
    let ranks = || {
        pair.lives.iter().map(|life| &life.node).flat_map(|node| {
            let known = node.epoch_on_disk();
            let is_of_epoch = move |rank: &&crate::node::ranks::Rank| {
                rank.epoch() == Some(known) && !rank.is_alone
            };
            node.ranks.iter().filter(is_of_epoch)
        })
    };
    for rank in ranks() {
        let other = ranks()
            .find(|other| other.epoch() == rank.epoch() && other.is_by_fabric != rank.is_by_fabric);
        if other.is_some() {
            return broken(format!("ranks of epoch {:?} by ring and by fabric", rank.epoch()));
        }
    }
    Ok(())
}
