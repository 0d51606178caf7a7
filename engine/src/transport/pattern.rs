//! What ranks add up: contents that differ by rank, position and round, so that data which is
//! stale, shifted, swapped or from one rank twice gives another sum.

use super::ADVICE;
use crate::EngineError;

/// Contributions are whole numbers below 2^20. f32 holds whole numbers to 2^24, so the sum of up to
/// 16 ranks is exact in any order; eight are the most that a group can have.
const VALUE_BITS: u32 = 20;

/// The contents of one sum.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pattern {
    /// How many ranks add.
    pub(super) world: u32,
    /// Which sum of the sweep.
    pub(super) round: u32,
}

impl Pattern {
    /// What a rank adds.
    pub(super) fn contribution(self, rank: u32, count: usize) -> Vec<f32> {
        let key = self.key(rank);
        (0..count as u32).map(|index| value(key, index) as f32).collect()
    }

    /// Whether `sum` has `count` elements and each is exactly what all ranks' contributions add up
    /// to. The error names the first that is not.
    pub(super) fn check(self, sum: &[f32], count: usize) -> Result<(), EngineError> {
        let keys: Vec<u32> = (0..self.world).map(|rank| self.key(rank)).collect();
        let expected = |index: u32| keys.iter().map(|key| value(*key, index)).sum::<u32>() as f32;
        let wrong = (0..).zip(sum).find(|&(index, found)| *found != expected(index));
        let what = match wrong {
            Some((index, found)) => {
                format!("element {index} is {found} where {} was expected", expected(index))
            }
            None if sum.len() != count => format!("{} of {count} elements came back", sum.len()),
            None => return Ok(()),
        };
        let bytes = count * size_of::<f32>();
        Err(EngineError::Integrity(format!(
            "sum {} over {} ranks, of {bytes} bytes: {what}; {ADVICE}",
            self.round, self.world
        )))
    }

    fn key(self, rank: u32) -> u32 {
        mix(mix(self.round).wrapping_add(rank))
    }
}

/// An element, 0 to 2^20 - 1.
fn value(key: u32, index: u32) -> u32 {
    mix(key ^ index) >> (u32::BITS - VALUE_BITS)
}

/// The "lowbias32" integer hash of Chris Wellons' hash-prospector: each bit of the input changes
/// each bit of the output with a chance close to one half.
const fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: usize = 4096;

    fn sum_of(parts: &[Vec<f32>]) -> Vec<f32> {
        (0..COUNT).map(|index| parts.iter().map(|part| part[index]).sum()).collect()
    }

    #[test]
    fn the_sum_of_all_contributions_passes() {
        for world in [1, 2, 4, 8] {
            let pattern = Pattern { world, round: 3 };
            let parts: Vec<_> = (0..world).map(|rank| pattern.contribution(rank, COUNT)).collect();
            pattern.check(&sum_of(&parts), COUNT).unwrap();
        }
    }

    #[test]
    fn any_other_sum_is_refused() {
        let pattern = Pattern { world: 2, round: 7 };
        let part = |round, rank| Pattern { world: 2, round }.contribution(rank, COUNT);
        let right = sum_of(&[part(7, 0), part(7, 1)]);
        let changed = |change: &dyn Fn(&mut Vec<f32>)| {
            let mut sum = right.clone();
            change(&mut sum);
            sum
        };
        let bit = |v: f32| f32::from_bits(v.to_bits() ^ (1 << 8));
        for (name, wrong) in [
            ("a bit flipped", changed(&|s| s[COUNT - 1] = bit(s[COUNT - 1]))),
            ("no number", changed(&|s| s[17] = f32::NAN)),
            ("shifted by one", changed(&|s| s.rotate_right(1))),
            (
                "two pages swapped",
                changed(&|s| {
                    let (a, b) = s.split_at_mut(COUNT / 2);
                    a.swap_with_slice(b);
                }),
            ),
            ("cut short", changed(&|s| s.truncate(COUNT - 1))),
            ("one element more", changed(&|s| s.push(0.0))),
            ("the round before", sum_of(&[part(6, 0), part(6, 1)])),
            ("one rank's stale", sum_of(&[part(7, 0), part(6, 1)])),
            ("one rank's twice", sum_of(&[part(7, 0), part(7, 0)])),
            ("one rank's alone", part(7, 0)),
            ("nothing written", vec![0.0; COUNT]),
        ] {
            let error = pattern.check(&wrong, COUNT).expect_err(name);
            assert!(matches!(error, EngineError::Integrity(_)), "{name}: {error}");
        }
    }

    #[test]
    fn the_error_names_size_element_expected_and_found() {
        let pattern = Pattern { world: 1, round: 0 };
        let mut sum = pattern.contribution(0, COUNT);
        let expected = sum[9];
        sum[9] += 1.0;
        let text = pattern.check(&sum, COUNT).unwrap_err().to_string();
        let part = format!("element 9 is {} where {expected} was expected", sum[9]);
        assert!(text.contains("16384 bytes") && text.contains(&part), "{text}");
    }
}
