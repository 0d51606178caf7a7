//! ggml's block formats, repacked value for value into MLX's affine groups.
//!
//! ```text
//!  Q4_0  f16 d, 16 B nibbles          (q − 8)·d     →  q·d + (−8·d)        4 bits, group 32
//!  Q4_1  f16 d, f16 m, 16 B nibbles   q·d + m       →  q·d + m             4 bits, group 32
//!  Q8_0  f16 d, 32 × i8               q·d           →  (q+128)·d − 128·d   8 bits, group 32
//! ```
//!
//! ggml keeps values 0..16 of a block in the low nibbles and 16..32 in the high ones; MLX packs in
//! order, lowest bits first. Scales and biases stay f16; −8·d and −128·d only change the exponent,
//! so they are exact unless they overflow: then the tensor's scales and biases are widened to f32.

use half::f16;

use crate::model_config::Group;

/// The element types of a GGUF tensor that can be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TensorType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q8_0,
}

/// Values in a quantised block, which is MLX's smallest group.
const BLOCK: usize = 32;

impl TensorType {
    /// From ggml's number; the error says what the type is and what to do.
    pub(super) fn from_ggml(number: u32) -> Result<Self, String> {
        let name = match number {
            0 => return Ok(Self::F32),
            1 => return Ok(Self::F16),
            2 => return Ok(Self::Q4_0),
            3 => return Ok(Self::Q4_1),
            8 => return Ok(Self::Q8_0),
            30 => return Ok(Self::BF16),
            6 => "Q5_0",
            7 => "Q5_1",
            9 => "Q8_1",
            10 => "Q2_K",
            11 => "Q3_K",
            12 => "Q4_K",
            13 => "Q5_K",
            14 => "Q6_K",
            15 => "Q8_K",
            16..=23 | 29 => "an IQ type",
            24..=28 => "an integer or F64 type",
            34 | 35 => "a ternary type",
            39 => "MXFP4",
            _ => return Err(format!("is of the unknown ggml type {number}")),
        };
        Err(format!(
            "is {name}; F32, F16, BF16, Q8_0, Q4_0 and Q4_1 can be imported without loss. Convert \
             the original model with `llama-quantize --pure IN.gguf OUT.gguf Q8_0`"
        ))
    }

    /// Values in one block.
    pub(super) fn block_values(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q8_0 => BLOCK,
        }
    }

    /// Bytes of one block.
    pub(super) fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q8_0 => 34,
        }
    }

    /// The MLX group it becomes, if it is quantised.
    pub(super) fn group(self) -> Option<Group> {
        let bits = match self {
            Self::F32 | Self::F16 | Self::BF16 => return None,
            Self::Q4_0 | Self::Q4_1 => 4,
            Self::Q8_0 => 8,
        };
        Some(Group { group_size: BLOCK, bits })
    }
}

/// Scales and biases of a tensor, in order.
#[derive(Debug, Default)]
pub(super) struct Affine {
    pub(super) scales: Vec<f16>,
    pub(super) biases: Vec<f32>,
}

impl Affine {
    /// Whether all biases are exact in f16.
    pub(super) fn fits_f16(&self) -> bool {
        self.biases.iter().all(|&b| f16::from_f32(b).to_f32() == b)
    }
}

/// Repacks whole blocks: words go to `packed`, scales and biases to `affine`.
///
/// # Errors
/// A scale or minimum is not a number: the file is damaged.
pub(super) fn repack(
    kind: TensorType,
    blocks: &[u8],
    packed: &mut Vec<u8>,
    affine: &mut Affine,
) -> Result<(), String> {
    for block in blocks.chunks_exact(kind.block_bytes()) {
        let (head, values) = block.split_at(if kind == TensorType::Q4_1 { 4 } else { 2 });
        let scale = f16::from_le_bytes([head[0], head[1]]);
        let bias = match kind {
            TensorType::Q4_1 => f16::from_le_bytes([head[2], head[3]]).to_f32(),
            TensorType::Q4_0 => -8.0 * scale.to_f32(),
            _ => -128.0 * scale.to_f32(),
        };
        if !(scale.is_finite() && bias.is_finite()) {
            return Err("holds a scale that is not a number; the file is damaged".to_owned());
        }
        affine.scales.push(scale);
        affine.biases.push(bias);
        if kind == TensorType::Q8_0 {
            // i8 q to u8 q + 128 is a flip of the top bit.
            packed.extend(values.iter().map(|q| q ^ 0x80));
        } else {
            let (pairs, _) = values.as_chunks::<2>();
            packed.extend(pairs.iter().map(|[a, b]| (a & 0x0F) | (b << 4)));
            packed.extend(pairs.iter().map(|[a, b]| (a >> 4) | (b & 0xF0)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ggml's own definition of a block's values (`dequantize_row_*` in ggml-quants.c).
    fn ggml_values(kind: TensorType, block: &[u8]) -> Vec<f32> {
        let at = |i: usize| f16::from_le_bytes([block[i], block[i + 1]]).to_f32();
        let nibble = |from: usize, i: usize| {
            let byte = block[from + i % 16];
            f32::from(if i < 16 { byte & 15 } else { byte >> 4 })
        };
        (0..32)
            .map(|i| match kind {
                TensorType::Q4_0 => (nibble(2, i) - 8.0) * at(0),
                TensorType::Q4_1 => nibble(4, i) * at(0) + at(2),
                _ => f32::from(block[2 + i] as i8) * at(0),
            })
            .collect()
    }

    /// MLX's definition: bits of a little-endian word stream, lowest first.
    fn mlx_values(group: Group, packed: &[u8], affine: &Affine) -> Vec<f32> {
        let per_byte = 8 / group.bits;
        let mask = u8::MAX >> (8 - group.bits);
        (0..packed.len() * per_byte)
            .map(|i| {
                let q = packed[i / per_byte] >> (i % per_byte * group.bits) & mask;
                let g = i / group.group_size;
                f32::from(q) * affine.scales[g].to_f32() + affine.biases[g]
            })
            .collect()
    }

    #[test]
    fn every_block_keeps_its_values() {
        let mut state = 7u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        for kind in [TensorType::Q4_0, TensorType::Q4_1, TensorType::Q8_0] {
            let mut blocks = Vec::new();
            let mut expected = Vec::new();
            for n in 0u8..50 {
                let mut block: Vec<u8> = (0..kind.block_bytes()).map(|_| random()).collect();
                let d = f16::from_f32(f32::from(n) / 64.0 - 0.3);
                block[..2].copy_from_slice(&d.to_le_bytes());
                if kind == TensorType::Q4_1 {
                    block[2..4].copy_from_slice(&f16::from_f32(-1.25).to_le_bytes());
                }
                expected.extend(ggml_values(kind, &block));
                blocks.extend(block);
            }
            let (mut packed, mut affine) = (Vec::new(), Affine::default());
            repack(kind, &blocks, &mut packed, &mut affine).unwrap();
            assert!(affine.fits_f16());
            assert_eq!(mlx_values(kind.group().unwrap(), &packed, &affine), expected);
        }
    }

    #[test]
    fn an_offset_too_big_for_f16_is_seen_and_a_scale_that_is_no_number_refused() {
        let block = |d: f16| {
            let mut block = vec![0u8; TensorType::Q8_0.block_bytes()];
            block[..2].copy_from_slice(&d.to_le_bytes());
            block
        };
        let (mut packed, mut affine) = (Vec::new(), Affine::default());
        let big = block(f16::from_f32(600.0));
        repack(TensorType::Q8_0, &big, &mut packed, &mut affine).unwrap();
        assert_eq!(affine.biases, [-76_800.0]);
        assert!(!affine.fits_f16());
        let smallest = block(f16::from_bits(1));
        let mut affine = Affine::default();
        repack(TensorType::Q8_0, &smallest, &mut packed, &mut affine).unwrap();
        assert!(affine.fits_f16(), "subnormal scales only grow");
        let nan = block(f16::NAN);
        let error = repack(TensorType::Q8_0, &nan, &mut packed, &mut affine).unwrap_err();
        assert!(error.contains("not a number"));
    }

    #[test]
    fn a_type_that_would_lose_is_refused_with_the_way_out() {
        let error = TensorType::from_ggml(12).unwrap_err();
        assert!(error.contains("Q4_K") && error.contains("llama-quantize"), "{error}");
        assert!(TensorType::from_ggml(99).unwrap_err().contains("unknown ggml type 99"));
    }
}
