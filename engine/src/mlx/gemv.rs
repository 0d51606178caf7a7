//! Products of few rows on Linux's CPU back end, at the speed of memory.
//!
//! MLX's CPU back end multiplies by `cblas_sgemm` alone. For a product of one row, which is what
//! decoding one sequence is made of, OpenBLAS's packs the whole weight matrix first and reads
//! 8 GB/s where one core can read 30. This module defines `cblas_sgemm` in the executable, which
//! the dynamic linker prefers to any library's: products of few rows go to [`kernel`], all others
//! on to the next `cblas_sgemm` in the search order, OpenBLAS's.
//!
//! Every sum is made in an order that only the sizes decide, and a row's is the same in a batch
//! of one and of [`MAX_ROWS`].

#![allow(unsafe_code)]

mod kernel;

use std::ffi::c_int;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use kernel::Kernel;
pub(super) use kernel::MAX_ROWS;

/// `CblasRowMajor`, `CblasNoTrans` and `CblasTrans` of `cblas.h`.
const ROW_MAJOR: c_int = 101;
const NO_TRANS: c_int = 111;
const TRANS: c_int = 112;

static KERNEL_PRODUCTS: AtomicU64 = AtomicU64::new(0);
static FORWARDED_PRODUCTS: AtomicU64 = AtomicU64::new(0);

/// How many products MLX has asked of this process: computed here, and forwarded to OpenBLAS.
/// Both stay 0 if the linker did not let this module in between.
pub fn products() -> (u64, u64) {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    (count(&KERNEL_PRODUCTS), count(&FORWARDED_PRODUCTS))
}

/// The arguments of `cblas_sgemm`: `c = alpha * op(a) @ op(b) + beta * c`, where `op(a)` is
/// `[m, k]` and `op(b)` is `[k, n]`.
#[derive(Clone, Copy)]
struct Sgemm {
    order: c_int,
    trans_a: c_int,
    trans_b: c_int,
    m: c_int,
    n: c_int,
    k: c_int,
    alpha: f32,
    a: *const f32,
    lda: c_int,
    b: *const f32,
    ldb: c_int,
    beta: f32,
    c: *mut f32,
    ldc: c_int,
}

/// `y[r, j] = alpha * Σ_i x[r, i] w[j, i] + beta * y[r, j]` for `rows` rows of `x`. A row
/// of `x` and of `w` is contiguous, `k` long; `w` has `n`.
#[derive(Clone, Copy)]
struct Product {
    rows: usize,
    x: *const f32,
    x_stride: usize,
    w: *const f32,
    w_stride: usize,
    y: *mut f32,
    y_row_stride: usize,
    y_stride: usize,
    n: usize,
    k: usize,
    alpha: f32,
    beta: f32,
}

impl Sgemm {
    /// This call as a product of few rows, if it is one.
    fn few_rows(&self) -> Option<Product> {
        let size = |n: c_int| usize::try_from(n).ok().filter(|&n| n > 0);
        let (m, n, k) = (size(self.m)?, size(self.n)?, size(self.k)?);
        let (lda, ldb, ldc) = (size(self.lda)?, size(self.ldb)?, size(self.ldc)?);
        if self.order != ROW_MAJOR {
            return None;
        }
        // The one row of a transposed operand is contiguous if its leading dimension is 1.
        let plain_a = self.trans_a == NO_TRANS || (self.trans_a == TRANS && m == 1 && lda == 1);
        // A weight stored `[k, n]`, as attention's values are, gains nothing here: OpenBLAS has it.
        if m <= MAX_ROWS && plain_a && self.trans_b == TRANS {
            return Some(Product {
                rows: m,
                x: self.a,
                x_stride: lda,
                w: self.b,
                w_stride: ldb,
                y: self.c,
                y_row_stride: ldc,
                y_stride: 1,
                n,
                k,
                alpha: self.alpha,
                beta: self.beta,
            });
        }
        // A matrix times one column: the same with the operands' roles exchanged.
        let plain_b = self.trans_b == TRANS || (self.trans_b == NO_TRANS && ldb == 1);
        (n == 1 && plain_b && self.trans_a == NO_TRANS).then_some(Product {
            rows: 1,
            x: self.b,
            x_stride: k,
            w: self.a,
            w_stride: lda,
            y: self.c,
            y_row_stride: 1,
            y_stride: ldc,
            n: m,
            k,
            alpha: self.alpha,
            beta: self.beta,
        })
    }

    /// # Safety
    /// The operands are what `cblas_sgemm` asks for.
    unsafe fn forward(&self) {
        let Some(next) = *NEXT.get_or_init(next_sgemm) else {
            // The caller can't be told: its function returns nothing.
            eprintln!("no BLAS library with cblas_sgemm is loaded; install libopenblas0-pthread");
            std::process::abort();
        };
        // SAFETY: by this function's contract; `next` is a BLAS library's cblas_sgemm.
        unsafe {
            next(
                self.order,
                self.trans_a,
                self.trans_b,
                self.m,
                self.n,
                self.k,
                self.alpha,
                self.a,
                self.lda,
                self.b,
                self.ldb,
                self.beta,
                self.c,
                self.ldc,
            );
        }
    }
}

type SgemmFn = unsafe extern "C" fn(
    c_int,
    c_int,
    c_int,
    c_int,
    c_int,
    c_int,
    f32,
    *const f32,
    c_int,
    *const f32,
    c_int,
    f32,
    *mut f32,
    c_int,
);

static NEXT: OnceLock<Option<SgemmFn>> = OnceLock::new();

/// The `cblas_sgemm` that MLX would have had without this module.
fn next_sgemm() -> Option<SgemmFn> {
    // SAFETY: the name is NUL-terminated; RTLD_NEXT searches the libraries after this executable.
    let symbol = unsafe { nix::libc::dlsym(nix::libc::RTLD_NEXT, c"cblas_sgemm".as_ptr()) };
    // SAFETY: a symbol of this name has the type that the CBLAS interface gives it, and an optional
    // function pointer is null when the symbol is.
    unsafe { std::mem::transmute::<*mut std::ffi::c_void, Option<SgemmFn>>(symbol) }
}

static KERNEL: OnceLock<Option<Kernel>> = OnceLock::new();

/// CBLAS's single-precision matrix product, in place of the library's.
///
/// # Safety
/// As in CBLAS: each matrix pointer is valid for the sizes and leading dimension given with it, and
/// `c` overlaps neither `a` nor `b`.
#[unsafe(no_mangle)]
#[allow(unreachable_pub)] // for the dynamic linker
#[allow(clippy::too_many_arguments)] // CBLAS's interface
pub unsafe extern "C" fn cblas_sgemm(
    order: c_int,
    trans_a: c_int,
    trans_b: c_int,
    m: c_int,
    n: c_int,
    k: c_int,
    alpha: f32,
    a: *const f32,
    lda: c_int,
    b: *const f32,
    ldb: c_int,
    beta: f32,
    c: *mut f32,
    ldc: c_int,
) {
    let call = Sgemm { order, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc };
    let kernel = *KERNEL.get_or_init(Kernel::detect);
    if let (Some(kernel), Some(product)) = (kernel, call.few_rows()) {
        KERNEL_PRODUCTS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's operands are valid, and `few_rows` describes the same elements.
        unsafe { kernel.run(&product) };
    } else {
        FORWARDED_PRODUCTS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: by this function's own contract.
        unsafe { call.forward() };
    }
}

#[cfg(test)]
mod tests;
