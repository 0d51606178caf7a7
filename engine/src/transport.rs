//! Measures the ranks' group before anything depends on it: sums of growing size, each of them
//! checked element by element, because neither TCP's checksum nor an RDMA completion proves that
//! what arrived is what was sent.
//!
//! It is the group that will carry the activations, on the very calls that will carry them; none is
//! formed for it. All ranks must call the same collectives in the same order, so everything that
//! decides which sum is next is either a constant or itself a sum over all ranks.

mod pattern;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use mlx_rs::Array;
use tandem_wire::{Transport, TransportRow};

use self::pattern::Pattern;
use crate::EngineError;
use crate::mlx::{Group, adopt, forget_peak};

/// What is measured of one size.
struct Size {
    bytes: u64,
    /// Sums that are checked but not timed: the first ones also pay for buffers and TCP's window.
    warm_up: u32,
    /// Sums that are timed.
    rounds: u32,
}

/// Smallest first. 4 KiB is what decoding one request sends (a hidden state), 64 KiB decoding 16 of
/// them, 1 MiB and 8 MiB a prefill step of a small and of a large model. Larger ones would show no
/// more: a cable of 80 Gb/s carries 8 MiB in 0.84 ms, of which a latency of 50 µs is 6%. And a sum
/// holds six times its size: at 64 MiB that is more than the shard of a small model.
const SIZES: [Size; 4] = [
    Size { bytes: 4 << 10, warm_up: 5, rounds: 20 },
    Size { bytes: 64 << 10, warm_up: 2, rounds: 15 },
    Size { bytes: 1 << 20, warm_up: 2, rounds: 10 },
    Size { bytes: 8 << 20, warm_up: 1, rounds: 3 },
];

/// How many of these are measured however long they take: they tell latency and a first bandwidth
/// of any link, and one that needs seconds for 1 MiB is none that ranks could work over. That they
/// end at all is guarded as the forming of the group is, by `form_timeout_ms`.
const ALWAYS: usize = 2;

/// The whole sweep's time. A larger size is left out if it would take the sweep over this: at 100 Mb/s
/// 1 MiB and 8 MiB. No start shall take noticeably longer for being measured.
const BUDGET: Duration = Duration::from_secs(1);

/// Measures a group. Every rank of it must call this at the same place in its order of collectives.
///
/// # Errors
/// [`EngineError::Integrity`] for a sum that is not exactly right, [`EngineError::Mlx`] for one that
/// failed.
pub fn sweep(group: &Group) -> Result<Transport, EngineError> {
    let began = Instant::now();
    let (rank, world) = (group.rank(), group.size());
    let sum = |x: &Array| group.all_sum(x);
    let rows = Sweep { rank, world, began, round: 0, sum }.run();
    // What was held for this is not to be seen in what the model takes.
    forget_peak();
    let transport = Transport { backend: group.backend().name().to_owned(), world, rows: rows? };
    tracing::info!(
        rank,
        world,
        backend = transport.backend,
        sweep_ms = began.elapsed().as_millis() as u64,
        sums = table(&transport.rows),
        "transport measured"
    );
    Ok(transport)
}

/// One sweep under way. `sum` is the elementwise sum over all ranks.
struct Sweep<F> {
    rank: u32,
    world: u32,
    began: Instant,
    /// Number of the next sum; no two sums are of the same contents.
    round: u32,
    sum: F,
}

impl<F: Fn(&Array) -> Result<Array, EngineError>> Sweep<F> {
    fn run(mut self) -> Result<Vec<TransportRow>, EngineError> {
        let mut rows: Vec<TransportRow> = Vec::new();
        let mut per_byte = 0.0;
        for (index, size) in SIZES.iter().enumerate() {
            let estimate = per_byte * size.bytes as f64 * f64::from(size.warm_up + size.rounds);
            if index >= ALWAYS && !self.agree(Duration::from_secs_f64(estimate))? {
                break;
            }
            let began = Instant::now();
            rows.push(self.row(size)?);
            let sums = f64::from(size.warm_up + size.rounds);
            per_byte = began.elapsed().as_secs_f64() / sums / size.bytes as f64;
        }
        Ok(rows)
    }

    fn row(&mut self, size: &Size) -> Result<TransportRow, EngineError> {
        let mut times = Vec::new();
        for round in 0..size.warm_up + size.rounds {
            let took = self.checked_sum(size.bytes)?;
            if round >= size.warm_up {
                times.push(took.as_nanos() as u64);
            }
        }
        times.sort_unstable();
        Ok(TransportRow {
            bytes: size.bytes,
            rounds: size.rounds,
            median_ns: times.get(times.len() / 2).copied().unwrap_or(0),
            best_ns: times.first().copied().unwrap_or(0),
        })
    }

    /// One sum and the time it took, if it is exactly right.
    fn checked_sum(&mut self, bytes: u64) -> Result<Duration, EngineError> {
        let pattern = Pattern { world: self.world, round: self.round };
        self.round += 1;
        let count = bytes as usize / size_of::<f32>();
        let mine = adopt(pattern.contribution(self.rank, count), &[1, count as i32])?;
        // Ranks take their own time to make and check contents: without this, the clock of one that
        // is early would run while it waits for the others.
        self.count_ranks(&[])?;
        let began = Instant::now();
        let sum = (self.sum)(&mine)?;
        sum.eval()?;
        let took = began.elapsed();
        drop(mine);
        pattern.check(floats(&sum)?, count)?;
        Ok(took)
    }

    /// Whether all ranks go on to a size that this one expects to take so long. Each rank has its
    /// own clock and its own estimate; what decides is their mean, which is the same on all.
    fn agree(&self, estimate: Duration) -> Result<bool, EngineError> {
        let end = (self.began.elapsed() + estimate).as_secs_f32();
        let total = self.count_ranks(&[end])?;
        let mean = total.first().copied().unwrap_or(f32::INFINITY) / self.world as f32;
        Ok(mean <= BUDGET.as_secs_f32())
    }

    /// The sums of a few numbers over all ranks. With them each rank adds 1, and the sum must be
    /// the number of ranks.
    fn count_ranks(&self, numbers: &[f32]) -> Result<Vec<f32>, EngineError> {
        let mut row = numbers.to_vec();
        row.push(1.0);
        let width = row.len();
        let sum = (self.sum)(&adopt(row, &[1, width as i32])?)?;
        match floats(&sum)? {
            [sums @ .., ranks] if *ranks == self.world as f32 && sums.len() == numbers.len() => {
                Ok(sums.to_vec())
            }
            found => Err(EngineError::Integrity(format!(
                "the ranks' group added 1 of each of {} ranks to {:?}: {ADVICE}",
                self.world,
                found.last()
            ))),
        }
    }
}

/// What to do about wrong data.
const ADVICE: &str = "the connection between the ranks delivers wrong data; check its cable and the \
                      versions of the system and of tandem on all nodes";

/// A sum's elements. It is fresh from a sum, so it is contiguous, and nothing of it is copied.
fn floats(array: &Array) -> Result<&[f32], EngineError> {
    array.eval()?;
    array.try_as_slice().map_err(|error| EngineError::Mlx {
        what: "reading a sum over ranks",
        message: error.to_string(),
    })
}

/// For the log, such as `4 KiB 0.050 ms (82 MB/s), 64 KiB 0.100 ms (655 MB/s)`.
fn table(rows: &[TransportRow]) -> String {
    let row = |row: &TransportRow| {
        let ms = row.median_ns as f64 / 1e6;
        let mb_per_s = row.bytes as f64 * 1e3 / row.median_ns.max(1) as f64;
        format!("{} KiB {ms:.3} ms ({mb_per_s:.0} MB/s)", row.bytes >> 10)
    };
    rows.iter().map(row).collect::<Vec<_>>().join(", ")
}
