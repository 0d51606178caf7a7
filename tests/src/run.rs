//! Many lives, on all cores.
//!
//! A seed with its kind names a life: `17` is one of a node alone, `pair-17` one of several nodes.

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
    pair,
};

/// Before the number of a life of several nodes.
const PAIR_PREFIX: &str = "pair-";

thread_local! {
    static SEED: Cell<Option<Seed>> = const { Cell::new(None) };
}

/// The seed that this thread lives now, for a panic's message.
pub fn seed_now() -> Option<Seed> {
    SEED.get()
}

/// How many nodes a life is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One node alone.
    Alone,
    /// Two to four nodes that serve one model together.
    Pair,
}

/// One life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed {
    /// Of how many nodes.
    pub kind: Kind,
    /// Its number among those of this kind.
    pub number: u64,
}

impl Seed {
    /// Lives it.
    pub fn live(self, tells: bool) -> Outcome {
        match self.kind {
            Kind::Alone => life::live(self.number, tells),
            Kind::Pair => pair::live(self.number, tells),
        }
    }
}

impl std::fmt::Display for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            Kind::Alone => write!(f, "{}", self.number),
            Kind::Pair => write!(f, "{PAIR_PREFIX}{}", self.number),
        }
    }
}

impl std::str::FromStr for Seed {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let (kind, number) = match word.strip_prefix(PAIR_PREFIX) {
            Some(number) => (Kind::Pair, number),
            None => (Kind::Alone, word),
        };
        let number = number.parse().map_err(|_| format!("{word} is no seed: 17 or pair-17 is"))?;
        Ok(Self { kind, number })
    }
}

/// Seeds that are lived: `from`, and so many from there on.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    /// Of how many nodes.
    pub kind: Kind,
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
    pub first_broken: Option<(Seed, String)>,
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
                    let named = Seed { kind: seeds.kind, number: seed };
                    SEED.set(Some(named));
                    let Outcome { met, broken, .. } = named.live(false);
                    coverage.add(&met);
                    if let Some(why) = broken {
                        broken_at.fetch_min(seed, Ordering::Relaxed);
                        note(&sum, named, why);
                    }
                    progress(index + 1);
                }
                lock(&sum).coverage.merge(&coverage);
            });
        }
    });
    sum.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn note(sum: &Mutex<Sum>, seed: Seed, why: String) {
    let mut sum = lock(sum);
    if sum.first_broken.as_ref().is_none_or(|(first, _)| seed.number < first.number) {
        sum.first_broken = Some((seed, why));
    }
}

fn lock(sum: &Mutex<Sum>) -> std::sync::MutexGuard<'_, Sum> {
    sum.lock().unwrap_or_else(PoisonError::into_inner)
}
