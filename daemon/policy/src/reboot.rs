//! Reboots: of this machine alone, or of several together. The last rung before an operator.
//!
//! ```text
//!            wanted and allowed        all agree and        all are ready, or did
//!            by all, or another's      all is stopped       what "committed" means
//!   Steady ──────────────────▶ Draining ─────────▶ Ready ─────────▶ Committed
//!     ▲                           │                  │                  │ all know it, or 5 s
//!     ├──── withdrawn, vetoed, held, or too late ◀───┘                  ▼
//!     ├──────────────── it did not happen ◀─────────────────────── Rebooting ─┐ asked again,
//!     │                                                                 │  ▲  │ harder each
//!     └── tokens came, or too late ◀── Verifying ◀──── another boot ◀───┘  └──┘ time
//! ```
//!
//! The node that wants it proposes an [`Intent`]: the nodes that it hears, and the boot of each that
//! is to end. Every node tells its own part, by what it saved, until it is over, so nothing is lost
//! with a message. A node that told `Ready` has promised: it goes when the proposer has committed,
//! or is found in another boot, whichever it hears of. Before that each may drop out, and a silent
//! proposer is not waited for for ever. Of proposals at the same time the one of the first node of
//! the config counts; the others take it over. A reboot of one node alone is the same with nobody to
//! agree, and goes from stopped to rebooting in one turn.
//!
//! All that limits reboots counts running time, the sum of the uptime of all boots: a clock that
//! jumps neither brings a reboot nearer nor keeps it away. A power cut loses at most
//! ten minutes of it, which errs towards fewer reboots.

pub mod cause;
mod course;
mod heard;
mod limits;
mod memory;
mod propose;
mod tell;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Action, Moment, Observation, Setup, State, canary, invariant::judge, operator};

pub use heard::Ears;
pub use limits::{refusal, would_veto};
pub use memory::{CLOSED_MAX, Closed, Memory, Order, Outcome};
pub(crate) use tell::{conditions, status};
pub use tell::{refused, told};

/// Most past reboots remembered; more than [`PER_DAY_MAX`].
pub const HISTORY_MAX: usize = 32;

/// Most that `reboot.per_day_max` can be.
pub const PER_DAY_MAX: usize = 24;

/// How often running time is written down.
const TICK_MS: u64 = 600_000;

/// Pause between two tries to make the system reboot. A clean reboot takes the machine down within
/// seconds; a stuck one may need harder means.
const RETRY_MS: u64 = 120_000;

/// Most tries. The last is the hardest that there is, so more would change nothing.
const ATTEMPTS_MAX: u32 = 3;

/// Where a reboot is. Its times are in milliseconds since boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum Phase {
    /// None is on its way.
    Steady,
    /// Gateway and ranks are being stopped.
    Draining {
        /// Which.
        intent: Intent,
        /// Whether all who take part are known to; the proposer stops nothing before.
        is_agreed: bool,
        /// When it is done whatever still runs; given up if it is not agreed by then.
        deadline_ms: u64,
    },
    /// All is stopped here.
    Ready {
        /// Which.
        intent: Intent,
        /// Since when.
        since_ms: u64,
    },
    /// There is no way back; the others may not know yet.
    Committed {
        /// Which.
        intent: Intent,
        /// Since when.
        since_ms: u64,
    },
    /// The system was asked to reboot.
    Rebooting {
        /// Which.
        intent: Intent,
        /// When it was first asked, or nobody stopped that any more.
        since_ms: u64,
    },
    /// This is another boot. It is over when tokens come and nobody is still on its way.
    Verifying {
        /// Which.
        intent: Intent,
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
    /// Whether there is no way back.
    pub(crate) const fn is_committed(&self) -> bool {
        matches!(self, Self::Committed { .. } | Self::Rebooting { .. })
    }

    /// Whether all is stopped here, so that others may count on this node.
    pub(crate) const fn is_promised(&self) -> bool {
        matches!(self, Self::Ready { .. })
    }

    /// One word.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Draining { .. } => "draining",
            Self::Ready { .. } => "ready",
            Self::Committed { .. } => "committed",
            Self::Rebooting { .. } => "rebooting",
            Self::Verifying { .. } => "verifying",
        }
    }

    /// Which reboot, unless steady.
    pub const fn intent(&self) -> Option<&Intent> {
        match self {
            Self::Steady => None,
            Self::Draining { intent, .. }
            | Self::Ready { intent, .. }
            | Self::Committed { intent, .. }
            | Self::Rebooting { intent, .. }
            | Self::Verifying { intent } => Some(intent),
        }
    }

    /// Why, unless steady.
    pub fn cause(&self) -> Option<&Cause> {
        self.intent().map(|intent| &intent.cause)
    }

    /// How far, as others are told; `None` while steady.
    pub const fn stage(&self) -> Option<Stage> {
        match self {
            Self::Steady => None,
            Self::Draining { .. } => Some(Stage::Draining),
            Self::Ready { .. } => Some(Stage::Ready),
            Self::Committed { .. } => Some(Stage::Committed),
            Self::Rebooting { .. } => Some(Stage::Rebooting),
            Self::Verifying { .. } => Some(Stage::Verifying),
        }
    }

    /// Whether gateway and ranks are to be stopped for it.
    pub const fn stops(&self) -> bool {
        match self {
            Self::Steady | Self::Verifying { .. } => false,
            Self::Draining { is_agreed, .. } => *is_agreed,
            Self::Ready { .. } | Self::Committed { .. } | Self::Rebooting { .. } => true,
        }
    }

    /// What a supervisor in another boot goes on with. Even if nobody is known to have committed:
    /// others that were ready take the changed boot for a commit.
    pub(crate) fn after_boot(self) -> Self {
        match self {
            Self::Steady => Self::Steady,
            Self::Draining { intent, .. } | Self::Ready { intent, .. }
                if intent.boots.len() < 2 =>
            {
                Self::Steady
            }
            Self::Draining { intent, .. }
            | Self::Ready { intent, .. }
            | Self::Committed { intent, .. }
            | Self::Rebooting { intent, .. }
            | Self::Verifying { intent } => Self::Verifying { intent },
        }
    }
}

impl Intent {
    /// Whether this node made it.
    fn is_own(&self, setup: &Setup) -> bool {
        self.proposer == setup.node
    }

    /// The other nodes that take part, and the boot of each that is to end.
    fn others<'a>(&'a self, setup: &'a Setup) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.boots
            .iter()
            .filter(|(node, _)| **node != setup.node)
            .map(|(node, boot)| (node.as_str(), boot.as_str()))
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

/// No person stops a reboot any more. The system was not asked meanwhile, so it has all of its time to
/// do it from now on: one that is given up and comes nevertheless would meet whatever else began.
pub(crate) const fn ask_anew(state: &mut State, now: Moment) {
    if let Phase::Rebooting { since_ms, .. } = &mut state.reboot {
        *since_ms = now.boot_ms;
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
    state.reboot_memory.forget_order(now);
    if canary::is_proven(setup, state, now) {
        state.reboot_memory.trouble = None;
    }
    heard::listen(setup, state, seen, now);
    limits::latch(setup, state, now);
    course::step(setup, state, seen, now);
    state.reboot_memory.veto = heard::veto(setup, state, seen, now);
    operator::drain(state, seen, now);
    if let Phase::Rebooting { since_ms, .. } = &state.reboot {
        let attempt = now.boot_ms.saturating_sub(*since_ms) / RETRY_MS;
        let attempt = u32::try_from(attempt).unwrap_or(u32::MAX).min(ATTEMPTS_MAX - 1);
        // It may have been decided long ago, while nothing could be saved.
        let is_assured = judge::unattended_boot(setup, seen, now).is_ok();
        let is_left = !state.operator.stops_reboots();
        if is_assured && is_left {
            actions.push(Action::Reboot { attempt });
        }
    }
}
