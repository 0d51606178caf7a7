//! When a rank that says nothing counts as lost.
//!
//! The end of its process or of its connection is told by the system at once; only a process that is
//! stopped, a machine without power or a cable that is cut must be guessed from silence. A fixed
//! limit takes a starved machine for a dead one, and a false alarm costs a reload of the model. So
//! silence is judged against the gaps between what that same rank said lately, and time counts only
//! while this process could listen.
//!
//! Pure: the caller tells what time passed and what was heard.

use std::collections::VecDeque;

/// A silence this many times as long as the longest gap of late is none that load explains.
const GAPS_PER_SILENCE: u64 = 4;
/// However slow a rank was, this many times the floor is too long.
const FLOORS_PER_CEILING: u64 = 6;
/// How long a gap is remembered.
const WINDOW_MS: u64 = 300_000;
/// Looks in the time of the floor.
const LOOKS_PER_FLOOR: u64 = 10;
/// Most time between two looks that counts, in looks. What is over it, this process was starved,
/// stopped or asleep, and could not have heard anybody.
const LATE_LOOKS: u64 = 2;

/// What is known of one rank's silences. All times are milliseconds in which this process listened.
#[derive(Debug)]
pub struct Silence {
    floor_ms: u64,
    now_ms: u64,
    heard_ms: u64,
    /// When a gap ended and how long it was: the longest of late first, then the longest since that.
    gaps: VecDeque<(u64, u64)>,
}

impl Silence {
    /// A rank that was heard just now. `floor_ms` (`silence_timeout_ms`) is the least silence that
    /// counts as its loss.
    pub fn new(floor_ms: u64) -> Self {
        Self { floor_ms: floor_ms.max(1), now_ms: 0, heard_ms: 0, gaps: VecDeque::new() }
    }

    /// How long to listen before [`pass`](Self::pass) is called.
    pub fn look_ms(&self) -> u64 {
        (self.floor_ms / LOOKS_PER_FLOOR).max(1)
    }

    /// One look found nothing and took so long by the clock.
    pub fn pass(&mut self, elapsed_ms: u64) {
        self.now_ms += elapsed_ms.min(self.look_ms().saturating_mul(LATE_LOOKS));
    }

    /// The rank said something.
    pub fn heard(&mut self) {
        let gap = self.silent_ms();
        let now = self.now_ms;
        while self.gaps.back().is_some_and(|(_, shorter)| *shorter <= gap) {
            self.gaps.pop_back();
        }
        self.gaps.push_back((now, gap));
        while self.gaps.front().is_some_and(|(at, _)| now - at > WINDOW_MS) {
            self.gaps.pop_front();
        }
        self.heard_ms = now;
    }

    /// For how long it has said nothing.
    pub fn silent_ms(&self) -> u64 {
        self.now_ms - self.heard_ms
    }

    /// The silence from which it counts as lost: never less than the floor, never more than
    /// [`ceiling_ms`](Self::ceiling_ms).
    pub fn limit_ms(&self) -> u64 {
        let longest = self.gaps.front().map_or(0, |(_, gap)| *gap);
        let ceiling = Self::ceiling_ms(self.floor_ms);
        longest.saturating_mul(GAPS_PER_SILENCE).clamp(self.floor_ms, ceiling)
    }

    /// The longest silence that any history excuses, for a floor.
    pub const fn ceiling_ms(floor_ms: u64) -> u64 {
        floor_ms.saturating_mul(FLOORS_PER_CEILING)
    }

    /// Whether the rank counts as lost.
    pub fn is_over(&self) -> bool {
        self.silent_ms() >= self.limit_ms()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR_MS: u64 = 5_000;
    const CEILING_MS: u64 = Silence::ceiling_ms(FLOOR_MS);

    /// Xorshift: a history follows from its seed.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) % bound.max(1)
        }
    }

    /// Lets so much time pass, look by look; whether the rank counted as lost on the way.
    fn wait(silence: &mut Silence, mut ms: u64) -> bool {
        let mut alarmed = false;
        while ms > 0 {
            let look = silence.look_ms().min(ms);
            silence.pass(look);
            ms -= look;
            alarmed |= silence.is_over();
        }
        alarmed
    }

    /// How long a rank that says nothing more is believed in.
    fn stop(silence: &mut Silence) -> u64 {
        let from = silence.silent_ms();
        while !silence.is_over() {
            silence.pass(silence.look_ms());
        }
        silence.silent_ms() - from
    }

    #[test]
    fn slow_but_steady_is_never_lost_and_a_stop_after_it_is_found_in_bounds() {
        for seed in 1..=300_u64 {
            let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
            // As slow as it can be without ever having been heard to be slow, up to the ceiling.
            let pace = 1 + random.below(CEILING_MS / 4);
            let mut silence = Silence::new(FLOOR_MS);
            let mut known: u64 = FLOOR_MS / GAPS_PER_SILENCE;
            for _ in 0..200 {
                // Load comes on step by step: no gap is four times the longest one before it.
                let gap = (1 + random.below(pace)).min(known.saturating_mul(4) - 1);
                known = known.max(gap);
                assert!(!wait(&mut silence, gap), "seed {seed}: {gap} ms, known {known} ms");
                silence.heard();
            }
            let limit = silence.limit_ms();
            let found = stop(&mut silence);
            assert!((FLOOR_MS..=CEILING_MS).contains(&limit), "seed {seed}: {limit} ms");
            assert!(found < limit + silence.look_ms(), "seed {seed}: {found} of {limit} ms");
        }
    }

    #[test]
    fn a_punctual_rank_is_lost_after_the_floor_and_slowness_is_forgotten() {
        let mut silence = Silence::new(FLOOR_MS);
        for _ in 0..100 {
            assert!(!wait(&mut silence, 500));
            silence.heard();
        }
        assert_eq!(silence.limit_ms(), FLOOR_MS);
        assert!(!wait(&mut silence, 4_000), "one late word");
        silence.heard();
        assert_eq!(silence.limit_ms(), 16_000);
        for _ in 0..2 * WINDOW_MS / 500 {
            assert!(!wait(&mut silence, 500));
            silence.heard();
        }
        assert_eq!(silence.limit_ms(), FLOOR_MS);
        assert!(stop(&mut silence) < FLOOR_MS + silence.look_ms());
    }

    #[test]
    fn time_in_which_nobody_could_listen_is_no_silence() {
        let mut silence = Silence::new(FLOOR_MS);
        silence.pass(3_600_000);
        assert!(!silence.is_over(), "this process slept for an hour");
        assert_eq!(silence.silent_ms(), silence.look_ms() * LATE_LOOKS);
        assert!(stop(&mut silence) <= FLOOR_MS, "and then listened");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut silence = Silence::new(FLOOR_MS);
        // The worst order for it: each gap shorter than the one before.
        for gap in (1..1_000).rev() {
            wait(&mut silence, gap);
            silence.heard();
        }
        let total: u64 = silence.gaps.iter().map(|(_, gap)| gap).sum();
        assert!(total <= WINDOW_MS + 1_000 && silence.gaps.len() < 1_000, "{total}");
    }
}
