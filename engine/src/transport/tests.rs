//! The sweep over a group of one, whose sum is what it is given, or a lie.

use std::cell::{Cell, RefCell};

use super::*;

fn sweep_with(sum: impl Fn(&Array) -> Result<Array, EngineError>) -> Result<Vec<u64>, EngineError> {
    let sweep = Sweep { rank: 0, world: 1, began: Instant::now(), round: 0, sum };
    Ok(sweep.run()?.iter().map(|row| row.bytes).collect())
}

#[test]
fn sums_that_are_right_are_reported_smallest_first() {
    let sizes = sweep_with(|x| Ok(x.clone())).unwrap();
    assert!(sizes.starts_with(&[4 << 10, 64 << 10]), "{sizes:?}");
    assert!(sizes.is_sorted());
}

#[test]
fn a_group_that_has_no_time_left_gets_the_first_sizes_only() {
    // As all ranks see it when another of them was slow: the sum of the clocks is large.
    let sum = |x: &Array| {
        let mut row = x.to_vec_cast::<f32>().unwrap();
        if row.len() == 2 {
            row[0] += BUDGET.as_secs_f32();
        }
        adopt(row, x.shape())
    };
    assert_eq!(sweep_with(sum).unwrap(), [4 << 10, 64 << 10]);
}

#[test]
fn a_wrong_sum_ends_the_sweep_whichever_it_is() {
    // One sum of the sweep, counted from 0, delivers an element of the sum before it.
    for lie_at in [0, 24, 25, 41] {
        let count = Cell::new(0);
        let last = RefCell::new(0.5);
        let sum = |x: &Array| {
            let mut row = x.to_vec_cast::<f32>().unwrap();
            if row.len() < 1024 {
                return adopt(row, x.shape());
            }
            let stale = last.replace(row[1000]);
            if count.replace(count.get() + 1) == lie_at {
                row[1000] = stale;
            }
            adopt(row, x.shape())
        };
        let error = sweep_with(sum).unwrap_err();
        assert!(matches!(&error, EngineError::Integrity(m) if m.contains("element 1000")));
        assert_eq!(error.exit_code(), tandem_wire::exit::INTEGRITY);
        assert_eq!(count.get(), lie_at + 1, "nothing is summed after a wrong sum");
    }
}

#[test]
fn a_rank_that_is_counted_twice_is_noticed() {
    let double = |x: &Array| Ok(x.add(x)?);
    assert!(matches!(sweep_with(double), Err(EngineError::Integrity(m)) if m.contains("1 ranks")));
}

#[test]
fn the_log_shows_time_and_bandwidth_of_each_size() {
    let row = |bytes, median_ns| TransportRow { bytes, rounds: 1, median_ns, best_ns: 1 };
    let text = table(&[row(4096, 50_000), row(1 << 20, 1_000_000)]);
    assert_eq!(text, "4 KiB 0.050 ms (82 MB/s), 1024 KiB 1.000 ms (1049 MB/s)");
}
