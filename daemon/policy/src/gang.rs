//! The ranks: all run one epoch or none do.
//!
//! ```text
//!          ┌────────────────── stale ranks of an earlier supervisor ─────────────┐
//!          │                                                                     ▼
//!        Idle ──start──▶ Starting ──all ready──▶ Serving ──a rank ended──▶ Stopping
//!                           ▲ └──a rank ended, or start_timeout_ms──────────▲  │
//!                           │                                                  │ all gone
//!                        Backoff ◀──────────── budget left ────────────────────┤
//!                                                                              │
//!                         Held ◀── restart can't help, or budget spent ────────┤
//!                        Drained ◀── SIGTERM, and the gateway has ended ───────┘
//! ```
//!
//! In `Stopping` every rank is asked to unload; one that has not after `unload_timeout_ms` is
//! killed, the last rung, and remembered as a suspected leak. `Held` waits for an operator.

use serde::{Deserialize, Serialize};
use tandem_wire::exit;

use crate::{Action, Ended, Leak, Moment, Observation, Process, Setup, State, backoff_ms, gateway};

/// Where the ranks are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// Nothing was started yet.
    Idle,
    /// The epoch is started; not all ranks are ready.
    Starting {
        /// When all must be ready, since boot.
        deadline_ms: u64,
    },
    /// All ranks are ready.
    Serving,
    /// Ranks are unloading.
    Stopping {
        /// When they are killed, since boot.
        deadline_ms: u64,
        /// Why.
        cause: StopCause,
    },
    /// None runs; the next epoch waits.
    Backoff {
        /// When it starts, since boot.
        until_ms: u64,
    },
    /// None runs, and none will until an operator restarts the supervisor.
    Held {
        /// Why, and what to do.
        reason: String,
    },
    /// None runs, and none will: the supervisor ends.
    Drained,
}

/// Why the ranks are being stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "detail", rename_all = "snake_case")]
pub enum StopCause {
    /// A rank ended or the start took too long.
    Failed(String),
    /// They belong to an earlier supervisor.
    Stale,
    /// The supervisor was asked to end.
    Drain,
}

impl Phase {
    /// One word, for people and the status.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Starting { .. } => "starting",
            Self::Serving => "serving",
            Self::Stopping { .. } => "stopping",
            Self::Backoff { .. } => "backoff",
            Self::Held { .. } => "held",
            Self::Drained => "drained",
        }
    }
}

/// The ranks at one glance.
enum Look {
    /// A rank of another epoch runs.
    Stale,
    /// None runs, and none of this epoch ever did.
    Unstarted,
    /// All of this epoch run; not all are known to be ready.
    Rising,
    /// All of this epoch run and are ready.
    Ready,
    /// At least one of this epoch is not there any more, and at least one is.
    Broken(String),
    /// All of this epoch are gone.
    Gone,
}

impl Look {
    fn at(seen: &Observation, epoch: u64) -> Self {
        let of_epoch = |process: &Process| match process {
            Process::Running { epoch: e, .. } | Process::Ended { epoch: e, .. } => *e == epoch,
            Process::Never => false,
        };
        let running = |p: &Process| p.is_running();
        let processes = || seen.ranks.iter().map(|rank| &rank.process);
        if processes().any(|p| running(p) && !of_epoch(p)) {
            Self::Stale
        } else if !processes().any(of_epoch) {
            Self::Unstarted
        } else if !processes().any(running) {
            Self::Gone
        } else if !processes().all(running) {
            Self::Broken(root_cause(seen, epoch).0)
        } else if seen.ranks.iter().all(|r| r.phase == Some(tandem_wire::Phase::Ready)) {
            Self::Ready
        } else {
            Self::Rising
        }
    }
}

/// Why an epoch broke, and whether another could go better. The ranks that only noticed that
/// another was gone come last: they are consequences.
fn root_cause(seen: &Observation, epoch: u64) -> (String, bool) {
    let order = |how: &Ended| match how {
        how if !how.is_retryable() => 0,
        Ended::Code(exit::PEER_LOST | exit::PEER_SILENT) => 2,
        Ended::Code(exit::OK) => 3,
        _ => 1,
    };
    let ended = seen.ranks.iter().enumerate().filter_map(|(rank, seen)| match &seen.process {
        Process::Ended { epoch: e, how } if *e == epoch => Some((rank, how)),
        _ => None,
    });
    match ended.min_by_key(|(rank, how)| (order(how), *rank)) {
        Some((rank, how)) => (format!("rank {rank}: {how}"), how.is_retryable()),
        None => ("a rank is missing".into(), true),
    }
}

/// One turn of the machine.
pub(super) fn step(
    setup: &Setup,
    state: &mut State,
    seen: &Observation,
    now: Moment,
    actions: &mut Vec<Action>,
) {
    let supervise = &setup.supervise;
    let look = Look::at(seen, state.epoch);
    let stopping = |cause: StopCause| Phase::Stopping {
        deadline_ms: now.boot_ms.saturating_add(supervise.unload_timeout_ms),
        cause,
    };
    let any_running = seen.ranks.iter().any(|rank| rank.process.is_running());
    let draining = state.draining_since_ms.is_some();
    let may_stop = draining && may_stop_ranks(setup, state, seen, now);

    let silent = silent_for(state, seen, now);

    let next = match (state.gang.clone(), look) {
        // Whatever runs while nothing should is an earlier supervisor's, whatever its epoch.
        (Phase::Backoff { .. } | Phase::Idle, _) if any_running => stopping(StopCause::Stale),
        (Phase::Held { .. }, _) if any_running => state.gang.clone(),
        (Phase::Held { .. } | Phase::Backoff { .. } | Phase::Idle, _) if draining => Phase::Drained,
        (Phase::Idle, _) => begin(setup, state, seen, now),
        (Phase::Backoff { until_ms }, _) if now.boot_ms >= until_ms => {
            begin(setup, state, seen, now)
        }

        (Phase::Starting { .. } | Phase::Serving, _) if may_stop => stopping(StopCause::Drain),
        (Phase::Starting { .. } | Phase::Serving, Look::Broken(cause)) => {
            stopping(StopCause::Failed(cause))
        }
        (Phase::Starting { .. } | Phase::Serving, Look::Gone) => {
            stopping(StopCause::Failed(root_cause(seen, state.epoch).0))
        }
        (Phase::Starting { .. } | Phase::Serving, Look::Stale) => stopping(StopCause::Stale),
        (Phase::Starting { .. }, Look::Ready) => Phase::Serving,
        (Phase::Starting { deadline_ms }, Look::Rising) if now.boot_ms >= deadline_ms => {
            let limit = supervise.start_timeout_ms;
            stopping(StopCause::Failed(format!("not ready within start_timeout_ms ({limit})")))
        }
        (Phase::Serving, Look::Rising) if silent >= Some(supervise.silence_timeout_ms) => {
            let limit = supervise.silence_timeout_ms;
            stopping(StopCause::Failed(format!("a rank said nothing for {limit} ms")))
        }
        (Phase::Serving, Look::Unstarted) => stopping(StopCause::Stale),

        (Phase::Stopping { cause, .. }, Look::Gone | Look::Unstarted) => {
            stopped(setup, state, seen, now, cause)
        }
        (phase, _) => phase,
    };
    if next != state.gang {
        state.gang = next;
        state.gang_since_ms = now.boot_ms;
    }
    act(setup, state, seen, now, actions);
}

/// For how long a rank that runs in a serving gang has said nothing, in milliseconds. One that dies
/// or falls silent alone is noticed by its peers; this is for when there are none, or all hang.
fn silent_for(state: &mut State, seen: &Observation, now: Moment) -> Option<u64> {
    let silent = |rank: &crate::RankSeen| rank.process.is_running() && rank.phase.is_none();
    if state.gang == Phase::Serving && seen.ranks.iter().any(silent) {
        let since_ms = *state.scratch.silent_since_ms.get_or_insert(now.boot_ms);
        Some(now.boot_ms.saturating_sub(since_ms))
    } else {
        state.scratch.silent_since_ms = None;
        None
    }
}

/// Whether the ranks may go: when no gateway needs them, or it is not waited for any more.
fn may_stop_ranks(setup: &Setup, state: &State, seen: &Observation, now: Moment) -> bool {
    let since = state.draining_since_ms.unwrap_or(now.boot_ms);
    let waited_ms = now.boot_ms.saturating_sub(since);
    state.gateway == gateway::Phase::Stopped
        || seen.terminations > 1
        || waited_ms >= setup.supervise.drain_timeout_ms
}

/// The next epoch: above every one that was ever seen, even if the memory of it was lost.
fn begin(setup: &Setup, state: &mut State, seen: &Observation, now: Moment) -> Phase {
    let of = |process: &Process| match process {
        Process::Running { epoch, .. } | Process::Ended { epoch, .. } => *epoch,
        Process::Never => 0,
    };
    let highest = seen.ranks.iter().map(|rank| of(&rank.process)).max().unwrap_or(0);
    state.epoch = state.epoch.max(highest) + 1;
    let deadline_ms = now.boot_ms.saturating_add(setup.supervise.start_timeout_ms);
    Phase::Starting { deadline_ms }
}

/// All ranks are gone: what now?
fn stopped(
    setup: &Setup,
    state: &mut State,
    seen: &Observation,
    now: Moment,
    cause: StopCause,
) -> Phase {
    let (root, retryable) = root_cause(seen, state.epoch);
    let failure = match cause {
        _ if state.draining_since_ms.is_some() => return Phase::Drained,
        StopCause::Stale | StopCause::Drain => return Phase::Idle,
        // Ranks that ended after the first may know better why: one of them may be the culprit.
        StopCause::Failed(_) if !retryable => root.clone(),
        StopCause::Failed(first) => first,
    };
    state.last_failure = Some(crate::Failure {
        text: failure.clone(),
        rung: crate::Rung::Restart,
        signature: None,
        remedy: String::new(),
    });
    if !retryable {
        let reason =
            format!("{failure}; starting again can't help. Mend it, then restart the supervisor");
        return Phase::Held { reason };
    }
    let supervise = &setup.supervise;
    let window_start = now.boot_ms.saturating_sub(supervise.restart_window_ms);
    state.restarts_ms.retain(|at| *at > window_start || window_start == 0);
    if state.restarts_ms.len() >= supervise.restarts_max as usize {
        let reason = format!(
            "{} restarts in {} ms are all that [supervise] allows; the last cause: {failure}. \
             Mend it, then restart the supervisor",
            supervise.restarts_max, supervise.restart_window_ms
        );
        return Phase::Held { reason };
    }
    state.restarts_ms.push(now.boot_ms);
    state.gang_failures = state.gang_failures.saturating_add(1);
    let until_ms = now.boot_ms.saturating_add(backoff_ms(supervise, state.gang_failures));
    Phase::Backoff { until_ms }
}

/// What the phase wants done, again on every turn until it is seen.
fn act(
    setup: &Setup,
    state: &mut State,
    seen: &Observation,
    now: Moment,
    actions: &mut Vec<Action>,
) {
    match &state.gang {
        Phase::Starting { .. } if matches!(Look::at(seen, state.epoch), Look::Unstarted) => {
            actions.push(Action::StartGang {
                epoch: state.epoch,
                prefill_step_tokens: setup.prefill_step_tokens,
            });
        }
        Phase::Serving => {
            let served_ms = now.boot_ms.saturating_sub(state.gang_since_ms);
            if served_ms >= setup.supervise.stable_after_ms {
                state.gang_failures = 0;
            }
        }
        Phase::Stopping { deadline_ms, .. } => {
            let overdue = now.boot_ms >= *deadline_ms;
            for (rank, seen) in (0_u32..).zip(&seen.ranks) {
                let Process::Running { pid, epoch } = seen.process else {
                    continue;
                };
                if overdue {
                    state.suspect(Leak { epoch, rank, pid, wall_ms: now.wall_ms });
                    actions.push(Action::KillRank { rank });
                } else {
                    actions.push(Action::UnloadRank { rank });
                }
            }
        }
        Phase::Held { .. } => {
            let running = (0_u32..).zip(&seen.ranks).filter(|(_, r)| r.process.is_running());
            actions.extend(running.map(|(rank, _)| Action::UnloadRank { rank }));
        }
        _ => {}
    }
}
