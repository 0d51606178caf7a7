//! The sums of the rule: what is wired, what explains it, and how much is too much.

use crate::{Memory, Moment, Observation, Setup, State};

/// Baseline of a host that was never seen without an engine, in percent of its memory. Clean 512 GB
/// machines wire 5 to 6 GiB, 1.2 %, and the kernel's tables grow with memory, so 2 % is above what
/// is normal and far below any threshold. It is the safe side: what is wired now may be the leak.
pub(super) const ASSUMED_BASELINE_PERCENT: u64 = 2;

/// How long a sample may be overdue beyond three periods, in milliseconds: a reader that is slow
/// once, on a host that swaps, is not a reader that is gone.
const STALE_SLACK_MS: u64 = 10_000;

/// Oldest sample that still counts, in milliseconds.
pub(crate) const fn age_ms_max(setup: &Setup) -> u64 {
    setup.leak.sample_ms.saturating_mul(3).saturating_add(STALE_SLACK_MS)
}

/// The host's memory, if it is known and not too old to mean anything.
pub(crate) fn known<'a>(setup: &Setup, seen: &'a Observation, now: Moment) -> Option<&'a Memory> {
    let memory = seen.memory.as_ref()?;
    let age_ms = now.boot_ms.saturating_sub(memory.at_ms);
    (age_ms <= age_ms_max(setup) && memory.total_bytes > 0).then_some(memory)
}

/// Unexplained bytes above which memory counts as leaked, on a host with so much memory.
pub fn threshold_bytes(setup: &Setup, total_bytes: u64) -> u64 {
    let share = (total_bytes / 100).saturating_mul(setup.leak.threshold_percent);
    mib(setup.leak.threshold_mib).max(share)
}

/// Wired bytes of this host without an engine: learned, or assumed where nothing was learned.
pub fn baseline_bytes(state: &State, total_bytes: u64) -> u64 {
    match &state.baseline {
        Some(baseline) if baseline.total_bytes == total_bytes => baseline.wired_bytes,
        _ => (total_bytes / 100).saturating_mul(ASSUMED_BASELINE_PERCENT),
    }
}

/// Wired bytes that no live process explains.
pub(super) fn ownerless_bytes(memory: &Memory) -> u64 {
    // A leak is booked on kernel_task (pid 0), so that one explains nothing.
    let owners = memory.owners.iter().filter(|owner| owner.pid != 0);
    let owned = owners.fold(0_u64, |sum, owner| sum.saturating_add(owner.footprint_bytes));
    memory.wired_bytes.saturating_sub(owned)
}

/// Wired bytes that neither the baseline nor a live process explains.
pub fn unexplained_bytes(state: &State, memory: &Memory) -> u64 {
    ownerless_bytes(memory).saturating_sub(baseline_bytes(state, memory.total_bytes))
}

/// MiB in bytes.
pub(crate) const fn mib(mib: u64) -> u64 {
    mib.saturating_mul(1 << 20)
}
