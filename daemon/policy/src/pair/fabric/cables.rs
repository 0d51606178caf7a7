//! Which RDMA device joins which two nodes.
//!
//! Interface numbers change when adapters come and go, and a cable can be moved, so a device is
//! never taken from the config or from the last boot. Each node reads its Thunderbolt ports and tells
//! them. Two nodes are joined where a port of one sees the domain of a port of the other, *and* that
//! port sees the first one's: one side alone may be older than a cable that was moved.

use std::collections::BTreeMap;

use crate::{Moment, Observation, Setup, ThunderboltPort, pair::bounded};

/// RDMA devices by rank: in row r and column c the device of rank r's machine that leads to that of
/// rank c; `None` on the diagonal. It is the form of MLX's `MLX_IBV_DEVICES`. Each machine has one
/// rank, so that a machine's place among the nodes is its rank.
pub type Devices = Vec<Vec<Option<String>>>;

/// How the nodes are cabled, as far as their ports tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fabric {
    /// Every two nodes are joined.
    Matched {
        /// By these devices.
        devices: Devices,
    },
    /// Not all ports are known; why.
    Unknown(String),
    /// They are known, and two nodes are not joined or `host.link` is another port; with port, domain
    /// and node.
    Mismatch(String),
}

/// One node and its ports.
#[derive(Clone, Copy)]
struct End<'a> {
    node: &'a str,
    ports: &'a [ThunderboltPort],
}

impl Fabric {
    /// Matches this node's ports with those that the others tell.
    pub fn of(setup: &Setup, seen: &Observation, now: Moment) -> Self {
        let mut ends = Vec::new();
        for place in &setup.nodes {
            match end(setup, seen, &place.name, now) {
                Ok(end) => ends.push(end),
                Err(why) => return Self::Unknown(why),
            }
        }
        let mut joined = BTreeMap::new();
        let mut own_links = Vec::new();
        for (row, one) in ends.iter().enumerate() {
            for (column, other) in ends.iter().enumerate().skip(row + 1) {
                let (near, far) = match join(setup, *one, *other) {
                    Ok(cable) => cable,
                    Err(why) => return Self::Mismatch(bounded(&why)),
                };
                joined.insert((row, column), near.rdma_device.clone());
                joined.insert((column, row), far.rdma_device.clone());
                own_links.extend([(one, near), (other, far)].into_iter().filter_map(
                    |(end, port)| (end.node == setup.node).then_some(port.interface.as_str()),
                ));
            }
        }
        if let Some(why) = other_link(setup, &own_links) {
            return Self::Mismatch(why);
        }
        let cell = |row, column| joined.get(&(row, column)).cloned().flatten();
        let row = |row| (0..ends.len()).map(|column| cell(row, column)).collect();
        Self::Matched { devices: (0..ends.len()).map(row).collect() }
    }
}

/// A node's ports, as it told them lately; why they are not known.
fn end<'a>(
    setup: &Setup,
    seen: &'a Observation,
    node: &'a str,
    now: Moment,
) -> Result<End<'a>, String> {
    let ports = if node == setup.node || setup.is_alone() {
        seen.thunderbolt.as_deref()
    } else {
        let report = seen.peer(node).and_then(|peer| peer.fresh(setup, now));
        let report = report.ok_or_else(|| format!("{node} is not heard"))?;
        report.thunderbolt.as_deref()
    };
    // One node alone has nobody to be joined with.
    let ports = ports.or_else(|| setup.is_alone().then_some(&[][..]));
    match ports {
        Some(ports) => Ok(End { node, ports }),
        None => Err(format!("the Thunderbolt ports of {node} are not read")),
    }
}

/// The cable between two nodes, by its two ports; why there is none that can be used.
fn join<'a>(
    setup: &Setup,
    one: End<'a>,
    other: End<'a>,
) -> Result<(&'a ThunderboltPort, &'a ThunderboltPort), String> {
    let pairs = || one.ports.iter().flat_map(|near| other.ports.iter().map(move |far| (near, far)));
    let is_link = |port: &ThunderboltPort| port.interface == setup.host.link;
    let is_by_link = |(near, far): &(&ThunderboltPort, &ThunderboltPort)| {
        (one.node == setup.node && is_link(near)) || (other.node == setup.node && is_link(far))
    };
    let cables = || pairs().filter(|(near, far)| sees(near, far) && sees(far, near));
    let has_devices = |(near, far): &(&ThunderboltPort, &ThunderboltPort)| {
        near.rdma_device.is_some() && far.rdma_device.is_some()
    };
    // Of several cables the one at host.link: its port is the one whose state is watched.
    if let Some(cable) = cables().filter(has_devices).min_by_key(|cable| !is_by_link(cable)) {
        return Ok(cable);
    }
    if let Some((near, far)) = cables().next() {
        let (node, port) =
            if near.rdma_device.is_none() { (one.node, near) } else { (other.node, far) };
        return Err(format!(
            "the system lists no RDMA device of {}, the port of {node} that joins {} and {}",
            port.interface, one.node, other.node
        ));
    }
    if let Some((near, far)) = pairs().find(|(near, far)| sees(near, far) || sees(far, near)) {
        let (seer, seen) =
            if sees(near, far) { ((one, near), (other, far)) } else { ((other, far), (one, near)) };
        return Err(format!(
            "{} of {} sees the domain of {} of {}, which sees {}",
            seer.1.interface,
            seer.0.node,
            seen.1.interface,
            seen.0.node,
            in_words(seen.1)
        ));
    }
    Err(format!(
        "no cable joins {} and {}: {}; {}",
        one.node,
        other.node,
        sights(one, other),
        sights(other, one)
    ))
}

/// Whether this port sees that one at the other end of its cable.
fn sees(port: &ThunderboltPort, other: &ThunderboltPort) -> bool {
    let uuid = port.peer_domain_uuid.as_deref().filter(|uuid| !uuid.is_empty());
    uuid.is_some_and(|uuid| uuid.eq_ignore_ascii_case(&other.domain_uuid))
}

fn in_words(port: &ThunderboltPort) -> String {
    match &port.peer_domain_uuid {
        Some(uuid) => format!("domain {uuid}"),
        None => "none".into(),
    }
}

/// What a node's ports see, where none of it is a port of another node.
fn sights(end: End<'_>, other: End<'_>) -> String {
    let is_cabled = |port: &&ThunderboltPort| port.peer_domain_uuid.is_some();
    let told: Vec<String> = end
        .ports
        .iter()
        .filter(is_cabled)
        .map(|port| format!("{} of {} sees {}", port.interface, end.node, in_words(port)))
        .collect();
    if told.is_empty() {
        return format!("no port of {} sees another machine", end.node);
    }
    format!("{}, no port of {}", told.join(" and "), other.node)
}

/// That `host.link`, whose address, MTU and RDMA device are watched, is none of the ports used.
fn other_link(setup: &Setup, own: &[&str]) -> Option<String> {
    let link = setup.host.link.as_str();
    let is_other = !link.is_empty() && !own.is_empty() && !own.contains(&link);
    is_other.then(|| {
        format!(
            "host.link of {} is {link}, but its cable is at {}; set host.link to that port",
            setup.node,
            own.join(", ")
        )
    })
}
