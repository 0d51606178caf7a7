//! The RDMA fabric: which device joins which two nodes, and what carries an epoch.
//!
//! Interface numbers change when adapters come and go, and a cable can be moved, so a device is
//! never taken from the config or from the last boot. Each node reads its Thunderbolt ports and tells
//! them. Two nodes are joined where a port of one sees the domain of a port of the other, *and* that
//! port sees the first one's: one side alone may be older than a cable that was moved.
//!
//! ```text
//!   all matched, active and in budget ──────────────────────────────▶ JACCL
//!   not so ──for supervise.fabric_timeout_ms, or it can't pass──▶ ring, and a fault
//!             (engine.ring_fallback off: no epoch until it is)
//! ```
//!
//! The node with rank 0 chooses and tells its choice with the epoch, the whole matrix of devices
//! included; the others start by the same or not at all. A follower compares its own row with what it
//! sees itself, so that no node opens a device because another one says so.
//!
//! **The way back.** An epoch keeps what it began with. A fabric that is whole again is used by the next
//! epoch, which begins when this one ends for a reason of its own or an operator drains and resumes. To
//! end a serving epoch for it would stop every stream for the minutes that a load takes, for a fabric
//! that has just failed; and one that fails every hour would do so every hour. Until JACCL serves again
//! the fault says what it costs.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{NodeReport, bounded};
use crate::{Moment, Observation, Rung, Setup, State, ThunderboltPort, gang, invariant::drift};

/// RDMA devices by rank: in row r and column c the device of rank r's machine that leads to that of
/// rank c; `None` on the diagonal. It is the form of MLX's `MLX_IBV_DEVICES`. Each machine has one
/// rank, so that a machine's place among the nodes is its rank.
pub type Devices = Vec<Vec<Option<String>>>;

/// What carries the activations of an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case", deny_unknown_fields)]
pub enum Carrier {
    /// MLX's ring over TCP.
    Ring {
        /// Why not the fabric that the config asks for; `None` if it asks for none.
        instead: Option<String>,
    },
    /// JACCL over RDMA.
    Jaccl {
        /// By which devices.
        devices: Devices,
    },
}

impl Carrier {
    /// Whether it initialises an RDMA fabric.
    pub const fn is_fabric(&self) -> bool {
        matches!(self, Self::Jaccl { .. })
    }
}

impl Default for Carrier {
    fn default() -> Self {
        Self::Ring { instead: None }
    }
}

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

/// What an operator does about a fabric that can't be used.
pub(crate) const REMEDY: &str = "see to the Thunderbolt cable between the machines and to host.link on each; `tandem check` shows \
     RDMA, and `system_profiler SPThunderboltDataType` what each port sees";

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

/// What keeps the fabric from being used.
struct Obstacle {
    text: String,
    /// Whether waiting can't mend it in this boot.
    is_final: bool,
}

/// What of this node's host and cables keeps the fabric from being used now; `None` if nothing does,
/// or the config asks for none.
pub(crate) fn obstacle(setup: &Setup, seen: &Observation, now: Moment) -> Option<String> {
    if !setup.uses_fabric {
        return None;
    }
    let blocking = drift::blocking(setup, seen, now);
    let of_fabric = blocking.into_iter().find(|(invariant, _)| invariant.is_of_fabric());
    if let Some((_, why)) = of_fabric {
        return Some(why);
    }
    match Fabric::of(setup, seen, now) {
        Fabric::Matched { .. } => None,
        Fabric::Unknown(why) | Fabric::Mismatch(why) => Some(why),
    }
}

/// Why this boot has no start of the fabric left; `None` if it has.
pub(crate) fn spent(setup: &Setup, state: &State) -> Option<String> {
    let supervise = &setup.supervise;
    if state.fabric_starts >= supervise.fabric_starts_max {
        return Some(format!(
            "{} starts of the RDMA fabric in one boot are all that supervise.fabric_starts_max \
             allows",
            state.fabric_starts
        ));
    }
    let has_failed = setup.ring_fallback && state.fabric_failures >= supervise.fabric_failures_max;
    has_failed.then(|| {
        let text = state.last_fabric_failure.as_deref().unwrap_or("see `tandem events`");
        format!("the RDMA fabric failed as often as supervise.fabric_failures_max allows: {text}")
    })
}

/// Why an epoch by the fabric can't be started here: what other nodes are told. What only keeps the
/// next epoch from it is not told of one that runs.
pub(crate) fn refusal(
    setup: &Setup,
    state: &State,
    seen: &Observation,
    now: Moment,
) -> Option<String> {
    if !setup.uses_fabric {
        return None;
    }
    let runs = matches!(state.gang, gang::Phase::Starting { .. } | gang::Phase::Serving);
    let spent = if runs { None } else { spent(setup, state) };
    spent.or_else(|| obstacle(setup, seen, now)).map(|why| bounded(&why))
}

/// The fabric of all nodes, or the first thing that keeps it from being used.
fn of_all(
    setup: &Setup,
    state: &State,
    seen: &Observation,
    now: Moment,
) -> Result<Devices, Obstacle> {
    if let Some(text) = spent(setup, state) {
        return Err(Obstacle { text, is_final: true });
    }
    whole(setup, seen, now).map_err(|text| Obstacle { text, is_final: false })
}

/// The same without this node's budgets.
fn whole(setup: &Setup, seen: &Observation, now: Moment) -> Result<Devices, String> {
    if let Some(text) = obstacle(setup, seen, now) {
        return Err(text);
    }
    for place in setup.nodes.iter().filter(|place| place.name != setup.node) {
        let report = seen.peer(&place.name).and_then(|peer| peer.fresh(setup, now));
        if let Some(why) = report.and_then(|report| report.fabric_refusal.as_ref()) {
            return Err(bounded(&format!("{}: {why}", place.name)));
        }
    }
    match Fabric::of(setup, seen, now) {
        Fabric::Matched { devices } => Ok(devices),
        Fabric::Unknown(why) | Fabric::Mismatch(why) => Err(why),
    }
}

/// What the node with rank 0 starts the next epoch by; `None` while it waits for the fabric. All else
/// that an epoch needs is there.
pub(crate) fn choose(
    setup: &Setup,
    state: &mut State,
    seen: &Observation,
    now: Moment,
    due_ms: Option<u64>,
) -> Option<Carrier> {
    if !setup.uses_fabric {
        return Some(Carrier::default());
    }
    let Obstacle { text, is_final } = match of_all(setup, state, seen, now) {
        Ok(devices) => return Some(Carrier::Jaccl { devices }),
        Err(obstacle) => obstacle,
    };
    if !setup.ring_fallback {
        return None;
    }
    let waits_ms = setup.supervise.fabric_timeout_ms;
    let due_ms = due_ms.unwrap_or_else(|| now.boot_ms.saturating_add(waits_ms));
    if is_final || now.boot_ms >= due_ms {
        return Some(Carrier::Ring { instead: Some(text) });
    }
    state.scratch.fabric_due_ms = Some(due_ms);
    None
}

/// Whether what the node with rank 0 told is what this node sees: its own devices are those that it
/// would use itself.
pub(crate) fn agrees(
    setup: &Setup,
    state: &State,
    seen: &Observation,
    now: Moment,
    carrier: &Carrier,
) -> bool {
    let Carrier::Jaccl { devices } = carrier else { return true };
    if !setup.uses_fabric || refusal(setup, state, seen, now).is_some() {
        return false;
    }
    let Fabric::Matched { devices: own } = Fabric::of(setup, seen, now) else { return false };
    let place = setup.nodes.iter().position(|place| place.name == setup.node);
    let row = |devices: &Devices| place.and_then(|place| devices.get(place).cloned());
    devices.len() == own.len() && row(devices).is_some() && row(devices) == row(&own)
}

/// Whether an epoch that was decided on and not started yet still has the fabric that it is to use.
pub(crate) fn is_still_there(
    setup: &Setup,
    state: &State,
    seen: &Observation,
    now: Moment,
) -> bool {
    match &state.carrier {
        Carrier::Jaccl { devices } if setup.leads() => {
            whole(setup, seen, now).as_ref() == Ok(devices)
        }
        carrier => agrees(setup, state, seen, now, carrier),
    }
}

/// An epoch begins by this.
pub(crate) fn note_start(state: &mut State, carrier: Carrier) {
    state.fabric_starts = state.fabric_starts.saturating_add(u32::from(carrier.is_fabric()));
    if let Carrier::Ring { instead: Some(why) } = &carrier {
        state.fabric_fallback = Some(why.clone());
    }
    state.carrier = carrier;
}

/// The epoch serves: by the fabric, its failures are over once that has lasted.
pub(crate) fn note_serving(state: &mut State, is_proven: bool, is_stable: bool) {
    if !state.carrier.is_fabric() || !is_proven {
        return;
    }
    state.fabric_fallback = None;
    if is_stable {
        forgive(state);
    }
}

/// Operators have seen to it, or it serves: failures count anew.
pub(crate) fn forgive(state: &mut State) {
    state.fabric_failures = 0;
    state.last_fabric_failure = None;
}

/// The epoch failed by its fabric, which this rung would mend, and may be started again but once or
/// more often. Returns what is done: what only an operator or a reboot mends is worse than a ring, so that
/// is served by meanwhile; and the last restart of a window is too good for a fabric that fails.
pub(crate) fn note_failure(
    setup: &Setup,
    state: &mut State,
    (rung, is_last_restart): (Rung, bool),
    text: &str,
) -> Rung {
    let smallest = rung.max(Rung::Restart);
    if !state.carrier.is_fabric() {
        return smallest;
    }
    state.last_fabric_failure = Some(bounded(text));
    let is_over = matches!(rung, Rung::Hold | Rung::Reboot) || is_last_restart;
    if is_over && setup.ring_fallback {
        state.fabric_failures = state.fabric_failures.max(setup.supervise.fabric_failures_max);
        return Rung::Restart;
    }
    state.fabric_failures = state.fabric_failures.saturating_add(1);
    smallest
}

/// Why another node can't take part in an epoch by the fabric that is starting.
pub(crate) fn refused_by<'a>(state: &State, report: &'a NodeReport) -> Option<&'a String> {
    report.fabric_refusal.as_ref().filter(|_| state.carrier.is_fabric())
}
