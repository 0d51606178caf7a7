//! The memory: who has it wired, what is stranded, and what is read of it.

use tandem_policy::{Memory, Owner, Process};

use super::Node;
use crate::{dice::Dice, trouble::Trouble};

const TOTAL_BYTES: u64 = 512 << 30;
const MIB: u64 = 1 << 20;

/// The truth about memory.
pub(crate) struct MemoryTruth {
    /// Wired by the system itself.
    base_bytes: u64,
    /// Wired by nobody alive, until the next boot.
    pub(crate) stranded_bytes: u64,
    /// Wired by ranks that have ended in order: how much, and until when.
    releasing: Vec<(u64, u64)>,
    /// Other processes: footprint, share of it that is wired in percent, and until when they run.
    hogs: Vec<(u32, u64, u64, u64)>,
    unread_until: u64,
    /// Whether the reading is old instead of absent while it can't be read.
    is_stale: bool,
    sample: Option<Memory>,
    sampled_at: u64,
}

impl MemoryTruth {
    pub(crate) fn roll(dice: &mut Dice) -> Self {
        Self {
            base_bytes: dice.between(4_000, 9_000) * MIB,
            stranded_bytes: 0,
            releasing: Vec::new(),
            hogs: Vec::new(),
            unread_until: 0,
            is_stale: false,
            sample: None,
            sampled_at: 0,
        }
    }

    pub(crate) const fn strand(&mut self, bytes: u64) {
        self.stranded_bytes += bytes;
    }

    pub(crate) fn release(&mut self, bytes: u64, until: u64) {
        self.releasing.push((bytes, until));
    }
}

impl Node {
    pub(crate) fn pass_memory(&mut self) {
        let t = self.t;
        if self.strikes(Trouble::Hog) {
            let pid = self.pid();
            let bytes = self.dice.between(2, 450) << 30;
            let percent = self.dice.pick(&[0, 0, 50, 100]);
            let until = t + self.dice.between(3_000, 120_000);
            self.tell(|_| format!("another process takes {} GiB", bytes >> 30));
            self.memory.hogs.push((pid, bytes, percent, until));
        }
        if self.strikes(Trouble::MemoryLost) {
            self.memory.unread_until = t + self.dice.between(1_000, 60_000);
            self.memory.is_stale = self.dice.once_in(2);
        }
        self.memory.releasing.retain(|(_, until)| *until > t);
        self.memory.hogs.retain(|(.., until)| *until > t);
        let due = t - self.memory.sampled_at >= self.setup.leak.sample_ms;
        if t >= self.memory.unread_until && (due || self.memory.sample.is_none()) {
            self.memory.sample = Some(self.sample());
            self.memory.sampled_at = t;
        }
    }

    /// What a reader would find now.
    fn sample(&mut self) -> Memory {
        let t = self.t;
        let jitter = self.dice.between(0, 300) * MIB;
        let rank_owner = |rank: &super::ranks::Rank| match rank.process {
            Process::Running { pid, .. } if rank.has_loaded(t) => {
                let share = self.share_bytes(rank);
                let footprint_bytes = share + share / 50;
                Some(Owner { pid, name: "tandem".into(), footprint_bytes })
            }
            _ => None,
        };
        let mut owners: Vec<Owner> = self.ranks.iter().filter_map(rank_owner).collect();
        let loaded = self.ranks.iter().filter(|rank| rank.has_loaded(t));
        let by_ranks: u64 = loaded.map(|rank| self.share_bytes(rank)).sum();
        let by_ended: u64 = self.memory.releasing.iter().map(|(bytes, _)| bytes).sum();
        let mut by_others = 0;
        let mut taken = 0;
        for (pid, bytes, percent, _) in &self.memory.hogs {
            taken += bytes;
            by_others += bytes / 100 * percent;
            let name = "other".into();
            owners.push(Owner { pid: *pid, name, footprint_bytes: *bytes });
        }
        owners.sort_by_key(|owner| std::cmp::Reverse(owner.footprint_bytes));
        let engine = by_ranks + by_ended + self.memory.stranded_bytes;
        let wired = (self.memory.base_bytes + jitter + by_others + engine).min(TOTAL_BYTES);
        let used = self.memory.base_bytes * 2 + taken + engine;
        Memory {
            at_ms: t - self.machine.booted_at,
            total_bytes: TOTAL_BYTES,
            wired_bytes: wired,
            available_bytes: TOTAL_BYTES.saturating_sub(used),
            owners,
        }
    }

    pub(crate) fn memory_seen(&self) -> Option<Memory> {
        if self.t < self.memory.unread_until && !self.memory.is_stale {
            return None;
        }
        self.memory.sample.clone()
    }

    /// Another boot: nothing is stranded any more.
    pub(crate) fn boot_memory(&mut self) {
        self.memory.stranded_bytes = 0;
        self.memory.releasing.clear();
        self.memory.hogs.clear();
        self.memory.sample = None;
        self.memory.unread_until = 0;
    }

    pub(crate) fn heal_memory(&mut self) {
        self.memory.hogs.clear();
        self.memory.unread_until = 0;
    }

    /// The most that the system itself can have wired in a sample.
    pub(crate) const fn base_bytes_max(&self) -> u64 {
        self.memory.base_bytes + 300 * MIB
    }
}
