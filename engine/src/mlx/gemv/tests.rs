use super::*;

/// Numbers from -1 to 1 by a fixed linear congruence: the same in every run.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_769).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1u32 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// One call with its operands; leading dimensions are `pad` longer than they need be.
struct Case {
    trans: (bool, bool),
    sizes: (usize, usize, usize),
    pad: usize,
    alpha: f32,
    beta: f32,
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
}

impl Case {
    fn new(trans: (bool, bool), sizes: (usize, usize, usize), pad: usize) -> Self {
        let (m, n, k) = sizes;
        Self {
            trans,
            sizes,
            pad,
            alpha: 1.0,
            beta: 0.0,
            a: numbers((m + pad) * (k + pad), 1),
            b: numbers((n + pad) * (k + pad), 2),
            c: numbers(m * (n + pad), 3),
        }
    }

    fn strides(&self) -> (usize, usize, usize) {
        let (m, n, k) = self.sizes;
        let lda = if self.trans.0 { m } else { k } + self.pad;
        let ldb = if self.trans.1 { k } else { n } + self.pad;
        (lda, ldb, n + self.pad)
    }

    fn call(&self, c: &mut [f32]) -> Sgemm {
        let (lda, ldb, ldc) = self.strides();
        let (m, n, k) = self.sizes;
        let op = |trans| if trans { TRANS } else { NO_TRANS };
        Sgemm {
            order: ROW_MAJOR,
            trans_a: op(self.trans.0),
            trans_b: op(self.trans.1),
            m: m as c_int,
            n: n as c_int,
            k: k as c_int,
            alpha: self.alpha,
            a: self.a.as_ptr(),
            lda: lda as c_int,
            b: self.b.as_ptr(),
            ldb: ldb as c_int,
            beta: self.beta,
            c: c.as_mut_ptr(),
            ldc: ldc as c_int,
        }
    }

    /// `got` against a plain loop in f64. The tolerance is relative to the sum of magnitudes, which
    /// bounds what any order of adding can do; between the rows nothing may be written.
    fn check(&self, got: &[f32], what: &str) {
        let (lda, ldb, ldc) = self.strides();
        let (m, n, k) = self.sizes;
        for (at, (&value, &old)) in got.iter().zip(&self.c).enumerate() {
            let (r, j) = (at / ldc, at % ldc);
            if j >= n {
                assert_eq!(value, old, "{what}: padding of row {r}");
                continue;
            }
            let (mut sum, mut size) = (0.0f64, 0.0f64);
            for i in 0..k {
                let a = self.a[if self.trans.0 { i * lda + r } else { r * lda + i }];
                let b = self.b[if self.trans.1 { j * ldb + i } else { i * ldb + j }];
                sum += f64::from(a) * f64::from(b);
                size += (f64::from(a) * f64::from(b)).abs();
            }
            let before = if self.beta == 0.0 { 0.0 } else { f64::from(old) };
            let want = f64::from(self.alpha) * sum + f64::from(self.beta) * before;
            let error = (f64::from(value) - want).abs();
            assert!(
                error <= 1e-5 * (size + before.abs() + 1e-3),
                "{what} {m}x{n}x{k} at {r},{j}: {value} for {want}"
            );
        }
    }

    fn run(&self, kernel: Kernel) -> Option<Vec<f32>> {
        let mut c = self.c.clone();
        let product = self.call(&mut c).few_rows()?;
        // SAFETY: the operands are as long as the sizes say, and the kernel is of this processor.
        unsafe { kernel.run(&product) };
        Some(c)
    }
}

/// Sizes around the vector widths, and those of a small model.
const LENGTHS: [usize; 11] = [1, 2, 7, 15, 16, 31, 33, 64, 100, 576, 1536];

#[test]
fn every_kernel_agrees_with_a_plain_loop() {
    for kernel in Kernel::all() {
        for m in 1..=MAX_ROWS {
            for (n, k) in LENGTHS.iter().flat_map(|&n| LENGTHS.map(|k| (n, k))) {
                if n * k > 100_000 && m > 2 {
                    continue;
                }
                let case = Case::new((false, true), (m, n, k), (n + k) % 3);
                case.check(&case.run(kernel).unwrap(), &format!("{kernel:?}"));
            }
        }
    }
}

#[test]
fn one_column_is_a_product_of_one_row() {
    for kernel in Kernel::all() {
        for (m, k) in [(9, 64), (33, 7), (1536, 576)] {
            for trans_b in [true, false] {
                let case = Case::new((false, trans_b), (m, 1, k), 0);
                let c = case.run(kernel).unwrap();
                case.check(&c, &format!("{kernel:?} column, transposed {trans_b}"));
            }
        }
        let row = Case::new((true, true), (1, 20, 64), 0);
        row.check(&row.run(kernel).unwrap(), "a transposed row");
    }
}

#[test]
fn alpha_and_beta_count_and_a_beta_of_zero_ignores_what_was_there() {
    for kernel in Kernel::all() {
        let mut case = Case::new((false, true), (3, 70, 45), 2);
        (case.alpha, case.beta) = (0.125, -2.5);
        case.check(&case.run(kernel).unwrap(), "alpha and beta");

        let mut case = Case::new((false, true), (1, 70, 45), 0);
        case.c.fill(f32::NAN);
        case.check(&case.run(kernel).unwrap(), "over NaN");
    }
}

#[test]
fn a_row_is_the_same_bits_in_every_batch() {
    for kernel in Kernel::all() {
        let alone = Case::new((false, true), (1, 200, 333), 0);
        let first = alone.run(kernel).unwrap();
        for m in 2..=MAX_ROWS {
            let mut batch = Case::new((false, true), (m, 200, 333), 0);
            batch.b.clone_from(&alone.b);
            let last = (m - 1) * 333;
            batch.a[last..last + 333].copy_from_slice(&alone.a[..333]);
            let c = batch.run(kernel).unwrap();
            assert_eq!(c[(m - 1) * 200..], first, "{m} rows");
        }
    }
}

#[test]
fn other_shapes_are_forwarded_and_right() {
    let shapes = [
        ((false, true), (MAX_ROWS + 1, 40, 33)),
        ((false, false), (64, 64, 64)),
        ((true, false), (5, 40, 33)),
        ((false, false), (1, 64, 300)),
    ];
    for (trans, sizes) in shapes {
        let case = Case::new(trans, sizes, 1);
        let mut c = case.c.clone();
        let call = case.call(&mut c);
        assert!(call.few_rows().is_none(), "{sizes:?}");
        // SAFETY: the operands are as long as the sizes say.
        unsafe { call.forward() };
        case.check(&c, "forwarded");
    }
}

#[test]
fn mlx_multiplies_through_this_module() {
    let product = |rows: i32| {
        let x = mlx_rs::Array::from_slice(&numbers(rows as usize * 96, 4), &[rows, 96]);
        let w = mlx_rs::Array::from_slice(&numbers(50 * 96, 5), &[50, 96]);
        let y = x.matmul(w.transpose_axes(&[1, 0]).unwrap()).unwrap();
        y.eval().unwrap();
    };
    let before = products();
    product(1);
    let after = products();
    if Kernel::detect().is_some() {
        assert!(after.0 > before.0, "one row: {before:?} then {after:?}");
    }
    product(64);
    assert!(products().1 > after.1, "many rows: {after:?} then {:?}", products());
}
