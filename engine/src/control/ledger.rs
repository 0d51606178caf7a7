//! Whether all ranks computed the same tokens: a running digest, compared step by step.

use std::collections::VecDeque;

use sha2::{Digest as _, Sha256};

use super::Progress;
use super::seal::encode_hex;
use crate::EngineError;
use crate::step::Sampled;

/// Most steps that a rank may be behind the log before rank 0 waits for it. Two are in flight in
/// the normal course; a few more cover a host that was busy for a moment.
pub const LAG_STEPS_MAX: u64 = 8;

/// A running hash over `(seq, slot, token)` of every token since the first step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest([u8; 16]);

impl Digest {
    /// Before the first step.
    pub fn start() -> Self {
        Self([0; 16])
    }

    /// After one more step.
    pub fn extend(&mut self, seq: u64, sampled: &[Sampled]) -> Progress {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(seq.to_le_bytes());
        for sample in sampled {
            hash.update(sample.slot.to_le_bytes());
            hash.update(sample.token.to_le_bytes());
        }
        self.0.copy_from_slice(&hash.finalize()[..16]);
        Progress { seq, digest: encode_hex(&self.0) }
    }
}

/// Two ranks' progress, side by side: ours and that of one other rank. Whoever is behind is waited
/// for; both must report every step, and equal ones.
#[derive(Debug)]
pub struct Comparison {
    rank: u32,
    ours: VecDeque<Progress>,
    theirs: VecDeque<Progress>,
    ours_last: u64,
    theirs_last: u64,
}

impl Comparison {
    /// Compares with `rank`, from the first step on.
    pub fn new(rank: u32) -> Self {
        Self { rank, ours: VecDeque::new(), theirs: VecDeque::new(), ours_last: 0, theirs_last: 0 }
    }

    /// The last step that the other rank reported.
    pub fn their_seq(&self) -> u64 {
        self.theirs_last
    }

    /// This rank finished a step.
    pub fn ours(&mut self, progress: Progress) -> Result<(), EngineError> {
        self.ours_last = progress.seq;
        self.ours.push_back(progress);
        // Rank 0 never lets a rank fall back further, so older ones were compared or never will be.
        while self.ours.len() as u64 > 2 * LAG_STEPS_MAX {
            self.ours.pop_front();
        }
        self.compare()
    }

    /// The other rank reports every step: the one after its last.
    pub fn theirs(&mut self, progress: Progress) -> Result<(), EngineError> {
        if progress.seq != self.theirs_last + 1 {
            return Err(EngineError::Integrity(format!(
                "rank {} reported step {} after step {}",
                self.rank, progress.seq, self.theirs_last
            )));
        }
        self.note(progress)
    }

    /// The other rank reports now and then: not the same step twice, and never backwards.
    pub fn theirs_sparse(&mut self, progress: Progress) -> Result<(), EngineError> {
        if progress.seq < self.theirs_last {
            return Err(EngineError::Integrity(format!(
                "rank {} went back from step {} to step {}",
                self.rank, self.theirs_last, progress.seq
            )));
        }
        if progress.seq == self.theirs_last {
            return Ok(());
        }
        self.note(progress)
    }

    fn note(&mut self, progress: Progress) -> Result<(), EngineError> {
        if progress.seq > self.ours_last + 2 * LAG_STEPS_MAX {
            return Err(EngineError::Integrity(format!(
                "rank {} reported step {} while this rank is at step {}",
                self.rank, progress.seq, self.ours_last
            )));
        }
        self.theirs_last = progress.seq;
        self.theirs.push_back(progress);
        self.compare()
    }

    fn compare(&mut self) -> Result<(), EngineError> {
        while let (Some(ours), Some(theirs)) = (self.ours.front(), self.theirs.front()) {
            if ours.seq < theirs.seq {
                self.ours.pop_front();
                continue;
            }
            if ours != theirs {
                return Err(EngineError::Integrity(format!(
                    "after step {} this rank's tokens have digest {}, those of rank {} have {}",
                    theirs.seq, ours.digest, self.rank, theirs.digest
                )));
            }
            self.ours.pop_front();
            self.theirs.pop_front();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(tokens: &[u32]) -> Vec<Progress> {
        let mut digest = Digest::start();
        let sampled = |token| Sampled { slot: 3, token, logprob: None, top: Vec::new() };
        (1..).zip(tokens).map(|(seq, token)| digest.extend(seq, &[sampled(*token)])).collect()
    }

    #[test]
    fn equal_steps_pass_whoever_is_ahead() {
        let all = steps(&[5, 6, 7, 8]);
        let mut comparison = Comparison::new(1);
        for progress in &all[..2] {
            comparison.theirs(progress.clone()).unwrap();
        }
        for progress in &all {
            comparison.ours(progress.clone()).unwrap();
        }
        for progress in &all[2..] {
            comparison.theirs(progress.clone()).unwrap();
        }
        assert_eq!(comparison.their_seq(), 4);
        assert!(comparison.ours.is_empty() && comparison.theirs.is_empty());
    }

    #[test]
    fn one_different_token_is_found_at_its_step_and_at_every_later_one() {
        let (ours, theirs) = (steps(&[5, 6, 7]), steps(&[5, 9, 7]));
        let mut comparison = Comparison::new(1);
        comparison.ours(ours[0].clone()).unwrap();
        comparison.theirs(theirs[0].clone()).unwrap();
        comparison.theirs(theirs[1].clone()).unwrap();
        let error = comparison.ours(ours[1].clone()).unwrap_err();
        assert!(error.to_string().contains("after step 2"), "{error}");
        let mut late = Comparison::new(0);
        for progress in ours {
            late.ours(progress).unwrap();
        }
        assert!(late.theirs_sparse(theirs[2].clone()).is_err());
    }

    #[test]
    fn a_gap_a_repeat_and_a_step_from_the_future_are_faults() {
        let all = steps(&[1; 40]);
        let mut gap = Comparison::new(1);
        gap.theirs(all[0].clone()).unwrap();
        assert!(gap.theirs(all[2].clone()).is_err());
        let mut repeat = Comparison::new(1);
        repeat.theirs(all[0].clone()).unwrap();
        assert!(repeat.theirs(all[0].clone()).is_err());
        assert!(Comparison::new(1).theirs_sparse(all[30].clone()).is_err());
        let mut back = Comparison::new(0);
        back.theirs_sparse(all[4].clone()).unwrap();
        back.theirs_sparse(all[4].clone()).unwrap();
        assert!(back.theirs_sparse(all[3].clone()).is_err());
    }
}
