//! Lives many simulated lives and tells the first that breaks a promise.

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use tests::run::{Kind, Seed, Seeds, live_all, seed_now};

/// Lines of the log that are shown of a life that failed.
const TAIL: usize = 60;

/// Fewer lives of one kind may not meet everything.
const COVERED_FROM: u64 = 2_000;

/// Which lives.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Nodes {
    /// One node alone.
    Alone,
    /// Two to four nodes that serve one model together.
    Pair,
    /// First those of one node, then those of several.
    Both,
}

#[derive(Parser)]
#[command(about = "Simulated lives of one node and of several, each from one seed")]
struct Arguments {
    /// Of how many nodes.
    #[arg(long, value_enum, default_value_t = Nodes::Both)]
    nodes: Nodes,
    /// How many seeds to live, of each kind.
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Live only this one: 17 is a life of one node, pair-17 one of several.
    #[arg(long)]
    seed: Option<Seed>,
    /// With --seed: show the whole log.
    #[arg(long, requires = "seed")]
    verbose: bool,
    /// Threads; 0 is one for each core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Do not ask that every trouble was met.
    #[arg(long)]
    no_coverage: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A life that panics has failed, also where a panic aborts.
    std::panic::set_hook(Box::new(|panic| {
        let seed = seed_now().map_or_else(String::new, |seed| seed.to_string());
        println!("seed {seed} FAILED: {panic}");
        std::process::exit(1);
    }));
    if let Some(seed) = arguments.seed {
        return replay(seed, if arguments.verbose { usize::MAX } else { TAIL });
    }
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = if arguments.threads == 0 { cores() } else { arguments.threads };
    let kinds = match arguments.nodes {
        Nodes::Alone => [Kind::Alone].as_slice(),
        Nodes::Pair => &[Kind::Pair],
        Nodes::Both => &[Kind::Alone, Kind::Pair],
    };
    for kind in kinds {
        let code = live_kind(&arguments, *kind, threads);
        if code != ExitCode::SUCCESS {
            return code;
        }
    }
    ExitCode::SUCCESS
}

/// Lives all of one kind.
fn live_kind(arguments: &Arguments, kind: Kind, threads: usize) -> ExitCode {
    let seeds = Seeds { kind, from: arguments.from, count: arguments.seeds };
    let of = match kind {
        Kind::Alone => "one node",
        Kind::Pair => "several nodes",
    };
    let every = (arguments.seeds / 20).max(100);
    let sum = live_all(seeds, threads, |done| {
        if done.is_multiple_of(every) {
            eprintln!("{done} of {} lives of {of}", arguments.seeds);
        }
    });
    if let Some((seed, _)) = sum.first_broken {
        return replay(seed, TAIL);
    }
    println!("Lives of {of}:");
    print!("{}", sum.coverage);
    let missing = sum.coverage.missing(kind);
    if arguments.seeds >= COVERED_FROM && !arguments.no_coverage && !missing.is_empty() {
        eprintln!("no life met: {}", missing.join(", "));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Lives one seed and shows the end of its log, or all.
fn replay(seed: Seed, lines: usize) -> ExitCode {
    let outcome = seed.live(true);
    let first = outcome.log.len().saturating_sub(lines);
    for line in outcome.log.iter().skip(first) {
        println!("{line}");
    }
    match outcome.broken {
        Some(why) => {
            println!("seed {seed} FAILED: {why}");
            println!(
                "all of it: cargo run --release -p tests --bin simulate -- --seed {seed} --verbose"
            );
            ExitCode::FAILURE
        }
        None => {
            println!("seed {seed} kept every promise");
            ExitCode::SUCCESS
        }
    }
}
