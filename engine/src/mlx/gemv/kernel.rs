//! The inner loops: each weight is read once, in the order it lies in memory.
//!
//! One weight row at a time with a prefetch ahead of it reads 31 GB/s on one core where two or four
//! rows side by side read 15: what counts is one long stream.

use super::Product;

/// Most rows of a product computed here. One row of a 49152 x 576 head takes 0.4 of OpenBLAS's
/// time, eight rows 0.7; of smaller matrices eight take about as long as there.
pub(in crate::mlx) const MAX_ROWS: usize = 8;

/// How far ahead of the stream memory is asked for: a page, the distance at which one core's
/// reading was fastest.
#[cfg(target_arch = "x86_64")]
const PREFETCH_BYTES: usize = 4096;

/// Instructions that this processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Kernel {
    /// The widest kernel for this processor; `None` forwards everything.
    pub(super) fn detect() -> Option<Self> {
        Self::all().into_iter().next()
    }

    /// Every kernel that this processor can run, the widest first.
    pub(super) fn all() -> Vec<Self> {
        #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut))]
        let mut kernels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("fma") {
                kernels.push(Self::Avx512);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                kernels.push(Self::Avx2);
            }
        }
        kernels
    }

    /// # Safety
    /// The product's pointers are valid for its sizes and strides, `y` overlaps nothing else,
    /// `rows` is from 1 to [`MAX_ROWS`], and this processor has the kernel's instructions.
    #[cfg(target_arch = "x86_64")]
    pub(super) unsafe fn run(self, product: &Product) {
        // SAFETY: by this function's contract.
        unsafe {
            match self {
                Self::Avx512 => avx512::run(product),
                Self::Avx2 => avx2::run(product),
            }
        }
    }

    /// # Safety
    /// Never called: there is no kernel for this processor.
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) unsafe fn run(self, _product: &Product) {
        match self {}
    }
}

/// The same loops for one set of vector instructions.
#[cfg(target_arch = "x86_64")]
macro_rules! kernel {
    ($name:ident, $features:literal, $lanes:literal, $vector:ident,
     $zero:ident, $load:ident, $fma:ident, $add:ident, $store:ident) => {
        mod $name {
            use std::arch::x86_64::*;

            use super::super::Product;
            use super::{MAX_ROWS, PREFETCH_BYTES};

            const LANES: usize = $lanes;

            /// # Safety
            /// As [`super::Kernel::run`].
            #[target_feature(enable = $features)]
            pub(super) unsafe fn run(p: &Product) {
                const { assert!(MAX_ROWS == 8) };
                // SAFETY: by this function's contract; each arm fits `rows`.
                unsafe {
                    match p.rows {
                        1 => rows::<1>(p),
                        2 => rows::<2>(p),
                        3 => rows::<3>(p),
                        4 => rows::<4>(p),
                        5 => rows::<5>(p),
                        6 => rows::<6>(p),
                        7 => rows::<7>(p),
                        _ => rows::<8>(p),
                    }
                }
            }

            #[target_feature(enable = $features)]
            unsafe fn rows<const ROWS: usize>(p: &Product) {
                // SAFETY: as in `run`.
                unsafe {
                    for j in 0..p.n {
                        let sums = dots::<ROWS>(p, p.w.add(j * p.w_stride));
                        put(p, j, &sums);
                    }
                }
            }

            /// One weight row's dot product with each row of `x`.
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn dots<const ROWS: usize>(p: &Product, w: *const f32) -> [f32; ROWS] {
                let mut even = [$zero(); ROWS];
                let mut odd = [$zero(); ROWS];
                let mut i = 0;
                // SAFETY: `i` stays within `k`, the length of `w` and of each row of `x`; a
                // prefetch may name any address.
                unsafe {
                    while i + 2 * LANES <= p.k {
                        let ahead = w.add(i).wrapping_byte_add(PREFETCH_BYTES);
                        _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                        _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(LANES).cast());
                        let w0 = $load(w.add(i));
                        let w1 = $load(w.add(i + LANES));
                        for r in 0..ROWS {
                            let x = p.x.add(r * p.x_stride + i);
                            even[r] = $fma(w0, $load(x), even[r]);
                            odd[r] = $fma(w1, $load(x.add(LANES)), odd[r]);
                        }
                        i += 2 * LANES;
                    }
                    let mut sums = [0.0; ROWS];
                    for r in 0..ROWS {
                        sums[r] = sum($add(even[r], odd[r]));
                        let x = p.x.add(r * p.x_stride);
                        for t in i..p.k {
                            sums[r] = (*w.add(t)).mul_add(*x.add(t), sums[r]);
                        }
                    }
                    sums
                }
            }

            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn put<const ROWS: usize>(p: &Product, j: usize, sums: &[f32; ROWS]) {
                for (r, &sum) in sums.iter().enumerate() {
                    // SAFETY: `r` and `j` are within the result.
                    unsafe { finish(p, p.y.add(r * p.y_row_stride + j * p.y_stride), sum) };
                }
            }

            /// With a `beta` of 0 what `y` held does not count, NaN included: CBLAS's rule.
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn finish(p: &Product, y: *mut f32, sum: f32) {
                let value = p.alpha * sum;
                // SAFETY: `y` is an element of the result.
                unsafe {
                    *y = if p.beta == 0.0 { value } else { p.beta.mul_add(*y, value) };
                }
            }

            /// All lanes, added by halves.
            #[target_feature(enable = $features)]
            #[inline]
            fn sum(v: $vector) -> f32 {
                let mut lanes = [0.0; LANES];
                // SAFETY: the array has as many lanes as the vector.
                unsafe { $store(lanes.as_mut_ptr(), v) };
                let mut half = LANES / 2;
                while half > 0 {
                    for t in 0..half {
                        lanes[t] += lanes[t + half];
                    }
                    half /= 2;
                }
                lanes[0]
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
kernel!(
    avx512,
    "avx512f,fma",
    16,
    __m512,
    _mm512_setzero_ps,
    _mm512_loadu_ps,
    _mm512_fmadd_ps,
    _mm512_add_ps,
    _mm512_storeu_ps
);

#[cfg(target_arch = "x86_64")]
kernel!(
    avx2,
    "avx2,fma",
    8,
    __m256,
    _mm256_setzero_ps,
    _mm256_loadu_ps,
    _mm256_fmadd_ps,
    _mm256_add_ps,
    _mm256_storeu_ps
);
