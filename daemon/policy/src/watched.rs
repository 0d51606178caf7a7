//! Time in which this supervisor really looked.
//!
//! A machine that slept, or that is so short of everything that the supervisor itself had no turn, has
//! not shown that anything else stands still. What is waited for in silence is therefore measured in
//! this time: each turn adds what has passed since the last one, at most [`TURN_MS_MAX`].

use crate::Moment;

/// Most that one turn adds, in milliseconds: turns are taken at least once a second.
const TURN_MS_MAX: u64 = 4_000;

/// How long it looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// In milliseconds, since this supervisor's first turn.
    pub ms: u64,
    /// When its last turn was, since boot.
    last_ms: Option<u64>,
}

impl Watched {
    /// One turn.
    pub fn pass(&mut self, now: Moment) {
        let since_ms = self.last_ms.map_or(0, |last_ms| now.boot_ms.saturating_sub(last_ms));
        self.ms = self.ms.saturating_add(since_ms.min(TURN_MS_MAX));
        self.last_ms = Some(now.boot_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_saw_does_not_count() {
        let mut watched = Watched::default();
        let rows = [(5_000, 0), (6_000, 1_000), (6_500, 1_500), (906_500, 5_500), (907_500, 6_500)];
        for (boot_ms, expected) in rows {
            watched.pass(Moment { boot_ms, wall_ms: 0 });
            assert_eq!(watched.ms, expected, "at {boot_ms}");
        }
    }
}
