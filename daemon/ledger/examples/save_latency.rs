//! How long a save takes here: `cargo run --release --example save_latency [FOLDER]`.
//!
//! Without a folder it writes to a temporary one, which may be on another kind of disk than the
//! ledger's.

use std::{error::Error, path::Path, time::Instant};

use tandem_ledger::{Ledger, Limits};
use tandem_policy::{Event, State, What};

/// Enough for a 99th percentile of five values.
const SAVES: u64 = 500;

fn main() -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    let folder = std::env::args().nth(1);
    let folder = folder.as_deref().map_or(temporary.path(), Path::new);
    let (mut ledger, _) = Ledger::open(folder, Limits::default())?;
    let mut took_us = Vec::new();
    for number in 0..SAVES {
        let state = State { epoch: number, ..State::new("boot") };
        let event = Event {
            wall_ms: number,
            boot_ms: number,
            what: What::Order { order: format!("order {number}") },
        };
        let began = Instant::now();
        ledger.save(&state, &[event.clone(), event])?;
        took_us.push(began.elapsed().as_micros());
    }
    took_us.sort_unstable();
    let at = |percent: usize| took_us.get((took_us.len() * percent).div_ceil(100) - 1);
    println!(
        "{SAVES} saves of a state and two events: p50 {:?} us, p99 {:?} us, longest {:?} us",
        at(50).unwrap_or(&0),
        at(99).unwrap_or(&0),
        took_us.last().unwrap_or(&0)
    );
    Ok(())
}
