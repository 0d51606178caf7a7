//! The reboot of this machine: the last rung before an operator.
//!
//! ```text
//!            wanted and allowed         all stopped, or too late
//!   Steady ───────────────────▶ Draining ─────────────▶ Rebooting ──▶ (another boot) Steady
//!     ▲                            │                        │ asked again, harder each time
//!     └─────── not wanted any more ┴─── it did not happen ──┘
//! ```
//!
//! All that limits reboots counts running time, the sum of the uptime of all boots: a clock that
//! jumps neither brings a reboot nearer nor keeps it away. A power cut loses at most
//! ten minutes of it, which errs towards fewer reboots.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Action, Moment, Observation, RebootStatus, Setup, State, gang, invariant::judge, leak, operator,
};

/// Most past reboots remembered; more than [`PER_DAY_MAX`].
pub const HISTORY_MAX: usize = 32;

/// Most that `reboot.per_day_max` can be.
pub const PER_DAY_MAX: usize = 24;

/// The window of the budget, in running time.
const DAY_MS: u64 = 86_400_000;

/// How often running time is written down.
const TICK_MS: u64 = 600_000;

/// Pause between two tries to make the system reboot. A clean reboot takes the machine down within
/// seconds; a stuck one may need harder means.
const RETRY_MS: u64 = 120_000;

/// Most tries. The last is the hardest that there is, so more would change nothing.
const ATTEMPTS_MAX: u32 = 3;

/// Where a reboot is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// None is on its way.
    Steady,
    /// Gateway and ranks are being stopped.
    Draining {
        /// Why.
        cause: Cause,
        /// When it is done whatever still runs, since boot.
        deadline_ms: u64,
    },
    /// The system was asked to reboot.
    Rebooting {
        /// Why.
        cause: Cause,
        /// When it was first asked, since boot.
        since_ms: u64,
    },
}

/// Why a reboot is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cause {
    /// One word: the same soon after a reboot is not mended by another.
    pub kind: String,
    /// The evidence.
    pub evidence: String,
}

/// A reboot of one node or of several together: made by the node that wants it, taken over by the
/// others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// Unique over all nodes and boots: `NODE/BOOT/NUMBER`.
    pub id: String,
    /// The node that wants it.
    pub proposer: String,
    /// Why.
    pub cause: Cause,
    /// Whether an operator ordered it: then no budget counts.
    pub is_ordered: bool,
    /// The nodes that take part, and the boot of each that it is to end.
    pub boots: BTreeMap<String, String>,
}

/// How far a node is with a reboot, as it tells the others.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It stops what it serves.
    Draining,
    /// All is stopped; it waits for the word to go, or for the others.
    Ready,
    /// There is no way back.
    Committed,
    /// Its system was asked to reboot.
    Rebooting,
    /// It is back, in another boot, and not yet proven to serve.
    Verifying,
}

/// A node's part in a reboot, as it tells the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// Which.
    pub intent: Intent,
    /// How far.
    pub stage: Stage,
    /// Why it takes no part, if it refuses; `stage` means nothing then.
    pub veto: Option<VetoKind>,
}

/// Why a node takes no part in a reboot: few kinds, so that they can be counted.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum VetoKind {
    /// An operator holds or drained it.
    Held,
    /// `reboot.automatic` is false, or there is no way to reboot it.
    NotAllowed,
    /// Its budget is spent, or it booted or was rebooted too lately.
    Budget,
    /// The same cause came back right after a reboot for it.
    Latched,
    /// It might not come back unattended.
    Attended,
    /// It can't save what it would have to remember.
    Ledger,
    /// Its supervisor is ending.
    Ending,
}

/// An automatic reboot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Past {
    /// When, since 1970, for people.
    pub wall_ms: u64,
    /// When, in running time.
    pub running_ms: u64,
    /// The boot that it ended; empty if it stands for what was forgotten.
    pub boot: String,
    /// Its cause's kind.
    pub kind: String,
}

/// Running time over all boots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunningTime {
    /// Of all boots before this one, in milliseconds.
    pub before_ms: u64,
    /// Of this boot, as last written down.
    pub this_boot_ms: u64,
}

/// Whether a reboot is known not to help: the same cause came back right after one, or it could not
/// be done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latch {
    /// The causes that another reboot would not mend; until an operator releases them, or a boot.
    pub kinds: BTreeSet<String>,
}

impl Phase {
    /// One word.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Draining { .. } => "draining",
            Self::Rebooting { .. } => "rebooting",
        }
    }

    /// Why, unless steady.
    pub const fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Steady => None,
            Self::Draining { cause, .. } | Self::Rebooting { cause, .. } => Some(cause),
        }
    }
}

impl Past {
    /// Stands for one that was forgotten: it counts as just done.
    pub const fn unknown(now: Moment) -> Self {
        Self {
            wall_ms: now.wall_ms,
            running_ms: now.boot_ms,
            boot: String::new(),
            kind: String::new(),
        }
    }
}

impl RunningTime {
    /// In another boot.
    pub const fn after_boot(self) -> Self {
        Self { before_ms: self.before_ms.saturating_add(self.this_boot_ms), this_boot_ms: 0 }
    }

    /// Now.
    pub const fn now_ms(&self, now: Moment) -> u64 {
        self.before_ms.saturating_add(now.boot_ms)
    }
}

/// One turn.
pub fn step(
    setup: &Setup,
    state: &mut State,
    seen: &Observation,
    now: Moment,
    actions: &mut Vec<Action>,
) {
    if now.boot_ms.saturating_sub(state.running.this_boot_ms) >= TICK_MS {
        state.running.this_boot_ms = now.boot_ms;
    }
    let causes = causes(state);
    causes.iter().for_each(|cause| latch(setup, state, cause, now));
    let wanted = causes.into_iter().next();
    let any_running = seen.gateway.process.is_running()
        || seen.ranks.iter().any(|rank| rank.process.is_running());
    let next = match (state.reboot.clone(), wanted) {
        (Phase::Steady, Some(cause)) if refusal(setup, state, seen, now, &cause.kind).is_none() => {
            let supervise = &setup.supervise;
            let patience_ms =
                supervise.drain_timeout_ms.saturating_add(supervise.unload_timeout_ms);
            Phase::Draining { cause, deadline_ms: now.boot_ms.saturating_add(patience_ms) }
        }
        // Only until the system was asked: after that there is no way back.
        (Phase::Draining { .. }, None) => Phase::Steady,
        (Phase::Draining { .. }, _) if state.operator.hold.is_some() => Phase::Steady,
        (Phase::Draining { cause, deadline_ms }, _)
            if (!any_running || now.boot_ms >= deadline_ms)
                && refusal(setup, state, seen, now, &cause.kind).is_some() =>
        {
            Phase::Steady
        }
        (Phase::Draining { cause, deadline_ms }, _)
            if !any_running || now.boot_ms >= deadline_ms =>
        {
            state.reboots.push(Past {
                wall_ms: now.wall_ms,
                running_ms: state.running.now_ms(now),
                boot: state.boot.clone(),
                kind: cause.kind.clone(),
            });
            let surplus = state.reboots.len().saturating_sub(HISTORY_MAX);
            state.reboots.drain(..surplus);
            state.running.this_boot_ms = now.boot_ms;
            Phase::Rebooting { cause, since_ms: now.boot_ms }
        }
        (Phase::Rebooting { cause, since_ms }, _)
            if now.boot_ms.saturating_sub(since_ms) >= RETRY_MS * u64::from(ATTEMPTS_MAX) =>
        {
            state.latch.kinds.insert(cause.kind);
            Phase::Steady
        }
        (phase, _) => phase,
    };
    state.reboot = next;
    operator::drain(state, seen, now);
    if let Phase::Rebooting { since_ms, .. } = &state.reboot {
        let attempt = now.boot_ms.saturating_sub(*since_ms) / RETRY_MS;
        let attempt = u32::try_from(attempt).unwrap_or(u32::MAX).min(ATTEMPTS_MAX - 1);
        // It may have been decided long ago, while nothing could be saved.
        let is_assured = judge::unattended_boot(setup, seen, now).is_ok();
        let is_left = state.operator.hold.is_none() && !state.operator.drained;
        if is_assured && is_left {
            actions.push(Action::Reboot { attempt });
        }
    }
}

/// All that a reboot is wanted for now, the most certain first. One that is behind another is still
/// known, so that it is not new when the other is over.
fn causes(state: &State) -> Vec<Cause> {
    let mut causes = Vec::new();
    if let leak::Verdict::Confirmed { unexplained_bytes, .. } = &state.leak {
        let mib = unexplained_bytes >> 20;
        let evidence = format!("{mib} MiB of wired memory are owned by no process");
        causes.push(Cause { kind: "leak".into(), evidence });
    }
    if let gang::Phase::Held { reboot: Some(cause), .. } = &state.gang {
        causes.push(cause.clone());
    }
    causes
}

/// A cause that is back within `latch_ms` of the boot that was to mend it stays refused.
fn latch(setup: &Setup, state: &mut State, cause: &Cause, now: Moment) {
    let previous = state.boots.iter().rev().nth(1);
    let just_done = state
        .reboots
        .last()
        .is_some_and(|past| Some(&past.boot) == previous && past.kind == cause.kind);
    if just_done && now.boot_ms < setup.reboot.latch_ms {
        state.latch.kinds.insert(cause.kind.clone());
    }
}

/// Why an automatic reboot for a cause of this kind is not allowed now.
pub fn refusal(
    setup: &Setup,
    state: &State,
    seen: &Observation,
    now: Moment,
    kind: &str,
) -> Option<String> {
    let reboot = &setup.reboot;
    let recent = recent(state, now);
    let doublings = u32::try_from(recent.saturating_sub(1)).unwrap_or(32).min(32);
    let interval_ms = reboot.interval_min_ms.saturating_mul(1 << doublings);
    let last_ms = state.reboots.last().map(|past| past.running_ms);
    let since_last_ms = last_ms.map(|last| state.running.now_ms(now).saturating_sub(last));
    if !reboot.automatic {
        Some("reboot.automatic is false".into())
    } else if !setup.can_reboot {
        Some("there is no way to reboot this platform: set reboot.command".into())
    } else if state.operator.hold.is_some() {
        Some("an operator holds it (`tandem release`)".into())
    } else if state.operator.drained {
        Some("an operator drained it (`tandem resume`)".into())
    } else if seen.terminations > 0 {
        Some("the supervisor was asked to end".into())
    } else if let Err(why) = judge::unattended_boot(setup, seen, now) {
        Some(format!("it might not come back unattended: {why}"))
    } else if state.latch.kinds.contains(kind) {
        Some(format!("a reboot for the same cause ({kind}) did not mend it, or could not be done"))
    } else if now.boot_ms < reboot.uptime_min_ms {
        Some(format!("it booted less than {} s ago", reboot.uptime_min_ms / 1_000))
    } else if recent >= reboot.per_day_max as usize {
        Some(format!("{recent} automatic reboots in 24 hours are all that [reboot] allows"))
    } else if since_last_ms.is_some_and(|since| recent > 0 && since < interval_ms) {
        Some(format!("the last automatic reboot was less than {} s ago", interval_ms / 1_000))
    } else {
        None
    }
}

/// Automatic reboots in the last 24 hours of running time.
fn recent(state: &State, now: Moment) -> usize {
    let running_ms = state.running.now_ms(now);
    let is_recent = |past: &&Past| running_ms.saturating_sub(past.running_ms) < DAY_MS;
    state.reboots.iter().filter(is_recent).count()
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
    let cause = causes(state).into_iter().next()?;
    let why = refusal(setup, state, seen, now, &cause.kind)?;
    Some((cause, why))
}

/// This node's part in a reboot, as it is told to the others. By what is saved: a promise that was
/// told is never forgotten.
pub const fn told(_state: &State) -> Option<Told> {
    None
}

/// Why this node would take no part now in a reboot that another proposes; `None` if it would. Some
/// cause of its own may still be latched.
pub fn would_veto(
    setup: &Setup,
    state: &State,
    seen: &Observation,
    now: Moment,
) -> Option<VetoKind> {
    if seen.ledger_trouble.is_some() {
        return Some(VetoKind::Ledger);
    }
    refusal(setup, state, seen, now, "").map(|_| VetoKind::Budget)
}

/// What the status shows.
pub fn status(setup: &Setup, state: &State, seen: &Observation, now: Moment) -> RebootStatus {
    let left = (setup.reboot.per_day_max as usize).saturating_sub(recent(state, now));
    let kind = causes(state).into_iter().next().map(|cause| cause.kind).unwrap_or_default();
    RebootStatus {
        phase: state.reboot.name().into(),
        cause: state.reboot.cause().map(|cause| format!("{}: {}", cause.kind, cause.evidence)),
        budget_left: u32::try_from(left).unwrap_or(u32::MAX),
        refused: refusal(setup, state, seen, now, &kind),
        past_wall_ms: state
            .reboots
            .iter()
            .filter(|past| !past.boot.is_empty())
            .map(|past| past.wall_ms)
            .collect(),
    }
}
