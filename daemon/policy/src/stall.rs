//! Stalls: a rank that has work and finishes no step.
//!
//! A rank's own `last_step_age_ms` goes on through idle time, so the first request after a quiet
//! hour would look like a stall of an hour. A stall is therefore also measured from here: from when
//! the rank was first seen with work and this count of steps.

#[cfg(test)]
mod tests;

use tandem_wire::{Phase, Vitals};

use crate::{Moment, Observation, Process, RankSeen, Setup, State};

/// Since when one rank has had work and finished no step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Steps it had finished when it was first seen so, and when that was, since boot; `None`
    /// while it has no work.
    pub since: Option<(u64, u64)>,
    /// For how long it has been so, in milliseconds.
    pub lasted_ms: u64,
}

/// One turn: what each rank of the current epoch does, in order. The list is kept in
/// [`crate::canary::Proof::work`], which is forgotten with the epoch.
pub fn watch(epoch: u64, work: &mut Vec<Work>, seen: &Observation, now: Moment) {
    work.resize(seen.ranks.len(), Work::default());
    for (work, rank) in work.iter_mut().zip(&seen.ranks) {
        let Some(vitals) = busy(rank, epoch) else {
            *work = Work::default();
            continue;
        };
        let since_ms = match work.since {
            Some((steps, since_ms)) if steps == vitals.steps => since_ms,
            _ => now.boot_ms,
        };
        work.since = Some((vitals.steps, since_ms));
        work.lasted_ms = now.boot_ms.saturating_sub(since_ms);
    }
}

/// Why the ranks should be started again, if one stalls.
pub fn look(setup: &Setup, state: &State, seen: &Observation) -> Option<String> {
    let limit_ms = setup.supervise.stall_timeout_ms;
    let proof = &state.scratch.canary;
    if proof.epoch != state.epoch {
        return None;
    }
    let mut ranks = seen.ranks.iter().zip(&proof.work).enumerate();
    ranks.find_map(|(index, (rank, work))| {
        let number = setup.rank_number(index);
        let vitals = busy(rank, state.epoch)?;
        work.since.filter(|(steps, _)| *steps == vitals.steps)?;
        // Before its first step a rank tells no age; then only what was seen from here counts.
        let stalled_ms = vitals.last_step_age_ms.unwrap_or(u64::MAX).min(work.lasted_ms);
        let requests = vitals.active.saturating_add(vitals.queued);
        let noun = if requests == 1 { "request" } else { "requests" };
        (stalled_ms >= limit_ms).then(|| {
            format!("rank {number} has {requests} {noun} and finished no step for {stalled_ms} ms")
        })
    })
}

/// The vitals of a ready rank of this epoch that has work.
fn busy(rank: &RankSeen, epoch: u64) -> Option<&Vitals> {
    let is_ours = matches!(rank.process, Process::Running { epoch: e, .. } if e == epoch);
    let vitals = rank.vitals.as_ref()?;
    let has_work = vitals.active.saturating_add(vitals.queued) > 0;
    let is_ready = rank.phase == Some(Phase::Ready);
    (is_ours && is_ready && vitals.epoch == epoch && has_work).then_some(vitals)
}
