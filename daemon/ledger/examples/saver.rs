//! Saves in a loop and prints what the ledger says is saved, for the tests that end it midway.
//!
//! ```text
//! saver endless FOLDER         saves until killed; prints each number once it is saved
//! saver until-full FOLDER      saves until a save fails; prints the last number saved, exits 0
//! saver some FOLDER COUNT      saves so often; prints the same
//! saver make-room FOLDER FILE  as until-full, then removes FILE, saves once more and prints that number
//! ```

use std::{
    error::Error,
    fs,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use tandem_ledger::{Ledger, Limits, Opened};
use tandem_policy::{Event, State, What};

/// More than any disk of the tests holds.
const SAVES_MAX: u64 = 1_000_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["endless", folder] => save(Path::new(folder), SAVES_MAX, None, false),
        ["some", folder, count] => match count.parse() {
            Ok(count) => save(Path::new(folder), count, None, false),
            Err(error) => Err(error.into()),
        },
        ["until-full", folder] => save(Path::new(folder), SAVES_MAX, None, true),
        ["make-room", folder, ballast] => {
            save(Path::new(folder), SAVES_MAX, Some(Path::new(ballast)), true)
        }
        _ => Err("saver endless|some|until-full|make-room FOLDER [COUNT|FILE]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}: {:?}", error.source());
            ExitCode::FAILURE
        }
    }
}

fn save(
    folder: &Path,
    saves: u64,
    ballast: Option<&Path>,
    ends_when_full: bool,
) -> Result<(), Box<dyn Error>> {
    let (mut ledger, opened) = Ledger::open(folder, Limits::default())?;
    let mut state = match opened {
        Opened::Found(state) => *state,
        Opened::Fresh => State::new("boot"),
        Opened::SetAside { why, .. } => return Err(why.into()),
    };
    let mut out = io::stdout().lock();
    for _ in 0..saves {
        state.epoch += 1;
        match ledger.save(&state, &events(state.epoch)) {
            Ok(()) => {
                // One line a save, so that what is read was saved.
                writeln!(out, "{}", state.epoch)?;
                out.flush()?;
            }
            Err(error) if ends_when_full => {
                let is_full = error.is_full();
                writeln!(out, "failed full={is_full} {error}: {:?}", error.source())?;
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(ballast) = ballast {
        fs::remove_file(ballast)?;
        // The number that could not be saved, again.
        ledger.save(&state, &events(state.epoch))?;
        writeln!(out, "{}", state.epoch)?;
    }
    Ok(())
}

/// Two events that name the save, of several pages, so that a save has something to tear.
fn events(number: u64) -> [Event; 2] {
    let event = |half: &str| Event {
        wall_ms: number,
        boot_ms: number,
        what: What::Order { order: format!("{number} {half} {}", "x".repeat(3_000)) },
    };
    [event("first"), event("second")]
}
