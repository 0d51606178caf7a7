//! How much of a child's output is passed on to the supervisor's log, whose files have a bound in size: what one
//! child says must not push out what the supervisor itself said.

use std::time::{Duration, Instant};

/// The time that an allowance is for.
const WINDOW: Duration = Duration::from_secs(60);

/// Most bytes that are passed on in that time: the files of a log by default, 128 MiB, then last two hours beside a
/// child that never stops.
const WINDOW_BYTES: usize = 1 << 20;

/// Least time between two notes of what was left out.
const TELL_PERIOD: Duration = Duration::from_secs(10);

/// One child's allowance.
#[derive(Debug)]
pub(super) struct Allowance {
    began: Instant,
    bytes: usize,
    told: Option<Instant>,
    hushed_lines: u64,
    skipped_bytes: u64,
}

impl Allowance {
    pub(super) const fn new(now: Instant) -> Self {
        Self { began: now, bytes: 0, told: None, hushed_lines: 0, skipped_bytes: 0 }
    }

    /// Whether a line of so many bytes is passed on now.
    pub(super) fn take(&mut self, bytes: usize, now: Instant) -> bool {
        if now.duration_since(self.began) >= WINDOW {
            (self.began, self.bytes) = (now, 0);
        }
        self.bytes = self.bytes.saturating_add(bytes);
        let is_allowed = self.bytes <= WINDOW_BYTES;
        self.hushed_lines += u64::from(!is_allowed);
        is_allowed
    }

    /// Counts output that is not read at all.
    pub(super) const fn skip(&mut self, bytes: u64) {
        self.skipped_bytes = self.skipped_bytes.saturating_add(bytes);
    }

    /// What was left out since this was told last, in words, if it is time to tell it; `is_last`: at the end, when
    /// there is no other time.
    pub(super) fn left_out(&mut self, now: Instant, is_last: bool) -> Option<String> {
        let is_due = self.told.is_none_or(|told| now.duration_since(told) >= TELL_PERIOD);
        if (self.hushed_lines == 0 && self.skipped_bytes == 0) || !(is_due || is_last) {
            return None;
        }
        self.told = Some(now);
        let (lines, bytes) = (self.hushed_lines, self.skipped_bytes);
        (self.hushed_lines, self.skipped_bytes) = (0, 0);
        Some(format!(
            "it writes too much: {bytes} bytes of its output were skipped and {lines} lines not passed on"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_heard_up_to_its_allowance_and_again_in_the_next_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut allowance = Allowance::new(start);
        let passed = (0..2_000).filter(|_| allowance.take(1 << 10, at(1))).count();
        assert_eq!(passed, 1_024);
        assert!(!allowance.take(1, at(59)));
        let told = allowance.left_out(at(59), false).unwrap();
        assert!(told.contains(" 977 lines"), "{told}");
        assert_eq!(allowance.left_out(at(60), false), None, "all is told");
        assert!(allowance.take(1 << 10, at(60)));
        // An hour of a flood is at most sixty of them.
        let passed = (60..3_660).filter(|at_s| allowance.take(1 << 19, at(*at_s))).count();
        assert!(passed <= 122, "{passed}");
    }

    #[test]
    fn what_is_left_out_is_told_at_once_then_from_time_to_time_and_at_the_end() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut allowance = Allowance::new(start);
        assert_eq!(allowance.left_out(at(0), true), None);
        allowance.skip(5);
        assert!(allowance.left_out(at(0), false).unwrap().contains(" 5 bytes"));
        allowance.skip(6);
        assert_eq!(allowance.left_out(at(9), false), None);
        allowance.skip(u64::MAX);
        assert!(allowance.left_out(at(10), false).is_some());
        allowance.skip(7);
        assert!(allowance.left_out(at(11), true).unwrap().contains(" 7 bytes"));
    }
}
