//! Many lives, on all cores.

use std::{
    cell::Cell,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    coverage::Coverage,
    life::{self, Outcome},
};

thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// The seed that this thread lives now, for a panic's message.
pub fn seed_now() -> Option<u64> {
    SEED.get()
}

/// Seeds that are lived: `from`, and so many from there on.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    /// The first.
    pub from: u64,
    /// How many.
    pub count: u64,
}

/// How the lives went.
pub struct Sum {
    /// What they met.
    pub coverage: Coverage,
    /// The lowest seed that broke a promise, and which.
    pub first_broken: Option<(u64, String)>,
}

/// Lives these, on so many threads; `progress` is told how many are done. Stops at a failure once
/// all lower seeds are done, so that the lowest that fails is found.
pub fn live_all(seeds: Seeds, threads: usize, progress: impl Fn(u64) + Sync) -> Sum {
    let next = AtomicU64::new(0);
    let broken_at = AtomicU64::new(u64::MAX);
    let sum = Mutex::new(Sum { coverage: Coverage::default(), first_broken: None });
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                let mut coverage = Coverage::default();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let seed = seeds.from + index;
                    if index >= seeds.count || seed > broken_at.load(Ordering::Relaxed) {
                        break;
                    }
                    SEED.set(Some(seed));
                    let Outcome { met, broken, .. } = life::live(seed, false);
                    coverage.add(&met);
                    if let Some(why) = broken {
                        broken_at.fetch_min(seed, Ordering::Relaxed);
                        note(&sum, seed, why);
                    }
                    progress(index + 1);
                }
                lock(&sum).coverage.merge(&coverage);
            });
        }
    });
    sum.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn note(sum: &Mutex<Sum>, seed: u64, why: String) {
    let mut sum = lock(sum);
    if sum.first_broken.as_ref().is_none_or(|(first, _)| seed < *first) {
        sum.first_broken = Some((seed, why));
    }
}

fn lock(sum: &Mutex<Sum>) -> std::sync::MutexGuard<'_, Sum> {
    sum.lock().unwrap_or_else(PoisonError::into_inner)
}
