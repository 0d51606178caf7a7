//! The ranks: all run one epoch or none do.
//!
//! ```text
//!        Idle ──admitted──▶ Starting ──all ready──▶ Serving ──lost, stalled, mute──▶ Stopping
//!          ▲                   └──lost, or start_timeout_ms───────────────────────▲   │
//!          │                                                                          │ all gone
//!          ├──────────── another plan, or ranks of another supervisor ────────────────┤
//!       Backoff ◀──────────────────── budget left ────────────────────────────────────┤
//!        Held ◀──── restart can't help, or budget spent (a reboot may be wanted) ─────┤
//!       Drained ◀──────── all is to be stopped, and the gateway has ended ────────────┘
//! ```
//!
//! In `Stopping` every rank is asked to unload; one that has not after `unload_timeout_ms` is
//! killed, the last rung, and remembered as a suspected leak. A supervisor that takes over within
//! the boot goes on from the phase it finds: ranks of the epoch it remembers are adopted.
//!
//! With other nodes, the one with rank 0 leads: it alone begins epochs, counts failures and decides
//! what they lead to. The others start with what it tells, and after an end they wait, in `Idle`,
//! for the next. Who leads is in the config, so there is nothing to elect.

mod failure;
mod others;
mod phase;

use crate::{
    Action, Leak, Moment, Observation, Process, RankSeen, Rung, Setup, State, admission, canary,
    fault::{Condition, Kind},
    gateway,
    pair::{self, Mode, fabric},
    retune, stall,
};
use others::Others;
pub use phase::{Phase, StopCause};

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
    Broken,
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
            Self::Broken
        } else if seen.ranks.iter().all(|r| r.phase == Some(tandem_wire::Phase::Ready)) {
            Self::Ready
        } else {
            Self::Rising
        }
    }
}

const fn failed(kind: Kind, text: String) -> StopCause {
    StopCause::Failed { kind, text }
}

/// One turn of the machine.
pub(super) fn step(
    setup: &Setup,
    state: &mut State,
    seen: &Observation,
    now: Moment,
    actions: &mut Vec<Action>,
) {
    others::note_listening(setup, state, seen, now);
    let others = others::look(setup, state, seen, now);
    let look = match Look::at(seen, state.epoch) {
        Look::Ready if !others.are_ready && state.gang != Phase::Serving => Look::Rising,
        look => look,
    };
    let unhealthy = unhealthy(setup, state, seen);
    let next = next(setup, state, seen, now, (look, others), unhealthy);
    if next != state.gang {
        if state.gang == Phase::Serving {
            state.last_served_ms = now.boot_ms.saturating_sub(state.gang_since_ms);
        }
        state.gang = next;
        state.gang_since_ms = now.boot_ms;
        state.scratch.unload_asked_ms.clear();
    }
    if state.gang != Phase::Idle {
        state.scratch.fabric_due_ms = None;
    }
    if !setup.uses_fabric && state.mode == Mode::Pair {
        state.fabric_fallback = None;
    }
    state.crashed_in_boot |= failure::is_crash(seen, state.epoch);
    act(setup, state, seen, now, actions);
}

/// The transitions, all in one place.
fn next(
    setup: &Setup,
    state: &mut State,
    seen: &Observation,
    now: Moment,
    (look, others): (Look, Others),
    unhealthy: Option<(Kind, String)>,
) -> Phase {
    let supervise = &setup.supervise;
    let stopping = |cause: StopCause| Phase::Stopping {
        deadline_ms: now.boot_ms.saturating_add(supervise.unload_timeout_ms),
        cause,
    };
    let any_running = seen.ranks.iter().any(|rank| rank.process.is_running());
    let draining = state.draining_since_ms.is_some();
    let may_stop = draining && may_stop_ranks(setup, state, seen, now);
    let held = state.operator.hold.is_some();
    let returning = matches!(state.mode, Mode::Returning { .. });
    let has_returned = returning && may_return(state, seen, now);
    match (state.gang.clone(), look) {
        // Whatever runs while nothing should is an earlier supervisor's, whatever its epoch.
        (Phase::Backoff { .. } | Phase::Idle | Phase::Drained, _) if any_running => {
            stopping(StopCause::Stale)
        }
        (Phase::Backoff { .. } | Phase::Idle, _) if draining => Phase::Drained,
        (Phase::Backoff { until_ms }, _) if now.boot_ms < until_ms => state.gang.clone(),
        (Phase::Idle | Phase::Backoff { .. }, _) if returning => Phase::Idle,
        (Phase::Idle | Phase::Backoff { .. }, _) => begin(setup, state, seen, now),

        (Phase::Starting { .. } | Phase::Serving, _) if may_stop => stopping(StopCause::Drain),
        (Phase::Starting { .. } | Phase::Serving, _) if has_returned => stopping(StopCause::Return),
        // Before what own ranks did because of it.
        (Phase::Starting { .. } | Phase::Serving, _) if let Some(cause) = others.stop => {
            stopping(cause)
        }
        (Phase::Starting { .. } | Phase::Serving, Look::Broken | Look::Gone) => {
            stopping(failure::broken(setup, seen, state.epoch))
        }
        (Phase::Starting { .. } | Phase::Serving, Look::Stale) => stopping(StopCause::Stale),
        // Not started yet, because the state could not be saved: only while it still is admitted.
        // A supervisor that finds this can't know whether the epoch ran, so its number is used up.
        (Phase::Starting { .. }, Look::Unstarted)
            if draining
                || state.scratch.begun_epoch != Some(state.epoch)
                || admission::check(setup, state, seen, now).is_err()
                || !others::still_agree(setup, state, seen, now) =>
        {
            Phase::Idle
        }
        (Phase::Starting { .. } | Phase::Serving, Look::Rising | Look::Ready)
            if state.rank_plan != setup.rank_plan && !held =>
        {
            stopping(StopCause::Plan)
        }
        (Phase::Starting { .. }, Look::Ready) => Phase::Serving,
        (Phase::Starting { deadline_ms }, Look::Rising) if now.boot_ms >= deadline_ms => {
            let limit = supervise.start_timeout_ms;
            let late = match others.late.as_slice() {
                [] => String::new(),
                late => format!("; not all ranks of {}", late.join(", ")),
            };
            let text = format!("not ready within start_timeout_ms ({limit}){late}");
            stopping(failed(Kind::Engine, text))
        }
        (Phase::Serving, Look::Rising | Look::Ready) if !held => match unhealthy {
            Some((kind, text)) => stopping(failed(kind, text)),
            None => Phase::Serving,
        },
        (Phase::Serving, Look::Unstarted) => {
            // They ended while no supervisor looked, so nobody knows how.
            state.crashed_in_boot = true;
            stopping(StopCause::Stale)
        }

        // How the others' ranks ended tells why; but an end waits for nobody.
        (Phase::Stopping { .. }, _) if !others.are_gone && !draining => state.gang.clone(),
        (Phase::Stopping { cause, .. }, _) if !any_running => {
            failure::stopped(setup, state, seen, now, cause)
        }
        (phase, _) => phase,
    }
}

/// Why a serving gang should be started again although all its ranks run.
fn unhealthy(setup: &Setup, state: &mut State, seen: &Observation) -> Option<(Kind, String)> {
    let silent_ms = silent_for(state, seen);
    if state.gang != Phase::Serving {
        return None;
    }
    let limit_ms = setup.supervise.silence_timeout_ms;
    if silent_ms >= Some(limit_ms) {
        return Some((Kind::Stall, format!("a rank was silent or not ready for {limit_ms} ms")));
    }
    // Requests that fail are no reason to start ranks again that finish steps or have nothing to do;
    // an engine that lies is, where nothing on the way to rank 0 can have spoilt the answer.
    let is_reason = |condition: &Condition| setup.leads() && condition.rung == Rung::Restart;
    let verdict = || canary::verdict(setup, state).filter(is_reason);
    stall::look(setup, state, seen)
        .map(|text| (Kind::Stall, text))
        .or_else(|| verdict().map(|condition| (condition.kind, condition.evidence)))
}

/// For how long a rank that runs in a serving gang has said nothing, or that it is not ready, in
/// milliseconds. One that dies or falls silent alone is noticed by its peers; this is for when there
/// are none, when all hang, or when one hangs unloading for a supervisor that died.
fn silent_for(state: &mut State, seen: &Observation) -> Option<u64> {
    let silent = |rank: &RankSeen| {
        rank.process.is_running() && rank.phase != Some(tandem_wire::Phase::Ready)
    };
    if state.gang == Phase::Serving && seen.ranks.iter().any(silent) {
        let watched_ms = state.scratch.watched.ms;
        let since_ms = *state.scratch.silent_since_ms.get_or_insert(watched_ms);
        Some(watched_ms.saturating_sub(since_ms))
    } else {
        state.scratch.silent_since_ms = None;
        None
    }
}

/// Whether the ranks may go: when no gateway needs them, or it is not waited for any more.
fn may_stop_ranks(setup: &Setup, state: &State, seen: &Observation, now: Moment) -> bool {
    let since = state.draining_since_ms.unwrap_or(now.boot_ms);
    let waited_ms = now.boot_ms.saturating_sub(since);
    let has_gateway_ended =
        matches!(state.gateway, gateway::Phase::Stopped | gateway::Phase::Held { .. });
    // Where another node leads, it ends the epoch on all, so that no rank is lost to the others.
    (has_gateway_ended && !others::is_led(setup, seen, now))
        || seen.terminations > 1
        || waited_ms >= setup.supervise.drain_timeout_ms
}

/// Whether the fallback's ranks may go for the pair: when the gateway that needs them has ended, or
/// is not waited for any more.
fn may_return(state: &State, seen: &Observation, now: Moment) -> bool {
    let is_over = match state.mode {
        Mode::Returning { deadline_ms, .. } => now.boot_ms >= deadline_ms,
        Mode::Pair | Mode::Alone { .. } => false,
    };
    is_over || !gateway::is_of_fallback(state) || !seen.gateway.process.is_running()
}

/// The next epoch, if it is admitted: above every one that was ever seen, even if the memory of it
/// was lost.
fn begin(setup: &Setup, state: &mut State, seen: &Observation, now: Moment) -> Phase {
    let supervise = &setup.supervise;
    // Counted while nothing but the fabric is missing; anything else begins it anew.
    let fabric_due_ms = state.scratch.fabric_due_ms.take();
    if setup.uses_fabric
        && !setup.ring_fallback
        && let Some(evidence) = fabric::spent(setup, state)
    {
        return failure::held(evidence, Some(crate::reboot::cause::FABRIC));
    }
    if state.scratch.is_unsaved || admission::check(setup, state, seen, now).is_err() {
        return Phase::Idle;
    }
    if setup.leads() {
        if pair::hindrance(setup, seen, now).is_some() {
            return Phase::Idle;
        }
        let Some(carrier) = fabric::choose(setup, state, seen, now, fabric_due_ms) else {
            return Phase::Idle;
        };
        fabric::note_start(state, carrier);
        let known = others::highest_epoch(state, seen);
        let highest = known.max(others::highest_told(setup, seen)).min(u64::MAX - 1);
        state.epoch = state.epoch.max(highest).saturating_add(1);
        state.told_step_tokens = None;
    } else {
        let Some(start) = others::told_start(setup, state, seen, now) else { return Phase::Idle };
        state.epoch = start.epoch;
        state.told_step_tokens = Some(start.prefill_step_tokens);
        fabric::note_start(state, start.carrier);
    }
    state.starts_in_boot = state.starts_in_boot.saturating_add(1);
    state.scratch.begun_epoch = Some(state.epoch);
    state.scratch.begun_ms = now.boot_ms;
    state.rank_plan.clone_from(&setup.rank_plan);
    let served_ms = std::mem::take(&mut state.last_served_ms);
    if setup.leads() {
        retune::raise(setup, state, served_ms, now);
    }
    Phase::Starting { deadline_ms: now.boot_ms.saturating_add(supervise.start_timeout_ms) }
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
            let own = retune::step_tokens(setup, state);
            let prefill_step_tokens = state.told_step_tokens.unwrap_or(own);
            actions.push(Action::StartGang {
                epoch: state.epoch,
                prefill_step_tokens,
                alone: state.mode.is_alone(),
                carrier: state.carrier.clone(),
            });
        }
        Phase::Serving => {
            let served_ms = now.boot_ms.saturating_sub(state.gang_since_ms);
            let is_stable = served_ms >= setup.supervise.stable_after_ms;
            if is_stable {
                state.gang_failures = 0;
            }
            let is_proven = canary::is_proven(setup, state, now);
            if is_proven {
                state.last_failure = None;
            }
            fabric::note_serving(state, is_proven, is_stable);
        }
        Phase::Stopping { deadline_ms, .. } => {
            let overdue = now.boot_ms >= *deadline_ms;
            for (index, seen) in seen.ranks.iter().enumerate() {
                let rank = setup.rank_number(index);
                let Process::Running { pid, epoch } = seen.process else {
                    continue;
                };
                // The deadline may be one of an earlier supervisor that never came to ask.
                let asked_ms = *state.scratch.unload_asked_ms.entry(pid).or_insert(now.boot_ms);
                let waited_ms = now.boot_ms.saturating_sub(asked_ms);
                if overdue && waited_ms >= setup.supervise.unload_timeout_ms {
                    state.suspect(Leak { epoch, rank, pid, wall_ms: now.wall_ms });
                    actions.push(Action::KillRank { rank });
                } else {
                    actions.push(Action::UnloadRank { rank });
                }
            }
        }
        Phase::Held { .. } => {
            let running = seen.ranks.iter().enumerate().filter(|(_, r)| r.process.is_running());
            let unload = |index| Action::UnloadRank { rank: setup.rank_number(index) };
            actions.extend(running.map(|(index, _)| unload(index)));
        }
        _ => {}
    }
}
