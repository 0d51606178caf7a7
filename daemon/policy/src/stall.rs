//! Stalls: a rank that has work and finishes no step.
//!
//! A rank's own `last_step_age_ms` goes on through idle time, so the first request after a quiet
//! hour would look like a stall of an hour. A stall is therefore also measured from here: from when
//! the rank was first seen with work and this count of steps, in time that this supervisor watched.
//!
//! Slow is not dead: a rank whose steps took long lately, because the machine is short of something or
//! the context is long, gets several times as long for the next one.

#[cfg(test)]
mod tests;

use tandem_wire::{Phase, Vitals};

use crate::{Observation, Process, RankSeen, Setup, State, watched::Watched};

/// How many times as long as the slowest step of late the next one may take.
const TIMES_SLOWEST: u64 = 4;

/// Most that this makes of `supervise.stall_timeout_ms`, in times: what is dead is to be met.
const TIMES_LIMIT_MAX: u64 = 3;

/// For how long a slow step is remembered at least, in milliseconds; at most twice as long.
const REMEMBERED_MS: u64 = 600_000;

/// Since when one rank has had work and finished no step, and how long its steps took lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// The epoch that the two below are of.
    epoch: u64,
    /// Steps it had finished when it was first seen so, and when that was, in time watched; `None`
    /// while it has no work.
    pub since: Option<(u64, u64)>,
    /// For how long it has been so, in milliseconds.
    pub lasted_ms: u64,
    /// The slowest steps of this period and of the one before, in milliseconds.
    slowest_ms: [u64; 2],
    /// When this period began, in time watched.
    period_since_ms: u64,
}

impl Work {
    fn is_without(&mut self) {
        self.since = None;
        self.lasted_ms = 0;
    }

    fn see(&mut self, steps: u64, watched_ms: u64) {
        let since_ms = match self.since {
            Some((known, since_ms)) if known == steps => since_ms,
            Some((_, since_ms)) => {
                // Of several steps since then each took a part of it; the longest may be all.
                self.note(watched_ms.saturating_sub(since_ms), watched_ms);
                watched_ms
            }
            None => watched_ms,
        };
        self.since = Some((steps, since_ms));
        self.lasted_ms = watched_ms.saturating_sub(since_ms);
    }

    /// A step was finished that took so long. Only then time passes for what is remembered.
    fn note(&mut self, took_ms: u64, watched_ms: u64) {
        if watched_ms.saturating_sub(self.period_since_ms) >= REMEMBERED_MS {
            self.slowest_ms = [0, self.slowest_ms[0]];
            self.period_since_ms = watched_ms;
        }
        self.slowest_ms[0] = self.slowest_ms[0].max(took_ms);
    }

    /// How long it may take for its next step, in milliseconds, where a config allows this for any.
    fn limit_ms(&self, configured_ms: u64) -> u64 {
        let slowest_ms = self.slowest_ms[0].max(self.slowest_ms[1]);
        let most_ms = configured_ms.saturating_mul(TIMES_LIMIT_MAX);
        slowest_ms.saturating_mul(TIMES_SLOWEST).clamp(configured_ms, most_ms)
    }
}

/// One turn: what each rank of the current epoch does, in order. The list is kept in
/// [`crate::state::Scratch::work`]: how long steps take is the machine's, not the epoch's.
pub fn watch(epoch: u64, work: &mut Vec<Work>, seen: &Observation, watched: Watched) {
    work.resize(seen.ranks.len(), Work::default());
    for (work, rank) in work.iter_mut().zip(&seen.ranks) {
        if work.epoch != epoch {
            work.epoch = epoch;
            work.is_without();
        }
        match busy(rank, epoch) {
            Some(vitals) => work.see(vitals.steps, watched.ms),
            // It said nothing this time, which is no sign that it has no work any more.
            None if is_ready(rank, epoch) && rank.vitals.is_none() => {}
            None => {
                if let Some(vitals) = told(rank, epoch).filter(|_| work.since.is_some()) {
                    // The step that ended all work may have been the slow one.
                    work.see(vitals.steps, watched.ms);
                }
                work.is_without();
            }
        }
    }
}

/// Why the ranks should be started again, if one stalls.
pub fn look(setup: &Setup, state: &State, seen: &Observation) -> Option<String> {
    let mut ranks = seen.ranks.iter().zip(&state.scratch.work).enumerate();
    ranks.find_map(|(index, (rank, work))| {
        let number = setup.rank_number(index);
        let limit_ms = work.limit_ms(setup.supervise.stall_timeout_ms);
        let vitals = busy(rank, state.epoch)?;
        work.since.filter(|(steps, _)| work.epoch == state.epoch && *steps == vitals.steps)?;
        // Before its first step a rank tells no age; then only what was seen from here counts.
        let stalled_ms = vitals.last_step_age_ms.unwrap_or(u64::MAX).min(work.lasted_ms);
        let requests = vitals.active.saturating_add(vitals.queued);
        let noun = if requests == 1 { "request" } else { "requests" };
        (stalled_ms >= limit_ms).then(|| {
            format!("rank {number} has {requests} {noun} and finished no step for {stalled_ms} ms")
        })
    })
}

/// The vitals of a ready rank of this epoch.
fn told(rank: &RankSeen, epoch: u64) -> Option<&Vitals> {
    let vitals = rank.vitals.as_ref()?;
    (is_ready(rank, epoch) && vitals.epoch == epoch).then_some(vitals)
}

/// The same, while it has work.
fn busy(rank: &RankSeen, epoch: u64) -> Option<&Vitals> {
    told(rank, epoch).filter(|vitals| vitals.active.saturating_add(vitals.queued) > 0)
}

fn is_ready(rank: &RankSeen, epoch: u64) -> bool {
    let is_ours = matches!(rank.process, Process::Running { epoch: e, .. } if e == epoch);
    is_ours && rank.phase == Some(Phase::Ready)
}
