//! Expanding affine-quantised weights to f32, for MLX's CPU back end.
//!
//! There a quantised product runs at 2 GFLOP/s and a dense f32 one over OpenBLAS at 100, so on a CPU
//! weights are expanded once, at load. Values are exactly MLX's: `scale * q + bias` in f32.

use crate::EngineError;

/// Most threads for one matrix; memory is the limit beyond a few.
const THREADS_MAX: usize = 8;
/// Fewest groups worth a thread: under this, making one costs more than it saves.
const GROUPS_A_THREAD_MIN: usize = 4_096;

/// A quantised matrix as stored: rows of packed words, with scales and biases already in f32.
pub(crate) struct Packed<'a> {
    /// Rows of whole groups: a little-endian stream of `bits`-wide values (MLX packs
    /// 3, 5 and 6 bits across bytes, so that every width is one such stream).
    pub(crate) words: &'a [u8],
    /// One of each group, row by row.
    pub(crate) scales: &'a [f32],
    /// One of each group, row by row.
    pub(crate) biases: &'a [f32],
    /// Values that share a scale and a bias.
    pub(crate) group_size: usize,
    /// 2, 3, 4, 5, 6 or 8.
    pub(crate) bits: usize,
}

impl Packed<'_> {
    /// All values, row by row.
    pub(crate) fn expand(&self) -> Result<Vec<f32>, EngineError> {
        // Groups are whole bytes: 32 values of any width are a multiple of 8 bits.
        let group_bytes = self.group_size * self.bits / 8;
        let groups = self.scales.len();
        if self.words.len() != groups * group_bytes || self.biases.len() != groups {
            return Err(EngineError::Software(format!(
                "{} bytes of packed weights for {groups} scales of {group_bytes} bytes each",
                self.words.len()
            )));
        }
        let mut values = vec![0.0; groups * self.group_size];
        // Half the start-up of a small model is spent here: all cores share it, each whole groups.
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        let share = groups.div_ceil(threads).max(GROUPS_A_THREAD_MIN);
        std::thread::scope(|scope| {
            let pieces = values
                .chunks_mut(share * self.group_size)
                .zip(self.words.chunks(share * group_bytes))
                .zip(self.scales.chunks(share).zip(self.biases.chunks(share)));
            for ((values, words), (scales, biases)) in pieces {
                let piece = Packed { words, scales, biases, ..*self };
                scope.spawn(move || piece.expand_into(values, group_bytes));
            }
        });
        Ok(values)
    }

    fn expand_into(&self, values: &mut [f32], group_bytes: usize) {
        let scaled = self.scales.iter().zip(self.biases);
        let groups = values.chunks_exact_mut(self.group_size);
        for ((values, group), (&scale, &bias)) in
            groups.zip(self.words.chunks_exact(group_bytes)).zip(scaled)
        {
            match self.bits {
                4 => {
                    for (pair, &byte) in values.chunks_exact_mut(2).zip(group) {
                        pair[0] = scale * f32::from(byte & 15) + bias;
                        pair[1] = scale * f32::from(byte >> 4) + bias;
                    }
                }
                8 => {
                    for (value, &byte) in values.iter_mut().zip(group) {
                        *value = scale * f32::from(byte) + bias;
                    }
                }
                bits => {
                    for (n, value) in values.iter_mut().enumerate() {
                        *value = scale * f32::from(bits_at(group, n * bits, bits)) + bias;
                    }
                }
            }
        }
    }
}

/// The `width` (at most 8) bits from bit `at` on of a little-endian stream.
fn bits_at(bytes: &[u8], at: usize, width: usize) -> u8 {
    let byte = |n: usize| u16::from(bytes.get(n).copied().unwrap_or(0));
    let window = byte(at / 8) | byte(at / 8 + 1) << 8;
    ((window >> (at % 8)) & ((1 << width) - 1)) as u8
}

#[cfg(test)]
mod tests {
    use mlx_rs::{Array, ops};

    use super::*;

    #[test]
    fn every_width_expands_as_mlx_does() {
        crate::mlx::install_error_handler();
        for (bits, group_size) in
            [(2, 32), (3, 64), (4, 32), (5, 32), (5, 64), (5, 128), (6, 128), (8, 64)]
        {
            let key = mlx_rs::random::key(bits as u64).unwrap();
            let weight = mlx_rs::random::normal::<f32>(&[6, 256], None, None, &key).unwrap();
            let (packed, scales, biases) =
                ops::quantize(&weight, group_size as i32, bits as i32).unwrap();
            let expected =
                ops::dequantize(&packed, &scales, &biases, group_size as i32, bits as i32).unwrap();
            let floats = |a: &Array| a.to_vec_cast::<f32>().unwrap();
            let words = packed.to_vec_cast::<u32>().unwrap();
            let expanded = Packed {
                words: bytemuck::cast_slice(&words),
                scales: &floats(&scales),
                biases: &floats(&biases),
                group_size,
                bits,
            };
            assert_eq!(expanded.expand().unwrap(), floats(&expected), "{bits} bits");
        }
    }

    #[test]
    fn missing_bytes_are_refused() {
        let short =
            Packed { words: &[0; 15], scales: &[1.0], biases: &[0.0], group_size: 32, bits: 4 };
        assert!(short.expand().is_err());
    }
}
