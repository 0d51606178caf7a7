//! Serving alone: while the others can't take part, a node may serve a smaller model by itself.
//!
//! ```text
//!   Pair ──another node can't take part for fallback.after_ms──▶ Alone
//!    ▲                                                             │ all could start again
//!    └──────── the fallback is unloaded ── Returning ◀─────────────┘ for RETURN_AFTER_MS
//! ```
//!
//! While it does, all that decides about ranks and gateway gets a [`View`]: a config of this node
//! alone with the fallback as its model, and an observation of the one rank that runs it. The rank
//! takes the place of this node's first one, and is rank 0 of a gang of one.

use std::borrow::Cow;

use super::{Mode, NodePlace, hindrance, report};
use crate::{Artifacts, Moment, Observation, RankSeen, Setup, State, gang};

/// For how long all others must be ready to start before the fallback is unloaded for them, in
/// milliseconds. A node that has just booted is heard before all of its host is read, and a way that
/// flaps comes back for less than this; an unload that was for nothing costs a minute of serving.
const RETURN_AFTER_MS: u64 = 5_000;

/// The config and the world as they are for what is served.
pub(crate) struct View<'a> {
    /// The config, or that of the fallback alone.
    pub(crate) setup: Cow<'a, Setup>,
    /// What is seen, or what of it belongs to the fallback.
    pub(crate) seen: Cow<'a, Observation>,
}

impl<'a> View<'a> {
    /// By the node's mode.
    pub(crate) fn of(setup: &'a Setup, state: &State, seen: &'a Observation) -> Self {
        if state.mode.is_alone() {
            Self { setup: Cow::Owned(alone(setup, seen)), seen: Cow::Owned(of_fallback(seen)) }
        } else {
            Self::whole(setup, seen)
        }
    }

    /// The same for the gateway, which is that of the pair again as soon as this node returns.
    pub(crate) fn of_gateway(setup: &'a Setup, state: &State, seen: &'a Observation) -> Self {
        match state.mode {
            Mode::Alone { .. } => Self::of(setup, state, seen),
            Mode::Pair | Mode::Returning { .. } => Self::whole(setup, seen),
        }
    }

    const fn whole(setup: &'a Setup, seen: &'a Observation) -> Self {
        Self { setup: Cow::Borrowed(setup), seen: Cow::Borrowed(seen) }
    }
}

/// The config of this node alone, with the fallback as its model.
fn alone(setup: &Setup, seen: &Observation) -> Setup {
    let number = |index: &usize| setup.rank_number(*index);
    let mut alone = Setup {
        ranks: 1,
        own_ranks: [0].into_iter().chain(strangers(seen).iter().map(number)).collect(),
        nodes: vec![NodePlace { name: setup.node.clone(), ranks: vec![0] }],
        plan: Vec::new(),
        share_permille: 1_000,
        fallback: None,
        // A group of one has no fabric.
        uses_fabric: false,
        ..setup.clone()
    };
    // A config that has lost its fallback meanwhile leaves nothing to start, only to unload.
    if let Some(fallback) = &setup.fallback {
        alone.model.clone_from(&fallback.model);
        alone.rank_plan.clone_from(&fallback.rank_plan);
        alone.gateway_plan.clone_from(&fallback.gateway_plan);
    }
    alone
}

/// Ranks beside the first that run, though the fallback has no use for them: an earlier supervisor's.
/// They are seen, so that they are stopped.
fn strangers(seen: &Observation) -> Vec<usize> {
    let runs = |(_, rank): &(usize, &RankSeen)| rank.process.is_running();
    seen.ranks.iter().enumerate().skip(1).filter(runs).map(|(index, _)| index).collect()
}

fn of_fallback(seen: &Observation) -> Observation {
    let strangers = strangers(seen).into_iter().filter_map(|index| seen.ranks.get(index));
    Observation {
        ranks: seen.ranks.first().into_iter().chain(strangers).cloned().collect(),
        artifacts: seen.fallback_artifacts.clone(),
        ..seen.clone()
    }
}

/// One turn.
pub(crate) fn step(setup: &Setup, state: &mut State, seen: &Observation, now: Moment) {
    let any_running = seen.ranks.iter().any(|rank| rank.process.is_running());
    let due = |scratch: &mut Option<u64>, after_ms: u64, is_wanted: bool| {
        *scratch = is_wanted.then(|| scratch.unwrap_or(now.boot_ms.saturating_add(after_ms)));
        scratch.take_if(|due_ms| now.boot_ms >= *due_ms).is_some()
    };
    match state.mode.clone() {
        Mode::Pair => {
            let why = reason(setup, state, seen, any_running, now);
            let after_ms = setup.fallback.as_ref().map_or(u64::MAX, |fallback| fallback.after_ms);
            if due(&mut state.scratch.mode_due_ms, after_ms, why.is_some())
                && let Some(why) = why
            {
                enter(state, Mode::Alone { why }, seen, now);
            }
        }
        Mode::Alone { why } => {
            use_up_numbers(state, seen);
            let may_return = setup.fallback.is_none() || may_return(setup, state, seen, now);
            if due(&mut state.scratch.mode_due_ms, RETURN_AFTER_MS, may_return) {
                let deadline_ms = now.boot_ms.saturating_add(setup.supervise.drain_timeout_ms);
                state.mode = Mode::Returning { why, deadline_ms };
            }
        }
        Mode::Returning { .. } => {
            use gang::Phase::{Backoff, Drained, Held, Idle};
            let has_ended = matches!(state.gang, Idle | Backoff { .. } | Held { .. } | Drained);
            if has_ended && !any_running {
                enter(state, Mode::Pair, seen, now);
            }
        }
    }
}

/// Another mode, in which nothing has been started yet. What held one model's ranks is nothing to
/// the other's; how often ranks were started again stays counted. The number of an epoch that only
/// another supervisor knew of is used up, also where the fallback has no such rank.
fn enter(state: &mut State, mode: Mode, seen: &Observation, now: Moment) {
    state.mode = mode;
    raise_epoch(state, seen);
    if state.gang != gang::Phase::Drained {
        state.gang = gang::Phase::Idle;
    }
    state.gang_since_ms = now.boot_ms;
    state.gang_failures = 0;
    state.last_served_ms = 0;
    state.last_failure = None;
}

/// Where nothing of this node's own runs, the numbers of all ranks that it sees are used up: also of
/// those that the fallback has no place for, which are not seen any more once they have ended.
fn use_up_numbers(state: &mut State, seen: &Observation) {
    use gang::Phase::{Backoff, Drained, Held, Idle};
    if matches!(state.gang, Idle | Backoff { .. } | Held { .. } | Drained) {
        raise_epoch(state, seen);
    }
}

fn raise_epoch(state: &mut State, seen: &Observation) {
    let of_ranks = seen.ranks.iter().filter_map(|rank| rank.process.epoch());
    state.epoch = state.epoch.max(of_ranks.max().unwrap_or(0));
}

/// Why this node should serve alone, if it should.
fn reason(
    setup: &Setup,
    state: &State,
    seen: &Observation,
    any_running: bool,
    now: Moment,
) -> Option<String> {
    let waits = matches!(state.gang, gang::Phase::Idle | gang::Phase::Backoff { .. });
    let may_serve = waits
        && !any_running
        && setup.fallback.is_some()
        && state.draining_since_ms.is_none()
        && state.operator.hold.is_none()
        && !state.reboot.stops()
        && matches!(seen.fallback_artifacts, Artifacts::Complete { .. });
    if setup.is_alone() || !may_serve {
        return None;
    }
    let hindrance = hindrance(setup, seen, now).filter(|hindrance| !hindrance.is_returning)?;
    Some(hindrance.to_string())
}

/// Whether all nodes could start together if this one unloaded its fallback.
fn may_return(setup: &Setup, state: &State, seen: &Observation, now: Moment) -> bool {
    let is_hindered = hindrance(setup, seen, now).is_some_and(|hindrance| !hindrance.is_returning);
    !is_hindered && report::refusal(setup, state, seen, now).is_none()
}
