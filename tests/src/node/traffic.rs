//! What clients do: prompts that take longer than any time-out, floods, requests that nobody waits
//! for any more; and a machine on which each step takes longer than the one before.
//!
//! In none of these is anything broken, so none of them may end in ranks that are started again.

use super::Node;
use crate::trouble::Trouble;

/// Longest that a step takes on a machine that is short of everything, in milliseconds: more than
/// twice `supervise.stall_timeout_ms`.
const STEP_MS_MAX: u64 = 50_000;

/// Requests that are cancelled at once when a storm of them begins.
const STORM: u64 = 20;

/// What clients do, beside what [`super::desk::Desk::busy`] says.
#[derive(Default)]
pub(crate) struct Traffic {
    /// Until when a prompt is computed that lets nothing else through.
    long_until: u64,
    /// Until when the gateway has no place for a canary, and whether its clients' requests reach
    /// the ranks meanwhile, or are all refused.
    flooded_until: u64,
    pub(crate) flood_works: bool,
    /// Until when every request is cancelled before it is answered.
    cancelled_until: u64,
    /// Until when steps take longer and longer, how long this one takes, and when it ends.
    slow_until: u64,
    step_ms: u64,
    step_ends_at: u64,
    /// The epoch of the ranks that are at it.
    step_epoch: Option<u64>,
    /// Whether the gateway refuses what a canary asks, until somebody mends that.
    pub(crate) refuses: bool,
    /// Requests that were answered to their end, and those that were cancelled before.
    pub(crate) answered: u64,
    pub(crate) abandoned: u64,
}

impl Traffic {
    /// Until when a canary waits behind a long prompt.
    pub(crate) fn long_until(&self, t: u64) -> Option<u64> {
        (t < self.long_until).then_some(self.long_until)
    }

    pub(crate) const fn is_flooded(&self, t: u64) -> bool {
        t < self.flooded_until
    }

    pub(crate) const fn is_cancelled(&self, t: u64) -> bool {
        t < self.cancelled_until
    }

    /// Whether requests reach the ranks whatever else.
    pub(crate) const fn works(&self, t: u64) -> bool {
        t < self.long_until
            || t < self.cancelled_until
            || t < self.slow_until
            || (t < self.flooded_until && self.flood_works)
    }

    /// The step that was under way goes on after the machine's sleep.
    pub(crate) const fn sleep(&mut self, ms: u64) {
        self.step_ends_at += ms;
    }

    /// Steps take no longer than usual from now on.
    pub(crate) const fn steps_are_quick_again(&mut self) {
        self.slow_until = 0;
    }

    /// How many of these steps the ranks of an epoch have finished now, and how many tokens came of
    /// them.
    pub(crate) fn steps(&mut self, t: u64, grows: u64, epoch: Option<u64>) -> (u64, u64) {
        if t < self.slow_until {
            if std::mem::replace(&mut self.step_epoch, epoch) != epoch {
                // Nobody saw how long the one took that ranks of before did not finish.
                self.step_ends_at = t + self.step_ms;
            }
            if t < self.step_ends_at {
                return (0, 0);
            }
            // Not twice as long, so that who has seen one is not surprised by the next.
            self.step_ms = (self.step_ms * 19 / 10).min(STEP_MS_MAX);
            self.step_ends_at = t + self.step_ms;
            return (1, u64::from(t >= self.long_until));
        }
        if t < self.long_until { (1, 0) } else { (grows, grows) }
    }
}

impl Node {
    pub(crate) fn pass_traffic(&mut self) {
        let t = self.t;
        if self.strikes(Trouble::LongPrefill) {
            self.traffic.long_until = t + self.dice.between(20_000, 240_000);
        }
        if self.strikes(Trouble::GatewayFlooded) {
            self.traffic.flooded_until = t + self.dice.between(20_000, 240_000);
            self.traffic.flood_works = self.dice.once_in(2);
        }
        if self.strikes(Trouble::WorkCancelled) {
            self.traffic.cancelled_until = t + self.dice.between(20_000, 240_000);
            self.traffic.abandoned += STORM;
        }
        if self.strikes(Trouble::StepsSlow) {
            self.traffic.slow_until = t + self.dice.between(60_000, 300_000);
            self.traffic.step_ms = 1_000;
            self.traffic.step_ends_at = t;
        }
        if self.strikes(Trouble::CanaryRefused) {
            self.traffic.refuses = true;
        }
    }

    /// Requests that end meanwhile.
    pub(crate) fn end_requests(&mut self) {
        if self.traffic.is_cancelled(self.t) {
            self.traffic.abandoned += self.dice.between(1, 10);
        } else {
            self.traffic.answered += 1;
        }
    }

    pub(crate) fn heal_traffic(&mut self) {
        let Traffic { answered, abandoned, .. } = self.traffic;
        self.traffic = Traffic { answered, abandoned, ..Traffic::default() };
    }
}
