//! The lives that every change of the product must get through.

use tandem_policy::Ended;
use tandem_wire::exit;

use crate::{
    coverage::Coverage,
    life::{self, Life},
    run::{Kind, Seed, Seeds, live_all},
};

/// Lives that every test run goes through.
const SEEDS: u64 = 2_000;

/// The same for lives of several nodes, each of which takes as long as several.
const PAIR_SEEDS: u64 = 300;

fn live_many(kind: Kind, count: u64) {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let sum = live_all(Seeds { kind, from: 0, count }, threads, |_| {});
    if let Some((seed, why)) = sum.first_broken {
        let log = seed.live(true).log;
        let tail = log.len().saturating_sub(60);
        panic!("seed {seed}: {why}\n{}", log[tail..].join("\n"));
    }
    assert_eq!(sum.coverage.missing(kind), Vec::<String>::new(), "no life met these");
}

#[test]
fn every_promise_is_kept_in_many_lives() {
    live_many(Kind::Alone, SEEDS);
}

#[test]
fn every_promise_is_kept_in_many_lives_of_several_nodes() {
    live_many(Kind::Pair, PAIR_SEEDS);
}

/// Lives that nobody has lived, in every test run others: so many of one node, and of several.
const FRESH: u64 = 500;
const FRESH_PAIR: u64 = 75;

/// First of the fresh seeds: above all that was ever lived on purpose.
const FRESH_FROM: u64 = 1 << 32;

/// A promise that is broken in one of these is a find, not what the change that is tested did; so
/// it is told so loudly that nobody overlooks it, with its seed to keep, and fails nothing. That these
/// are lived at all is what is tested.
fn live_fresh(kind: Kind, count: u64) {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let from = FRESH_FROM + clock.as_millis() as u64 % FRESH_FROM;
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let lived = std::sync::atomic::AtomicU64::new(0);
    let count_one = |_| {
        lived.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    };
    let sum = live_all(Seeds { kind, from, count }, threads, count_one);
    match sum.first_broken {
        None => {
            let first = Seed { kind, number: from };
            assert_eq!(lived.into_inner(), count, "fresh lives from {first}");
        }
        Some((seed, why)) => shout(&format!(
            "A FRESH LIFE BROKE A PROMISE: seed {seed}: {why}\n\
             It is no regression of this change by itself. See\n  \
             cargo run --release -p tests --bin simulate -- --seed {seed} --verbose\n\
             mend its cause, and keep the seed in tests/seeds.txt."
        )),
    }
}

/// Past the capture of a test that passes, to the terminal or log of whoever runs it.
fn shout(text: &str) {
    use std::io::Write;
    let bar = "!".repeat(100);
    let _ = writeln!(std::io::stderr().lock(), "\n{bar}\n{text}\n{bar}");
}

#[test]
fn fresh_lives_are_lived_and_what_they_find_is_told() {
    live_fresh(Kind::Alone, FRESH);
    live_fresh(Kind::Pair, FRESH_PAIR);
}

#[test]
fn every_seed_that_ever_failed_is_kept() {
    for line in include_str!("../seeds.txt").lines() {
        let Some(word) = line.split_whitespace().next().filter(|word| !word.starts_with('#'))
        else {
            continue;
        };
        let seed: Seed = word.parse().unwrap();
        let outcome = seed.live(false);
        assert_eq!(outcome.broken, None, "seed {seed} ({line})");
    }
}

/// A life without troubles, until it serves.
fn calm(seed: u64) -> Life {
    let mut life = Life::new(seed, true);
    life.node.heal();
    for _ in 0..500 {
        life.turn();
        if life.is_healthy() {
            return life;
        }
    }
    panic!("seed {seed} never served\n{}", life.node.log.unwrap_or_default().join("\n"));
}

#[test]
fn a_model_that_cannot_be_served_is_tried_once() {
    for seed in 0..50 {
        let mut life = calm(seed);
        let last = life.node.ranks.len() - 1;
        life.node.end_rank(last, Ended::Code(exit::MODEL));
        for _ in 0..300 {
            life.turn();
        }
        assert_eq!(life.node.broken, None, "seed {seed}");
        assert_eq!(life.node.record.starts, 1, "seed {seed}: it was started again");
        let held = life.status.and_then(|status| status.held).unwrap_or_default();
        assert!(held.contains(&format!("rank {last}")), "seed {seed}: {held}");
        assert!(held.contains("model folder") && held.contains("tandem release"), "{held}");
    }
}

#[test]
fn a_node_without_trouble_starts_once_and_writes_hardly_anything() {
    for seed in 0..50 {
        let mut life = calm(seed);
        let saves = life.node.record.saves;
        for turn in 0..300 {
            life.turn();
            assert!(life.is_healthy(), "seed {seed}: {turn} turns after it served");
        }
        assert_eq!(life.node.broken, None, "seed {seed}");
        assert_eq!(life.node.record.starts, 1, "seed {seed}");
        // Running time is written down every ten minutes; the end of a pause or two may be, too.
        let more = life.node.record.saves - saves;
        assert!(more <= 10, "seed {seed}: {more} saves in 300 quiet turns");
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
