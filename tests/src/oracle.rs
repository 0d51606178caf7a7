//! The rules of the product, written a second time and on their own: what the promises compare
//! policy's decisions with. Nothing here calls policy's judgements.

use tandem_policy::{
    Artifacts, Moment, Need, Observation, Setup,
    invariant::{Found, Invariant, Mode, Severity, Sighting, Unknown},
};

use crate::node::Node;

/// Whether an answer to a canary is language: the simulated garbage is none of these.
pub(crate) fn is_sane(text: &str) -> bool {
    text.chars().any(|c| c.is_ascii_lowercase()) || text.contains("1, 2")
}

/// Whether one holds, as far as it was shown lately; `None` if that is not known.
pub(crate) fn holds(
    setup: &Setup,
    invariant: Invariant,
    seen: &Observation,
    now: Moment,
) -> Option<bool> {
    let Some(Sighting::Known { found, at_ms, .. }) = seen.invariants.get(&invariant) else {
        return None;
    };
    let slow = invariant.row().is_slow;
    let period_ms = if slow { setup.host.slow_poll_ms } else { setup.host.poll_ms };
    if now.boot_ms - at_ms > 3 * period_ms + setup.host.probe_timeout_ms {
        return None;
    }
    let host = &setup.host;
    Some(match (invariant, found) {
        (Invariant::LinkMtu, Found::Count(bytes)) => *bytes == u64::from(host.link_mtu_bytes),
        (Invariant::LinkAddress, Found::Names(names)) => names.len() == 1,
        (Invariant::WiredLimit, Found::Count(mib)) => {
            host.wired_limit_mib == 0 || *mib == host.wired_limit_mib
        }
        (Invariant::SpotlightOff, Found::Names(names)) => names.is_empty(),
        (Invariant::DiskSpace, Found::Count(bytes)) => *bytes >= host.disk_free_min_mib << 20,
        (Invariant::OpenFiles, Found::Count(count)) => *count >= host.open_files_min,
        (Invariant::OsVersion, Found::Text(text)) => text == "26.10",
        (_, Found::Flag(flag)) => *flag,
        _ => return None,
    })
}

/// Whether the lack of a reading means that there is nothing to look after.
fn is_moot(setup: &Setup, invariant: Invariant, seen: &Observation) -> bool {
    let is_unasked = match invariant {
        Invariant::LinkMtu | Invariant::LinkAddress | Invariant::LinkUnbridged => {
            setup.host.link.is_empty()
        }
        Invariant::RdmaEnabled => !setup.uses_fabric,
        Invariant::RdmaActive => !setup.uses_fabric || setup.host.link.is_empty(),
        Invariant::WiredLimit => setup.host.wired_limit_mib == 0,
        _ => false,
    };
    is_unasked
        || matches!(
            seen.invariants.get(&invariant),
            Some(Sighting::Unknown(Unknown::NotOnThisPlatform | Unknown::NotConfigured(_)))
        )
}

/// Whether one holds, or there is nothing to hold.
pub(crate) fn accepts(
    setup: &Setup,
    invariant: Invariant,
    seen: &Observation,
    now: Moment,
) -> bool {
    is_moot(setup, invariant, seen) || holds(setup, invariant, seen, now) == Some(true)
}

/// The config as it is for an epoch by the ring.
pub(crate) fn of_ring(setup: &Setup) -> Setup {
    Setup { uses_fabric: false, ..setup.clone() }
}

/// Why the engine may not start, by what was shown; `None` if it may.
pub(crate) fn refuses_start(
    node: &Node,
    setup: &Setup,
    seen: &Observation,
    now: Moment,
) -> Option<String> {
    for invariant in Invariant::ALL {
        let matters = setup.invariants.mode(invariant) == Mode::Enforce
            && invariant.row().severity == Severity::Blocks;
        if matters
            && !is_moot(setup, invariant, seen)
            && holds(setup, invariant, seen, now) != Some(true)
        {
            return Some(format!("{invariant:?} does not hold or is not known"));
        }
    }
    let Artifacts::Complete { weights_bytes, need } = &seen.artifacts else {
        return Some("the model's files are not complete".into());
    };
    // What this node's ranks hold of them.
    let need_bytes = match need {
        Need::Estimated => weights_bytes / 1_000 * u64::from(setup.share_permille),
        Need::Bytes(bytes) => *bytes,
        Need::TooMuch(_) => return Some("the model never fits".into()),
    };
    let Some(memory) = &seen.memory else {
        return Some("memory is not known".into());
    };
    if now.boot_ms - memory.at_ms > 3 * setup.leak.sample_ms + 10_000 {
        return Some("memory was not read lately".into());
    }
    if memory.available_bytes < need_bytes + (setup.leak.reserve_mib << 20) {
        return Some("there is too little memory".into());
    }
    let owned: u64 = memory.owners.iter().map(|owner| owner.footprint_bytes).sum();
    // The most that can pass for the system's own: what it has, or the share assumed without a
    // baseline, and a step in which a baseline is kept.
    let base = node.base_bytes_max().max(memory.total_bytes / 50) + (128 << 20);
    let unexplained = memory.wired_bytes.saturating_sub(base).saturating_sub(owned);
    if unexplained > threshold_bytes(setup, memory.total_bytes) {
        return Some(format!("{} MiB of wired memory have no owner", unexplained >> 20));
    }
    None
}

/// The config and the sight of a node that serves the fallback: one rank, no fabric, other files.
pub(crate) fn of_fallback(setup: &Setup, seen: &Observation) -> (Setup, Observation) {
    let setup = Setup { share_permille: 1_000, uses_fabric: false, ..setup.clone() };
    let seen = Observation { artifacts: seen.fallback_artifacts.clone(), ..seen.clone() };
    (setup, seen)
}

/// Least unexplained wired memory that counts.
pub(crate) fn threshold_bytes(setup: &Setup, total_bytes: u64) -> u64 {
    (setup.leak.threshold_mib << 20).max(total_bytes / 100 * setup.leak.threshold_percent)
}

/// Whether it is known that the machine comes back with nobody present.
pub(crate) fn boots_unattended(setup: &Setup, seen: &Observation, now: Moment) -> bool {
    let invariant = Invariant::UnattendedBoot;
    matches!(seen.invariants.get(&invariant), Some(Sighting::Unknown(Unknown::NotOnThisPlatform)))
        || holds(setup, invariant, seen, now) == Some(true)
}
