//! The lives that every change of the product must get through.

use crate::{
    coverage::Coverage,
    life,
    run::{Seeds, live_all},
};

/// Lives that every test run goes through.
const SEEDS: u64 = 2_000;

#[test]
fn every_promise_is_kept_in_many_lives() {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let sum = live_all(Seeds { from: 0, count: SEEDS }, threads, |_| {});
    if let Some((seed, why)) = sum.first_broken {
        let log = life::live(seed, true).log;
        let tail = log.len().saturating_sub(60);
        panic!("seed {seed}: {why}\n{}", log[tail..].join("\n"));
    }
    assert_eq!(sum.coverage.missing(), Vec::<String>::new(), "no life met these");
}

#[test]
fn every_seed_that_ever_failed_is_kept() {
    for line in include_str!("../seeds.txt").lines() {
        let Some(word) = line.split_whitespace().next().filter(|word| !word.starts_with('#'))
        else {
            continue;
        };
        let seed: u64 = word.parse().unwrap();
        let outcome = life::live(seed, false);
        assert_eq!(outcome.broken, None, "seed {seed} ({line})");
    }
}

#[test]
fn a_seed_replays_its_life_exactly() {
    for seed in 0..20 {
        let (one, two) = (life::live(seed, true), life::live(seed, true));
        assert_eq!(one.log, two.log, "seed {seed}");
        assert!(one.log.len() > 100, "seed {seed} had hardly a life");
        let quiet = life::live(seed, false);
        let mut coverages = [Coverage::default(), Coverage::default()];
        coverages[0].add(&one.met);
        coverages[1].add(&quiet.met);
        assert_eq!(coverages[0].to_string(), coverages[1].to_string(), "telling changes nothing");
    }
}
