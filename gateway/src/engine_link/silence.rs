//! How long the engine has shown no progress. Pure.
//!
//! A request may wait in queues for an hour and its prompt may take another: as long as the engine
//! gets anything done, it will be answered. What ends a request is an engine that gets nothing done.

use std::time::{Duration, Instant};

use tandem_wire::{Phase, Vitals};

/// How long one step may take at least, while the rank says that it has work: the rank itself ends
/// when a step hangs, and it knows better how long one takes.
const STEP_PATIENCE: Duration = Duration::from_secs(600);

/// What grows or changes while the engine does anything, loading included.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Signs {
    epoch: Option<u64>,
    phase: Option<Phase>,
    steps: u64,
    bytes_read: u64,
}

/// Watches the engine's signs of progress.
#[derive(Debug)]
pub(super) struct Silence {
    signs: Signs,
    /// Whether the rank said last that it has requests.
    is_working: bool,
    /// Of the last sign.
    since: Instant,
}

impl Silence {
    pub(super) fn new(now: Instant) -> Self {
        Self { signs: Signs::default(), is_working: false, since: now }
    }

    /// A token came, or an end.
    pub(super) fn progress(&mut self, now: Instant) {
        self.since = now;
    }

    /// The connection says this now; `None`: there is none.
    pub(super) fn phase(&mut self, now: Instant, epoch: Option<u64>, phase: Option<Phase>) {
        let same_epoch = epoch == self.signs.epoch;
        let Signs { steps, bytes_read, .. } =
            if same_epoch { self.signs } else { Signs::default() };
        self.signs_are(now, Signs { epoch, phase, steps, bytes_read });
        self.is_working &= same_epoch;
    }

    /// The rank's account of itself.
    pub(super) fn vitals(&mut self, now: Instant, vitals: &Vitals) {
        let Vitals { steps, bytes_read, .. } = *vitals;
        self.signs_are(now, Signs { steps, bytes_read, ..self.signs });
        self.is_working = vitals.active + vitals.queued > 0;
    }

    fn signs_are(&mut self, now: Instant, signs: Signs) {
        if self.signs != signs {
            self.signs = signs;
            self.since = now;
        }
    }

    /// Since when there is silence for a request that came at `arrived`.
    pub(super) fn since(&self, arrived: Instant) -> Instant {
        self.since.max(arrived)
    }

    /// When a request is given up that came at `arrived` and bears so much silence.
    pub(super) fn deadline(&self, arrived: Instant, limit: Duration) -> Instant {
        let limit = if self.is_working { limit.max(STEP_PATIENCE) } else { limit };
        self.since(arrived) + limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    fn vitals(steps: u64, bytes_read: u64, active: u32) -> Vitals {
        Vitals {
            epoch: 1,
            rank: 0,
            phase: Phase::Ready,
            steps,
            last_step_age_ms: None,
            active,
            queued: 0,
            tokens: 0,
            bytes_read,
            weights_bytes: 0,
            memory_bytes: 0,
            memory_peak_bytes: 0,
            transport: None,
        }
    }

    #[test]
    fn whatever_gets_done_is_progress_and_nothing_else_is() {
        type Sign = fn(&mut Silence, Instant);
        let rows: [(&str, Sign, bool); 9] = [
            ("a step", |s, now| s.vitals(now, &vitals(8, 9, 0)), true),
            ("a piece of the weights", |s, now| s.vitals(now, &vitals(7, 10, 0)), true),
            ("the same account again", |s, now| s.vitals(now, &vitals(7, 9, 0)), false),
            ("a token", |s, now| s.progress(now), true),
            ("a phase", |s, now| s.phase(now, Some(1), Some(Phase::Unloading)), true),
            ("the same phase", |s, now| s.phase(now, Some(1), Some(Phase::Ready)), false),
            ("an epoch", |s, now| s.phase(now, Some(2), Some(Phase::Ready)), true),
            ("the loss of the connection", |s, now| s.phase(now, None, None), true),
            ("nothing", |_, _| {}, false),
        ];
        for (what, sign, is_progress) in rows {
            let start = Instant::now();
            let mut silence = Silence::new(start);
            silence.phase(start, Some(1), Some(Phase::Ready));
            silence.vitals(start, &vitals(7, 9, 0));
            let later = start + LIMIT;
            sign(&mut silence, later);
            let since = if is_progress { later } else { start };
            assert_eq!(silence.deadline(start, LIMIT), since + LIMIT, "{what}");
            // Who came only now has not waited.
            assert_eq!(silence.deadline(later, LIMIT), later + LIMIT, "{what}");
        }
    }

    #[test]
    fn a_long_step_is_waited_for_while_the_rank_says_that_it_works() {
        let start = Instant::now();
        let mut silence = Silence::new(start);
        silence.phase(start, Some(1), Some(Phase::Ready));
        silence.vitals(start, &vitals(7, 9, 1));
        assert_eq!(silence.deadline(start, LIMIT), start + STEP_PATIENCE);
        let longer = 2 * STEP_PATIENCE;
        assert_eq!(silence.deadline(start, longer), start + longer);
        silence.vitals(start, &vitals(7, 9, 0));
        assert_eq!(silence.deadline(start, LIMIT), start + LIMIT, "it has forgotten the request");
        silence.vitals(start, &vitals(7, 9, 1));
        silence.phase(start, None, None);
        assert_eq!(silence.deadline(start, LIMIT), start + LIMIT, "it is gone");
    }
}
