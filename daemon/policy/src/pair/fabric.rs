//! What carries an epoch: the RDMA fabric that `cables` finds, or TCP.
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

mod cables;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use cables::{Devices, Fabric};

use super::{NodeReport, bounded};
use crate::{Moment, Observation, Rung, Setup, State, gang, invariant::drift};

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

/// What an operator does about a fabric that can't be used.
pub(crate) const REMEDY: &str = "see to the Thunderbolt cable between the machines and to host.link on each; `tandem check` shows \
     RDMA, and `system_profiler SPThunderboltDataType` what each port sees";

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

/// Whether an epoch that was decided on and not started yet still has the fabric that it is to use, or
/// still lacks it.
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
        // The ring is in its place, and it may be whole again.
        Carrier::Ring { instead: Some(_) } if setup.leads() => {
            of_all(setup, state, seen, now).is_err()
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
