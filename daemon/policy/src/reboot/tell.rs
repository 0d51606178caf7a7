//! What others and people are told of reboots.

use super::{Cause, Past, Phase, Told, limits, propose};
use crate::{
    Moment, Observation, RebootStatus, Rung, Setup, State,
    fault::{Condition, Kind},
};

/// This node's part in a reboot, as it is told to the others. By what is saved: a promise that was
/// told is never forgotten.
pub fn told(state: &State) -> Option<Told> {
    let (intent, stage) = (state.reboot.intent(), state.reboot.stage());
    match (intent, stage, &state.reboot_memory.veto) {
        // A node that is back can refuse the next one.
        (_, _, Some(veto)) => Some(veto.clone()),
        (Some(intent), Some(stage), None) => {
            Some(Told { intent: intent.clone(), stage, veto: None })
        }
        _ => None,
    }
}

/// What is wanted and refused, and why.
pub fn refused(
    setup: &Setup,
    state: &State,
    seen: &Observation,
    now: Moment,
) -> Option<(Cause, String)> {
    if state.reboot != Phase::Steady {
        return None;
    }
    let wish = propose::wishes(state).into_iter().next()?;
    let why = propose::participants(setup, state, seen, now, &wish).err()?;
    Some((wish.cause, why))
}

/// What the status shows.
pub(crate) fn status(
    setup: &Setup,
    state: &State,
    seen: &Observation,
    now: Moment,
) -> RebootStatus {
    let left = (setup.reboot.per_day_max as usize).saturating_sub(limits::recent(state, now));
    let refused = match propose::wishes(state).into_iter().next() {
        Some(wish) => propose::participants(setup, state, seen, now, &wish).err(),
        None => limits::refusal(setup, state, seen, now, ""),
    };
    let intent = state.reboot.intent();
    RebootStatus {
        phase: state.reboot.name().into(),
        intent: intent.map(|intent| intent.id.clone()),
        proposer: intent.map(|intent| intent.proposer.clone()),
        nodes: intent.map(|i| i.boots.keys().cloned().collect()).unwrap_or_default(),
        cause: state.reboot.cause().map(|cause| format!("{}: {}", cause.kind, cause.evidence)),
        budget_left: u32::try_from(left).unwrap_or(u32::MAX),
        refused,
        past_wall_ms: state
            .reboots
            .iter()
            .filter(|past| !past.boot.is_empty())
            .map(|past: &Past| past.wall_ms)
            .collect(),
    }
}

/// What is wrong with reboots.
pub(crate) fn conditions(
    setup: &Setup,
    state: &State,
    seen: &Observation,
    now: Moment,
) -> Vec<Condition> {
    let refused = refused(setup, state, seen, now).map(|(cause, why)| Condition {
        kind: Kind::RebootRefused,
        evidence: format!("{}: {why}", cause.evidence),
        rung: Rung::Hold,
        remedy: "reboot this machine when it suits, for example `sudo shutdown -r now`".into(),
    });
    let failed = state.reboot_memory.trouble.clone().map(|evidence| Condition {
        kind: Kind::RebootFailed,
        evidence,
        rung: Rung::None,
        remedy: "see `tandem events` of all nodes; it is over once tokens come, or by `tandem \
                 release`"
            .into(),
    });
    refused.into_iter().chain(failed).collect()
}
