//! What a reboot is refused for: holds, budgets, and whatever could keep the machine from coming
//! back.

use super::{Intent, Past, VetoKind, propose};
use crate::{Moment, Observation, Setup, State, invariant::judge};

/// The window of the budget, in running time.
const DAY_MS: u64 = 86_400_000;

/// Why a reboot is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// As others are told.
    pub kind: VetoKind,
    /// In words.
    pub text: String,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// The cause's kind; empty for no particular one.
    pub kind: &'a str,
    /// Whether an operator ordered it.
    pub is_ordered: bool,
}

impl<'a> Asked<'a> {
    /// By an intent.
    pub(super) const fn of(intent: &'a Intent) -> Self {
        Self { kind: intent.cause.kind.as_str(), is_ordered: intent.is_ordered }
    }
}

impl VetoKind {
    /// In words.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Held => "an operator holds or drained it",
            Self::NotAllowed => "its config or its platform does not allow it",
            Self::Budget => "its budget is spent, or it booted lately",
            Self::Latched => "a reboot for the same cause did not help",
            Self::Attended => "it might not come back unattended",
            Self::Ledger => "it can't save its state",
            Self::Ending => "its supervisor is ending",
        }
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
    let asked = Asked { kind, is_ordered: false };
    refuse(setup, state, seen, now, asked).map(|refusal| refusal.text)
}

/// Why this node would take no part now in a reboot that another proposes; `None` if it would. A
/// cause that is latched here is only met when it is proposed.
pub fn would_veto(
    setup: &Setup,
    state: &State,
    seen: &Observation,
    now: Moment,
) -> Option<VetoKind> {
    veto(setup, state, seen, now, Asked { kind: "", is_ordered: false })
}

/// Why this node takes no part in another's reboot. It must be able to remember what it promises.
pub(super) fn veto(
    setup: &Setup,
    state: &State,
    seen: &Observation,
    now: Moment,
    asked: Asked<'_>,
) -> Option<VetoKind> {
    if seen.ledger_trouble.is_some() {
        return Some(VetoKind::Ledger);
    }
    refuse(setup, state, seen, now, asked).map(|refusal| refusal.kind)
}

/// Why this node does not reboot. What an order does not overrule comes first.
pub(super) fn refuse(
    setup: &Setup,
    state: &State,
    seen: &Observation,
    now: Moment,
    asked: Asked<'_>,
) -> Option<Refusal> {
    let refusal = |kind, text: String| Some(Refusal { kind, text });
    if !setup.can_reboot {
        let text = "there is no way to reboot this platform: set reboot.command";
        refusal(VetoKind::NotAllowed, text.into())
    } else if let Some(found) = stopped_by_a_person(state, seen) {
        Some(found)
    } else if let Err(why) = judge::unattended_boot(setup, seen, now) {
        refusal(VetoKind::Attended, format!("it might not come back unattended: {why}"))
    } else if asked.is_ordered {
        None
    } else if !setup.reboot.automatic {
        refusal(VetoKind::NotAllowed, "reboot.automatic is false".into())
    } else if state.latch.kinds.contains(asked.kind) {
        let kind = asked.kind;
        let text =
            format!("a reboot for the same cause ({kind}) did not mend it, or could not be done");
        refusal(VetoKind::Latched, text)
    } else {
        over_budget(setup, state, now).and_then(|text| refusal(VetoKind::Budget, text))
    }
}

/// What a person decided: it counts in every turn until there is no way back.
pub(super) fn stopped_by_a_person(state: &State, seen: &Observation) -> Option<Refusal> {
    let refusal = |kind, text: &str| Some(Refusal { kind, text: text.into() });
    if state.operator.hold.is_some() {
        refusal(VetoKind::Held, "an operator holds it (`tandem release`)")
    } else if state.operator.drained {
        refusal(VetoKind::Held, "an operator drained it (`tandem resume`)")
    } else if seen.terminations > 0 {
        refusal(VetoKind::Ending, "the supervisor was asked to end")
    } else {
        None
    }
}

fn over_budget(setup: &Setup, state: &State, now: Moment) -> Option<String> {
    let reboot = &setup.reboot;
    let recent = recent(state, now);
    let doublings = u32::try_from(recent.saturating_sub(1)).unwrap_or(32).min(32);
    let interval_ms = reboot.interval_min_ms.saturating_mul(1 << doublings);
    let last_ms = state.reboots.last().map(|past| past.running_ms);
    let since_last_ms = last_ms.map(|last| state.running.now_ms(now).saturating_sub(last));
    if now.boot_ms < reboot.uptime_min_ms {
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
pub(super) fn recent(state: &State, now: Moment) -> usize {
    let running_ms = state.running.now_ms(now);
    let is_recent = |past: &&Past| running_ms.saturating_sub(past.running_ms) < DAY_MS;
    state.reboots.iter().filter(is_recent).count()
}

/// A cause that is back within `latch_ms` of the boot that was to mend it stays refused.
pub(super) fn latch(setup: &Setup, state: &mut State, now: Moment) {
    if now.boot_ms >= setup.reboot.latch_ms {
        return;
    }
    for cause in propose::faults(state) {
        let previous = state.boots.iter().rev().nth(1);
        let just_done = state
            .reboots
            .last()
            .is_some_and(|past| Some(&past.boot) == previous && past.kind == cause.kind);
        if just_done {
            state.latch.kinds.insert(cause.kind.clone());
        }
    }
}
