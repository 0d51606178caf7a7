//! Leaked wired memory: wired by an engine that is gone, and lost until a reboot.
//!
//! ```text
//! unexplained = wired - baseline - sum of the footprints of live owners      (never below 0)
//! leaked      = no rank runs or is about to, for settle_ms
//!               and unexplained > max(threshold_mib, threshold_percent of all memory)
//!               in `samples` samples in a row, which differ by no more than spread_mib
//!
//! Clear ──above──▶ Watching ──leaked──▶ Suspect ──a crash, or confirm_after_ms──▶ Confirmed
//!   ▲  ◀──not above──┘                     │                                          │
//!   └──────────────── at most half of the threshold ──────────────────────────────────┘
//! ```
//!
//! Why footprints: in XNU's accounting a process's `wired_mem` ledger, which `ri_wired_size` shows,
//! has only pages that its own map wires. What a driver wires for the GPU is not in it, but is in
//! the owner's `phys_footprint`, wired or not (`vm_object_ledger_tag_ledgers`). When the owner
//! exits, objects that a driver still holds are booked on `kernel_task` (`vm_owned_objects_disown`).
//! A footprint is thus the most that a live process can have wired. A large process that wires
//! nothing can hide a leak that way: the owners are told with the verdict.
//!
//! Why the conditions: memory of an engine that loads ramps, that of one that unloads goes within
//! seconds, and a process that only looks stopped still has its footprint. A leak is flat and stays.
//!
//! The baseline is the least that was wired without an owner in this boot before any epoch was
//! started, else that of an earlier boot of this host. A sample that is above the known baseline by
//! more than the threshold teaches nothing: the supervisor's memory can be lost within a boot, after
//! a leak. Too low a baseline, as of a first sample early in a boot, errs by some GiB towards an
//! alarm, which the threshold absorbs.
//!
//! Memory that is not known keeps the verdict: it neither accuses nor clears.

mod rule;
#[cfg(test)]
pub(crate) mod scene;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::{
    Memory, Moment, Observation, Process, Rung, Setup, State,
    fault::{Condition, Kind},
    gang,
};

pub(crate) use rule::{age_ms_max, known, mib};
pub use rule::{baseline_bytes, threshold_bytes, unexplained_bytes};

/// Least change of the baseline that is remembered, in bytes: each is written to disk, and less than
/// this means nothing beside a threshold of GiB.
const BASELINE_STEP_BYTES: u64 = mib(64);

/// Most samples that a verdict can ask for: over an hour of them at the usual period.
const SAMPLES_MAX: usize = 1_000;

/// Most live owners that are named with a verdict.
const OWNERS_TOLD: usize = 5;

/// Wired memory of this host without an engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// The boot it was learned in.
    pub boot: String,
    /// All memory of the host then, in bytes: another host's baseline means nothing.
    pub total_bytes: u64,
    /// In bytes.
    pub wired_bytes: u64,
}

/// Whether wired memory has leaked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing is unexplained.
    Clear,
    /// Too much is unexplained; it is being watched.
    Watching {
        /// Since when, since boot.
        since_ms: u64,
        /// Bytes that nobody alive owns.
        unexplained_bytes: u64,
    },
    /// The rule holds, without evidence of a crash.
    Suspect {
        /// Since when, since boot.
        since_ms: u64,
        /// Bytes that nobody alive owns.
        unexplained_bytes: u64,
    },
    /// The rule holds, and a crash or time confirms it.
    Confirmed {
        /// Since when, since boot.
        since_ms: u64,
        /// Bytes that nobody alive owns.
        unexplained_bytes: u64,
    },
}

/// Samples of unexplained memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Samples {
    /// Unexplained bytes of the last samples in a row above the threshold, oldest first.
    pub unexplained_bytes: Vec<u64>,
    /// When the last sample was taken, since boot.
    pub last_ms: Option<u64>,
    /// What the verdict stood on when it last changed.
    pub grounds: Option<Grounds>,
}

/// What a verdict stands on. Kept from when the verdict last changed, so that what is told of it
/// does not change with every sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grounds {
    /// Unexplained bytes above which memory counts as leaked.
    pub threshold_bytes: u64,
    /// Wired bytes without an engine.
    pub baseline_bytes: u64,
    /// The largest live owners, in words.
    pub owners: String,
}

impl Verdict {
    /// One word.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Clear => "clear",
            Self::Watching { .. } => "watching",
            Self::Suspect { .. } => "suspect",
            Self::Confirmed { .. } => "confirmed",
        }
    }

    /// Bytes that nobody alive owns; 0 when clear.
    pub const fn unexplained_bytes(&self) -> u64 {
        match self {
            Self::Clear => 0,
            Self::Watching { unexplained_bytes, .. }
            | Self::Suspect { unexplained_bytes, .. }
            | Self::Confirmed { unexplained_bytes, .. } => *unexplained_bytes,
        }
    }

    /// The same with another figure, if it is another: less than what a flat row may differ by is
    /// not, since every change is written to disk.
    fn refreshed(mut self, setup: &Setup, bytes: u64) -> Self {
        let step = mib(setup.leak.spread_mib).max(BASELINE_STEP_BYTES);
        if let Self::Watching { unexplained_bytes, .. }
        | Self::Suspect { unexplained_bytes, .. }
        | Self::Confirmed { unexplained_bytes, .. } = &mut self
            && unexplained_bytes.abs_diff(bytes) > step
        {
            *unexplained_bytes = bytes;
        }
        self
    }
}

/// One turn.
pub fn step(setup: &Setup, state: &mut State, seen: &Observation, now: Moment) {
    let memory = known(setup, seen, now);
    if let (None, Some(memory)) = (&state.scratch.leak.grounds, memory) {
        state.scratch.leak.grounds = Some(Grounds::of(setup, state, memory));
    }
    if seen.ranks.iter().any(|rank| rank.process.is_running()) {
        // What runs explains what is wired; watching begins anew when it is gone.
        state.scratch.absent_since_ms = None;
        state.scratch.leak.unexplained_bytes.clear();
        if matches!(state.leak, Verdict::Watching { .. }) {
            state.leak = Verdict::Clear;
        }
        return;
    }
    let absent_since_ms = *state.scratch.absent_since_ms.get_or_insert(now.boot_ms);
    let Some(memory) = memory else { return };
    learn(setup, state, seen, memory);
    let settled_ms = absent_since_ms.saturating_add(setup.leak.settle_ms);
    if is_active(&state.gang) || memory.at_ms < settled_ms {
        state.scratch.leak.unexplained_bytes.clear();
        return;
    }
    let judged = match take_sample(setup, state, memory) {
        Some(unexplained_bytes) => judge(setup, state, memory, unexplained_bytes, now),
        None => state.leak.clone(),
    };
    let next = match (&state.leak, judged) {
        (Verdict::Suspect { .. }, Verdict::Suspect { since_ms, unexplained_bytes })
            if is_confirmed(setup, state, since_ms, now) =>
        {
            Verdict::Confirmed { since_ms: now.boot_ms, unexplained_bytes }
        }
        (_, judged) => judged,
    };
    if next != state.leak {
        state.scratch.leak.grounds = Some(Grounds::of(setup, state, memory));
        state.leak = next;
    }
}

/// What is wrong, in words that change only when the verdict does.
pub fn conditions(_setup: &Setup, state: &State, _seen: &Observation) -> Vec<Condition> {
    let (kind, rung, remedy) = match &state.leak {
        Verdict::Clear | Verdict::Watching { .. } => return Vec::new(),
        Verdict::Suspect { .. } => (
            Kind::LeakSuspected,
            Rung::None,
            "look for a stopped or hidden process that still holds memory (`ps -axo pid,rss,comm`, \
             `sudo footprint -a`) and end it in order; if there is none, reboot when it suits. If \
             this host is right as it is, raise leak.threshold_mib",
        ),
        Verdict::Confirmed { .. } => (
            Kind::LeakConfirmed,
            Rung::Reboot,
            "only a reboot gives the memory back: allow it (`tandem release`, reboot.automatic) or \
             reboot by hand",
        ),
    };
    let mut evidence = format!(
        "{} MiB of wired memory are owned by no live process",
        state.leak.unexplained_bytes() >> 20
    );
    if let Some(grounds) = &state.scratch.leak.grounds {
        evidence.push_str(&format!(
            " (threshold {} MiB, baseline {} MiB; live owners: {})",
            grounds.threshold_bytes >> 20,
            grounds.baseline_bytes >> 20,
            grounds.owners
        ));
    }
    vec![Condition { kind, evidence, rung, remedy: remedy.into() }]
}

impl Grounds {
    fn of(setup: &Setup, state: &State, memory: &Memory) -> Self {
        let told = memory.owners.iter().filter(|owner| owner.pid != 0).take(OWNERS_TOLD);
        let told: Vec<String> = told
            .map(|o| format!("{} (pid {}) {} MiB", o.name, o.pid, o.footprint_bytes >> 20))
            .collect();
        Self {
            threshold_bytes: threshold_bytes(setup, memory.total_bytes),
            baseline_bytes: baseline_bytes(state, memory.total_bytes),
            owners: if told.is_empty() { "none".into() } else { told.join(", ") },
        }
    }
}

/// Whether ranks run, did a moment ago or are about to, by what was decided.
const fn is_active(gang: &gang::Phase) -> bool {
    use gang::Phase;
    matches!(gang, Phase::Starting { .. } | Phase::Serving | Phase::Stopping { .. })
}

/// Learns the baseline while no engine has touched this boot. A rank that ended is one that ran,
/// even if the memory of its start was lost.
fn learn(setup: &Setup, state: &mut State, seen: &Observation, memory: &Memory) {
    let never_ran = seen.ranks.iter().all(|rank| rank.process == Process::Never);
    if state.starts_in_boot > 0 || state.crashed_in_boot || !never_ran || is_active(&state.gang) {
        return;
    }
    let wired_bytes = rule::ownerless_bytes(memory);
    let known_bytes = baseline_bytes(state, memory.total_bytes);
    let threshold = threshold_bytes(setup, memory.total_bytes);
    if wired_bytes > known_bytes.saturating_add(threshold) {
        return;
    }
    if let Some(known) = &state.baseline {
        let is_ours = known.boot == state.boot && known.total_bytes == memory.total_bytes;
        if is_ours && wired_bytes.saturating_add(BASELINE_STEP_BYTES) > known.wired_bytes {
            return;
        }
    }
    let (boot, total_bytes) = (state.boot.clone(), memory.total_bytes);
    state.baseline = Some(Baseline { boot, total_bytes, wired_bytes });
}

/// Unexplained bytes of a sample that was not taken before and is not too near to the last one.
fn take_sample(setup: &Setup, state: &mut State, memory: &Memory) -> Option<u64> {
    let unexplained = unexplained_bytes(state, memory);
    let is_above = unexplained > threshold_bytes(setup, memory.total_bytes);
    let samples = &mut state.scratch.leak;
    if let Some(last_ms) = samples.last_ms {
        let pause_ms = memory.at_ms.saturating_sub(last_ms);
        if pause_ms < setup.leak.sample_ms.max(1) {
            return None;
        }
        if pause_ms > rule::age_ms_max(setup) {
            // Samples with a gap between them are not in a row.
            samples.unexplained_bytes.clear();
        }
    }
    samples.last_ms = Some(memory.at_ms);
    if is_above {
        let over = (samples.unexplained_bytes.len() + 1).saturating_sub(samples_needed(setup));
        samples.unexplained_bytes.drain(..over.min(samples.unexplained_bytes.len()));
        samples.unexplained_bytes.push(unexplained);
    } else {
        samples.unexplained_bytes.clear();
    }
    Some(unexplained)
}

fn samples_needed(setup: &Setup) -> usize {
    (setup.leak.samples as usize).clamp(1, SAMPLES_MAX)
}

/// The verdict after a new sample.
fn judge(setup: &Setup, state: &State, memory: &Memory, unexplained: u64, now: Moment) -> Verdict {
    let threshold = threshold_bytes(setup, memory.total_bytes);
    let (since_ms, unexplained_bytes) = (now.boot_ms, unexplained);
    match &state.leak {
        Verdict::Clear if unexplained > threshold => {
            Verdict::Watching { since_ms, unexplained_bytes }
        }
        // Nothing was concluded yet, so nothing is to be unlearned slowly.
        Verdict::Watching { .. } if unexplained <= threshold => Verdict::Clear,
        Verdict::Watching { .. } if is_flat(setup, &state.scratch.leak) => {
            Verdict::Suspect { since_ms, unexplained_bytes }
        }
        Verdict::Suspect { .. } | Verdict::Confirmed { .. } if unexplained <= threshold / 2 => {
            Verdict::Clear
        }
        verdict => verdict.clone().refreshed(setup, unexplained),
    }
}

/// Whether there are enough samples in a row and they agree.
fn is_flat(setup: &Setup, samples: &Samples) -> bool {
    let row = &samples.unexplained_bytes;
    match (row.iter().max(), row.iter().min()) {
        (Some(most), Some(least)) => {
            row.len() >= samples_needed(setup) && most - least <= mib(setup.leak.spread_mib)
        }
        _ => false,
    }
}

/// Whether a suspicion that nothing cleared is confirmed: by evidence of a crash, or by time.
fn is_confirmed(setup: &Setup, state: &State, since_ms: u64, now: Moment) -> bool {
    let crashed = state.crashed_in_boot || !state.suspected_leaks.is_empty();
    crashed || now.boot_ms.saturating_sub(since_ms) >= setup.leak.confirm_after_ms
}
