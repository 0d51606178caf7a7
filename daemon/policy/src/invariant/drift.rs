//! Meeting drift: when an invariant is mended, and when it is left alone.
//!
//! What people are told (when it drifted, how often) is durable and changes only when an invariant
//! stops to hold or holds again. What is tried to mend it is not: after a crash it is tried anew.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Invariant, Mode, Severity, Sighting,
    judge::{self, Verdict, in_words, judge},
};
use crate::{
    Action, InvariantStatus, Moment, Observation, Repair, Rung, Setup, State,
    fault::{Condition, Kind},
    settings::Host,
};

/// Pause after the first try to mend: what a try sets shows in the next reading, not at once.
const TRY_PAUSE_MIN_MS: u64 = 500;

/// The pause doubles with every try, up to this: something resists, and more haste won't help.
const TRY_PAUSE_MAX_MS: u64 = 60_000;

/// How long something may not hold before it is a fault: most of it is mended sooner, and right
/// after a start not all is read yet.
const FAULT_AFTER_MS: u64 = 10_000;

/// The system gives a link an address of its own some seconds after it comes up; one of ours beside
/// it would be one too many.
const ADDRESS_GRACE_MS: u64 = 10_000;

/// So many tries without effect (over two minutes) call for an operator; they go on nevertheless.
const TRIES_MAX: u32 = 8;

/// One that stopped to hold, or did so lately.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drift {
    /// When it last stopped to hold, since boot.
    pub since_ms: u64,
    /// The same since 1970.
    pub since_wall_ms: u64,
    /// What was found then.
    pub found: String,
    /// What was wanted.
    pub wanted: String,
    /// When it held again, since boot; `None` while it does not.
    pub held_ms: Option<u64>,
    /// How often it drifted in this boot; while it is left alone this is not counted.
    pub count: u32,
    /// When, since boot, within the flap window before the last time.
    pub recent_ms: Vec<u64>,
    /// Left alone until then, since boot, because it flapped.
    pub paused_until_ms: Option<u64>,
}

/// What is tried to mend one. Lost in a crash, it is tried anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mending {
    /// How often it was tried since it last held.
    pub tries: u32,
    /// When it was last tried, since boot; `None` before the first try.
    pub tried_ms: Option<u64>,
    /// Not tried again before, since boot.
    pub next_try_ms: u64,
    /// Whether nothing but time keeps it from being tried.
    pub is_waiting: bool,
    /// Since when it is not known to hold, since boot; `None` if there is nothing to hold.
    pub unheld_since_ms: Option<u64>,
}

impl Drift {
    /// Whether it is left alone now.
    pub fn is_paused(&self, now: Moment) -> bool {
        self.paused_until_ms.is_some_and(|until_ms| now.boot_ms < until_ms)
    }
}

/// One turn over all invariants.
pub fn step(
    setup: &Setup,
    state: &mut State,
    seen: &Observation,
    now: Moment,
    actions: &mut Vec<Action>,
) {
    let is_held = state.operator.hold.is_some();
    for invariant in Invariant::ALL {
        let sighting = seen.invariants.get(&invariant);
        let verdict = judge(setup, invariant, sighting, now);
        record(&setup.host, &mut state.drifts, invariant, &verdict, now);
        let is_paused = state.drifts.get(&invariant).is_some_and(|drift| drift.is_paused(now));
        let turn = Turn { invariant, sighting, is_left_alone: is_held || is_paused, now };
        actions.extend(turn.mend(&mut state.scratch.mends, &verdict).map(Action::Mend));
    }
}

/// Those that keep the engine from starting, with the reason in words.
pub fn blocking(setup: &Setup, seen: &Observation, now: Moment) -> Vec<(Invariant, String)> {
    let trouble = |invariant| {
        let verdict = judge(setup, invariant, seen.invariants.get(&invariant), now);
        verdict.trouble(invariant).map(|text| (invariant, text))
    };
    enforced(setup).filter(|i| i.row().severity == Severity::Blocks).filter_map(trouble).collect()
}

/// What is wrong: enforced invariants that did not hold for a while, or that flap. While one is left
/// alone it only flaps, whatever is seen, so that the fault does not flap with it.
pub fn conditions(setup: &Setup, state: &State, seen: &Observation, now: Moment) -> Vec<Condition> {
    let condition = |invariant| match state.drifts.get(&invariant) {
        Some(drift) if drift.is_paused(now) => Some(flapping(setup, invariant, drift)),
        drift => {
            let verdict = judge(setup, invariant, seen.invariants.get(&invariant), now);
            let mending = state.scratch.mends.get(&invariant);
            let drift = drift.filter(|drift| drift.held_ms.is_none());
            let since_ms = [drift.map(|d| d.since_ms), mending.and_then(|m| m.unheld_since_ms)];
            let since_ms = since_ms.into_iter().flatten().min()?;
            let is_fault = now.boot_ms.saturating_sub(since_ms) > FAULT_AFTER_MS;
            if is_fault { broken(invariant, &verdict, drift, mending) } else { None }
        }
    };
    enforced(setup).filter_map(condition).collect()
}

/// What the status shows: every invariant, in the order of [`Invariant::ALL`].
pub fn status(
    setup: &Setup,
    state: &State,
    seen: &Observation,
    now: Moment,
) -> Vec<InvariantStatus> {
    let row = |invariant: Invariant| {
        let row = invariant.row();
        let sighting = seen.invariants.get(&invariant);
        let (holds, unknown) = match judge(setup, invariant, sighting, now) {
            Verdict::Holds { .. } => (Some(true), None),
            Verdict::Broken { .. } => (Some(false), None),
            Verdict::Unknown(unknown) => (None, Some(unknown)),
        };
        let found = judge::fresh(setup, invariant, sighting, now).ok().cloned();
        let source = match sighting {
            Some(Sighting::Known { source, .. }) if found.is_some() => Some(source.clone()),
            _ => None,
        };
        let drift = state.drifts.get(&invariant);
        InvariantStatus {
            name: invariant,
            mode: setup.invariants.mode(invariant),
            severity: row.severity,
            holds,
            wanted: judge::wanted(setup, invariant),
            found,
            source,
            unknown,
            last_drift_wall_ms: drift.map(|drift| drift.since_wall_ms),
            drifts: drift.map_or(0, |drift| drift.count),
            remedy: row.remedy.into(),
        }
    };
    Invariant::ALL.map(row).into()
}

/// When something is to happen even if nothing is observed, since boot: the next try, or the end of
/// a pause.
pub fn next_deadline_ms(state: &State) -> Option<u64> {
    let waiting = state.scratch.mends.values().filter(|mending| mending.is_waiting);
    let tries = waiting.map(|mending| mending.next_try_ms);
    tries.chain(state.drifts.values().filter_map(|drift| drift.paused_until_ms)).min()
}

fn enforced(setup: &Setup) -> impl Iterator<Item = Invariant> {
    Invariant::ALL.into_iter().filter(|i| setup.invariants.mode(*i) == Mode::Enforce)
}

/// Remembers that it stopped to hold or holds again. All that is seen during a pause is passed over:
/// a link that flaps ten times a second would have the state saved as often.
fn record(
    host: &Host,
    drifts: &mut BTreeMap<Invariant, Drift>,
    invariant: Invariant,
    verdict: &Verdict,
    now: Moment,
) {
    if let Some(drift) = drifts.get_mut(&invariant) {
        if drift.is_paused(now) {
            return;
        }
        drift.paused_until_ms = None;
    }
    match (verdict, drifts.get_mut(&invariant)) {
        (Verdict::Holds { .. }, Some(drift)) => {
            drift.held_ms.get_or_insert(now.boot_ms);
        }
        (Verdict::Broken { .. }, Some(Drift { held_ms: None, .. })) => {}
        (Verdict::Broken { found, wanted, .. }, before) => {
            let mut recent_ms = before.as_ref().map_or_else(Vec::new, |b| b.recent_ms.clone());
            recent_ms.retain(|at_ms| now.boot_ms.saturating_sub(*at_ms) < host.flap_window_ms);
            recent_ms.push(now.boot_ms);
            let flaps = recent_ms.len() > usize::try_from(host.flap_max).unwrap_or(usize::MAX);
            let drift = Drift {
                since_ms: now.boot_ms,
                since_wall_ms: now.wall_ms,
                found: in_words(invariant, found),
                wanted: wanted.clone(),
                held_ms: None,
                count: before.map_or(0, |before| before.count).saturating_add(1),
                recent_ms,
                paused_until_ms: flaps.then(|| now.boot_ms.saturating_add(host.flap_window_ms)),
            };
            drifts.insert(invariant, drift);
        }
        _ => {}
    }
}

/// One invariant in one turn.
struct Turn<'a> {
    invariant: Invariant,
    sighting: Option<&'a Sighting>,
    /// An operator holds it, or it is paused.
    is_left_alone: bool,
    now: Moment,
}

impl Turn<'_> {
    /// What is to be set now, if anything. Only holding again makes the next try an early one: what
    /// becomes unknown in between has not been mended.
    fn mend(&self, mends: &mut BTreeMap<Invariant, Mending>, verdict: &Verdict) -> Option<Repair> {
        let repair = match verdict {
            Verdict::Holds { .. } => {
                mends.remove(&self.invariant);
                return None;
            }
            Verdict::Broken { repair, .. } => repair.clone(),
            Verdict::Unknown(_) => None,
        };
        let now_ms = self.now.boot_ms;
        let mending = mends.entry(self.invariant).or_default();
        mending.unheld_since_ms = match mending.unheld_since_ms {
            _ if verdict.is_accepted() => None,
            since_ms => since_ms.or(Some(now_ms)),
        };
        let can_try = repair.is_some() && !self.is_left_alone && self.has_news(mending);
        if mending.tries == 0 && can_try && self.invariant == Invariant::LinkAddress {
            let grace_ms =
                mending.unheld_since_ms.unwrap_or(now_ms).saturating_add(ADDRESS_GRACE_MS);
            mending.next_try_ms = mending.next_try_ms.max(grace_ms);
        }
        mending.is_waiting = can_try;
        if !can_try || now_ms < mending.next_try_ms {
            return None;
        }
        mending.tries = mending.tries.saturating_add(1);
        mending.tried_ms = Some(now_ms);
        mending.next_try_ms = now_ms.saturating_add(pause_ms(mending.tries));
        // What starts a tool is read rarely: the next try waits for its next reading.
        mending.is_waiting = !self.invariant.row().is_slow;
        repair
    }

    /// Whether the last try is known to have had no effect. What is read often will be before the
    /// next try; what is read rarely may hold already, so only a reading after the try tells.
    fn has_news(&self, mending: &Mending) -> bool {
        match (self.sighting, mending.tried_ms) {
            (Some(Sighting::Known { at_ms, .. }), Some(tried_ms)) => {
                !self.invariant.row().is_slow || *at_ms > tried_ms
            }
            _ => true,
        }
    }
}

fn pause_ms(tries: u32) -> u64 {
    // 2^7 of the least pause is more than the most.
    let doublings = tries.saturating_sub(1).min(7);
    TRY_PAUSE_MIN_MS.saturating_mul(1 << doublings).min(TRY_PAUSE_MAX_MS)
}

/// Evidence that stays the same while the fault lasts: it is kept in the state.
fn broken(
    invariant: Invariant,
    verdict: &Verdict,
    drift: Option<&Drift>,
    mending: Option<&Mending>,
) -> Option<Condition> {
    let row = invariant.row();
    let evidence = match (verdict, drift) {
        (Verdict::Broken { wanted, .. }, Some(drift)) => {
            format!("{} is {}, must be {wanted}", row.name, drift.found)
        }
        _ => verdict.trouble(invariant)?,
    };
    let is_mended = matches!(verdict, Verdict::Broken { repair: Some(_), .. });
    let rung = if is_mended && mending.is_none_or(|mending| mending.tries < TRIES_MAX) {
        Rung::Reassert
    } else if is_mended || row.severity == Severity::Blocks {
        Rung::Hold
    } else {
        Rung::None
    };
    Some(Condition { kind: Kind::Broken(invariant), evidence, rung, remedy: row.remedy.into() })
}

fn flapping(setup: &Setup, invariant: Invariant, drift: &Drift) -> Condition {
    let row = invariant.row();
    let window_s = setup.host.flap_window_ms / 1_000;
    Condition {
        kind: Kind::Flapping(invariant),
        evidence: format!(
            "{} stopped to hold {} times within {window_s} s, last as {}; it is left alone for as \
             long",
            row.name,
            drift.recent_ms.len(),
            drift.found,
        ),
        rung: Rung::None,
        remedy: format!("Find what keeps changing it, then: {}", row.remedy),
    }
}

#[cfg(test)]
mod tests;
