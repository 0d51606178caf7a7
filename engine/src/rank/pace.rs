//! How long a step may take before it counts as stuck.
//!
//! A step that never ends (a lost collective, a hung GPU) looks like one that is slow: a long piece
//! of prompt, on a machine that others starve. So a step is judged by what it has to compute and by
//! what that took lately. `step_timeout_ms` is the least limit; a false alarm costs a reload of the
//! model.
//!
//! Pure: the caller tells what a step computes and how long it took.

use std::collections::VecDeque;

use crate::step::Step;

/// A step that takes so many times what the slowest of its kind took lately is stuck.
const FACTOR: u64 = 8;
/// However slow steps were, so many times the least limit is too long.
const FLOORS_PER_CEILING: u64 = 10;
/// The first step of a kind may take so many times the least limit: it also reads weights that were not
/// touched yet, and compiles kernels.
const FLOORS_UNKNOWN: u64 = 4;
/// Steps of each kind that are remembered.
const MEMORY_STEPS: usize = 64;
/// A piece of a prompt costs at least what so many tokens do: reading the weights is the same for one.
const LEAST_PIECE_TOKENS: u64 = 32;

/// What a step computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// Slots that decode one token each.
    pub(super) decodes: u64,
    /// Tokens of a prompt.
    pub(super) prefill_tokens: u64,
}

impl Work {
    /// What is in `step`.
    pub(super) fn of(step: &Step) -> Self {
        Self {
            decodes: step.decode.len() as u64,
            prefill_tokens: step.prefill.map_or(0, |piece| piece.len.into()),
        }
    }
}

/// What steps took lately.
#[derive(Debug)]
pub(super) struct Pace {
    floor_ms: u64,
    /// Microseconds for a decoded token, newest last.
    decodes: VecDeque<u64>,
    /// Microseconds for a token of a prompt, newest last.
    prefills: VecDeque<u64>,
}

impl Pace {
    /// Knows nothing yet. `floor_ms` (`step_timeout_ms`) is the least limit.
    pub(super) fn new(floor_ms: u64) -> Self {
        Self { floor_ms, decodes: VecDeque::new(), prefills: VecDeque::new() }
    }

    /// A step took so long.
    pub(super) fn finished(&mut self, work: Work, took_ms: u64) {
        let took_us = took_ms.saturating_mul(1_000);
        let (memory, tokens) = match work {
            Work { decodes: 0, prefill_tokens: 0 } => return,
            // What decoding beside it cost is counted to the prompt: too much rather than too little.
            Work { prefill_tokens: 1.., .. } => {
                (&mut self.prefills, work.prefill_tokens.max(LEAST_PIECE_TOKENS))
            }
            Work { .. } => (&mut self.decodes, work.decodes),
        };
        if memory.len() == MEMORY_STEPS {
            memory.pop_front();
        }
        memory.push_back(took_us / tokens.max(1));
    }

    /// How long a step may take, in milliseconds: from the least limit to ten times that.
    pub(super) fn limit_ms(&self, work: Work) -> u64 {
        let slowest = |memory: &VecDeque<u64>, tokens: u64| match tokens {
            0 => Some(0),
            tokens => memory.iter().max().map(|slowest| slowest.saturating_mul(tokens)),
        };
        let piece = match work.prefill_tokens {
            0 => 0,
            tokens => tokens.max(LEAST_PIECE_TOKENS),
        };
        let costs = (slowest(&self.decodes, work.decodes), slowest(&self.prefills, piece));
        let (Some(decode), Some(prefill)) = costs else {
            return self.floor_ms.saturating_mul(FLOORS_UNKNOWN);
        };
        let expected_ms = decode.saturating_add(prefill) / 1_000;
        let ceiling_ms = self.floor_ms.saturating_mul(FLOORS_PER_CEILING);
        expected_ms.saturating_mul(FACTOR).clamp(self.floor_ms, ceiling_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR_MS: u64 = 60_000;

    fn decode(decodes: u64) -> Work {
        Work { decodes, prefill_tokens: 0 }
    }

    fn prefill(prefill_tokens: u64) -> Work {
        Work { decodes: 0, prefill_tokens }
    }

    #[test]
    fn a_fast_rank_is_stuck_after_the_least_limit() {
        let mut pace = Pace::new(FLOOR_MS);
        assert_eq!(pace.limit_ms(prefill(8)), 4 * FLOOR_MS, "nothing is known yet");
        pace.finished(prefill(8), 900);
        for _ in 0..100 {
            pace.finished(prefill(512), 1_800);
            pace.finished(decode(16), 60);
        }
        assert_eq!(pace.limit_ms(prefill(512)), FLOOR_MS);
        assert_eq!(pace.limit_ms(decode(16)), FLOOR_MS);
    }

    #[test]
    fn a_limit_grows_with_the_tokens_and_with_what_they_took() {
        let mut pace = Pace::new(FLOOR_MS);
        // A starved machine: 50 ms for each token of a prompt.
        pace.finished(prefill(512), 25_600);
        assert_eq!(pace.limit_ms(prefill(512)), 8 * 25_600);
        assert_eq!(pace.limit_ms(prefill(256)), 4 * 25_600);
        assert_eq!(pace.limit_ms(prefill(1)), FLOOR_MS);
        pace.finished(decode(1), 10_000);
        assert_eq!(pace.limit_ms(decode(4)), 8 * 40_000);
        let both = Work { decodes: 4, prefill_tokens: 512 };
        assert_eq!(pace.limit_ms(both), 8 * (40_000 + 25_600));
        assert_eq!(pace.limit_ms(prefill(100_000)), 10 * FLOOR_MS, "but has an end");
        for _ in 0..MEMORY_STEPS {
            pace.finished(prefill(512), 1_000);
        }
        assert_eq!(pace.limit_ms(prefill(512)), FLOOR_MS, "slowness is forgotten");
    }

    /// Whatever a step took, the next of the same kind may take eight times that, within the bounds.
    #[test]
    fn slow_but_steady_steps_are_never_stuck() {
        for tokens in [1, 7, 32, 512, 4096] {
            for took_ms in (1..600_000).step_by(977) {
                let mut pace = Pace::new(FLOOR_MS);
                pace.finished(prefill(tokens), took_ms);
                let limit = pace.limit_ms(prefill(tokens));
                assert!(limit >= took_ms.min(10 * FLOOR_MS), "{tokens} tokens, {took_ms} ms");
                let grown = (8 * took_ms).min(10 * FLOOR_MS) / 10 * 9;
                assert!(took_ms < 100 || limit >= grown, "{tokens} tokens, {took_ms} ms: {limit}");
                assert!((FLOOR_MS..=10 * FLOOR_MS).contains(&limit));
            }
        }
    }
}
