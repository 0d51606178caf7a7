//! Whether the kernel killed a child because memory ran out.
//!
//! Linux counts its kills and names no process that another could not have named, so a child that ended by
//! SIGKILL while the count grew is taken for one of them. macOS tells it in a report, which comes later.

use std::time::{Duration, Instant};

/// How long after the count grew the end of a child may be learned: what it said is read before.
const RECENT: Duration = Duration::from_secs(10);

/// The count, as it is watched.
#[derive(Debug, Default)]
pub(super) struct MemoryKills {
    count: Option<u64>,
    grew_at: Option<Instant>,
}

impl MemoryKills {
    /// What the kernel says now.
    pub(super) fn see(&mut self, count: Option<u64>, now: Instant) {
        if self.count.is_some_and(|known| count > Some(known)) {
            self.grew_at = Some(now);
        }
        self.count = count;
    }

    /// Whether the kernel killed something for memory just now.
    pub(super) fn are_recent(&self, now: Instant) -> bool {
        self.grew_at.is_some_and(|at| now.saturating_duration_since(at) < RECENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_count_that_grew_lately_tells_of_a_kill() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut kills = MemoryKills::default();
        for (count, seconds, expected) in [
            (Some(7), 0, false),
            (Some(7), 1, false),
            (Some(8), 2, true),
            (Some(8), 11, true),
            (Some(8), 12, false),
            (None, 13, false),
            (Some(9), 14, false),
            (Some(10), 15, true),
        ] {
            kills.see(count, at(seconds));
            assert_eq!(kills.are_recent(at(seconds)), expected, "{count:?} at {seconds} s");
        }
    }
}
