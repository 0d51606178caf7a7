//! The `rank` role: one process, one rank, one model.

use sha2::{Digest, Sha256};
use tandem_wire::{Session, exit};

use crate::settings::RankSetup;
use crate::start::{ModelFiles, start};
use crate::{EngineError, budget, rank};

/// Runs a rank until it is told to unload or can't go on, which it logs; then ends the process with
/// the code that says which ([`tandem_wire::exit`]). Never by returning from `main`: MLX's destructors
/// run into threads of its own that still end, and all that a rank held is given back by then.
pub fn run_rank(setup: RankSetup, session: Session) -> ! {
    let (number, epoch) = (setup.rank, session.epoch);
    let outcome = ModelFiles::open(&setup.model_dir).and_then(|files| {
        // Before any other rank is spoken to: nothing of it has to be undone.
        budget::fit_rank(&files, &setup)?;
        let parity = parity(&files);
        rank::run(setup, session, parity, move |setup, neighbours, tell| {
            start(setup, &files, neighbours, tell)
        })
    });
    match outcome {
        Ok(()) => rank::exit_at_once(exit::OK),
        Err(error) => {
            let code = error.exit_code();
            let cause = chain(&error);
            tracing::error!(rank = number, epoch, code, meaning = exit::meaning(code), "{cause}");
            rank::exit_at_once(code)
        }
    }
}

/// What of the model must be the same on all ranks, by name: two ranks of different models would
/// compute nonsense together, or wait for each other for ever.
fn parity(files: &ModelFiles) -> Vec<(String, Vec<u8>)> {
    let mut tensors = Sha256::new();
    for name in files.checkpoint.names() {
        if let Some(info) = files.checkpoint.tensor(name) {
            tensors.update(format!("{name} {} {:?}\n", info.dtype.name(), info.shape));
        }
    }
    let config = files.checkpoint.config().to_string().into_bytes();
    vec![
        ("the model's config.json".to_owned(), config),
        ("the model's tensors".to_owned(), tensors.finalize().to_vec()),
    ]
}

fn chain(error: &EngineError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
