//! The gateway: it outlives the ranks, and restarts on its own.
//!
//! ```text
//!   Down ──start──▶ Up ──ended──▶ Backoff ──▶ Up        Stopping ──gone──▶ Stopped (or Down)
//!    │              │   └─restart can't help─▶ Held        ▲
//!    └─ one runs that nobody remembers ────────────────────┤
//!                   └─ all stops, it is mute, other plan ──┘
//! ```
//!
//! Beside rank 0 it serves; on the other nodes it passes requests on to that one, so that a client
//! can ask any node. A node that serves the fallback has a gateway of its own for it.
//!
//! A supervisor that takes over within the boot adopts the gateway that it finds, with all its
//! clients' streams.

use serde::{Deserialize, Serialize};

use crate::{
    Action, Artifacts, Moment, Observation, Process, Reading, Setup, State, backoff_ms, canary,
    pair,
};

/// How long the gateway may still take once it is not to be waited for, in milliseconds: time to
/// send its clients an error.
const HASTE_MS: u64 = 2_000;

/// What a gateway does with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It has rank 0 beside it, and serves them.
    Serve,
    /// It passes them on to the gateway of the node with rank 0.
    Proxy,
    /// It serves the fallback model.
    Alone,
}

/// What the plans of a gateway of the fallback begin with.
const ALONE: &str = "alone:";

impl Mode {
    fn of(setup: &Setup, state: &State) -> Self {
        match state.mode {
            pair::Mode::Alone { .. } => Self::Alone,
            _ if setup.leads() => Self::Serve,
            _ => Self::Proxy,
        }
    }

    /// What a running gateway of this mode can't change.
    fn plan(self, setup: &Setup) -> String {
        match self {
            Self::Serve => setup.gateway_plan.clone(),
            Self::Proxy => format!("proxy:{}", setup.gateway_plan),
            Self::Alone => format!("{ALONE}{}", setup.gateway_plan),
        }
    }
}

/// Whether the gateway that runs, if one does, serves the fallback.
pub(crate) fn is_of_fallback(state: &State) -> bool {
    let is_there = matches!(state.gateway, Phase::Up { .. } | Phase::Stopping { .. });
    is_there && state.gateway_plan.starts_with(ALONE)
}

/// Where the gateway is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// Not started yet.
    Down,
    /// Started.
    Up {
        /// When, since boot.
        since_ms: u64,
    },
    /// It ended; the next start waits.
    Backoff {
        /// When it starts, since boot.
        until_ms: u64,
    },
    /// Asked to end.
    Stopping {
        /// When it is killed, since boot.
        deadline_ms: u64,
    },
    /// It ended in a way that starting again can't mend.
    Held {
        /// Why, and what to do.
        reason: String,
    },
    /// Ended because the supervisor ends.
    Stopped,
}

impl Phase {
    /// One word, for people and the status.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Up { .. } => "up",
            Self::Backoff { .. } => "backoff",
            Self::Stopping { .. } => "stopping",
            Self::Held { .. } => "held",
            Self::Stopped => "stopped",
        }
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
    let draining = state.draining_since_ms.is_some();
    let hasty = draining && (seen.terminations > 1 || ranks_are_lost(state));
    let stop_within = |ms: u64| Phase::Stopping { deadline_ms: now.boot_ms.saturating_add(ms) };
    let mute = is_mute(setup, state, seen) && state.operator.hold.is_none();
    let mode = Mode::of(setup, state);
    let plan = mode.plan(setup);
    let replaced = state.gateway_plan != plan && state.operator.hold.is_none();
    // What it still serves waits for ranks that do not come back.
    let replace_ms = if mode == Mode::Alone { HASTE_MS } else { supervise.drain_timeout_ms };
    let is_fed = mode == Mode::Proxy || matches!(seen.artifacts, Artifacts::Complete { .. });

    let next = match (state.gateway.clone(), &seen.gateway.process) {
        (
            Phase::Down | Phase::Held { .. } | Phase::Backoff { .. } | Phase::Stopped,
            Process::Running { .. },
        ) => stop_within(supervise.drain_timeout_ms),
        (Phase::Down | Phase::Backoff { .. }, _) if draining => Phase::Stopped,
        // Without the model's tokeniser it could only end, and not be tried again.
        (Phase::Down, _) if is_fed => Phase::Up { since_ms: now.boot_ms },
        (Phase::Backoff { until_ms }, _) if now.boot_ms >= until_ms => {
            Phase::Up { since_ms: now.boot_ms }
        }
        (Phase::Up { .. }, Process::Running { .. }) if draining => {
            stop_within(supervise.drain_timeout_ms)
        }
        (Phase::Up { .. }, _) if draining => Phase::Stopped,
        (Phase::Up { .. }, Process::Running { .. }) if mute => stop_within(HASTE_MS),
        (Phase::Up { .. }, Process::Running { .. }) if replaced => stop_within(replace_ms),
        (Phase::Up { .. }, Process::Ended { how, .. }) if how.is_retryable() => {
            state.gateway_failures = state.gateway_failures.saturating_add(1);
            let pause_ms = backoff_ms(supervise, state.gateway_failures);
            Phase::Backoff { until_ms: now.boot_ms.saturating_add(pause_ms) }
        }
        (Phase::Up { .. }, Process::Ended { how, .. }) => Phase::Held {
            reason: format!(
                "gateway: {how}; starting again can't help. Mend it, then `tandem release`"
            ),
        },
        (Phase::Stopping { deadline_ms }, Process::Running { .. }) if hasty => {
            let hasty_ms = now.boot_ms.saturating_add(HASTE_MS);
            Phase::Stopping { deadline_ms: deadline_ms.min(hasty_ms) }
        }
        (Phase::Stopping { .. }, Process::Never | Process::Ended { .. }) => {
            if draining {
                Phase::Stopped
            } else {
                Phase::Down
            }
        }
        (phase, _) => phase,
    };
    let starts = matches!(next, Phase::Up { .. }) && !matches!(state.gateway, Phase::Up { .. });
    state.gateway = next;
    if starts {
        state.gateway_plan = plan;
        // What went through the last one proves nothing about this one.
        state.scratch.canary = canary::Proof::default();
    }
    // `Never` while it should be up: the start was not done, so it is asked for again.
    let absent = starts || seen.gateway.process == Process::Never;
    act(setup, state, seen, now, absent.then_some(mode), actions);
}

/// Whether it runs and has not answered for too long. One that starts gets the same time.
fn is_mute(setup: &Setup, state: &mut State, seen: &Observation) -> bool {
    let answers = seen.gateway.ready != Reading::Unknown;
    if !matches!(state.gateway, Phase::Up { .. }) || !seen.gateway.process.is_running() || answers {
        state.scratch.gateway_silent_since_ms = None;
        return false;
    }
    let watched_ms = state.scratch.watched.ms;
    let since_ms = *state.scratch.gateway_silent_since_ms.get_or_insert(watched_ms);
    watched_ms.saturating_sub(since_ms) >= setup.supervise.gateway_timeout_ms
}

/// What the phase wants done, again on every turn until it is seen.
fn act(
    setup: &Setup,
    state: &mut State,
    seen: &Observation,
    now: Moment,
    absent: Option<Mode>,
    actions: &mut Vec<Action>,
) {
    match &state.gateway {
        Phase::Up { .. } if let Some(mode) = absent => actions.push(Action::StartGateway { mode }),
        Phase::Up { since_ms }
            if now.boot_ms.saturating_sub(*since_ms) >= setup.supervise.stable_after_ms =>
        {
            state.gateway_failures = 0;
        }
        Phase::Stopping { deadline_ms } if seen.gateway.process.is_running() => {
            let overdue = now.boot_ms >= *deadline_ms;
            actions.push(if overdue { Action::KillGateway } else { Action::StopGateway });
        }
        _ => {}
    }
}

/// Whether no rank will ever answer what the gateway still waits for.
fn ranks_are_lost(state: &State) -> bool {
    use crate::gang::Phase as Gang;
    matches!(state.gang, Gang::Drained | Gang::Held { .. } | Gang::Stopping { .. })
}
