//! The `rank` role: one process, one rank, one model.

use sha2::{Digest, Sha256};
use tandem_wire::{Session, exit};

use crate::settings::RankSetup;
use crate::start::{ModelFiles, start};
use crate::{EngineError, rank};

/// Runs a rank until it is told to unload or can't go on; gives the process's exit code, whose
/// meaning is in [`tandem_wire::exit`].
pub fn run_rank(setup: RankSetup, session: Session) -> i32 {
    let (rank, epoch) = (setup.rank, session.epoch);
    let outcome = ModelFiles::open(&setup.model_dir).and_then(|files| {
        let parity = parity(&setup, &files);
        rank::run(setup, session, parity, move |setup, phase| start(setup, &files, phase))
    });
    match outcome {
        Ok(()) => exit::OK,
        Err(error) => {
            let code = error.exit_code();
            let cause = chain(&error);
            tracing::error!(rank, epoch, code, meaning = exit::meaning(code), "{cause}");
            code
        }
    }
}

/// What must be the same on all ranks, by name: two ranks of different models or splits would
/// compute nonsense together, or wait for each other for ever.
fn parity(setup: &RankSetup, files: &ModelFiles) -> Vec<(String, Vec<u8>)> {
    let mut tensors = Sha256::new();
    for name in files.checkpoint.names() {
        if let Some(info) = files.checkpoint.tensor(name) {
            tensors.update(format!("{name} {} {:?}\n", info.dtype.name(), info.shape));
        }
    }
    let settings = &setup.settings;
    let weights: Vec<u32> = setup.ranks.iter().map(|place| place.weight).collect();
    [
        ("tandem's version", env!("CARGO_PKG_VERSION").to_owned()),
        ("the model's config.json", files.checkpoint.config().to_string()),
        ("rank weights", format!("{weights:?}")),
        ("engine.backend", settings.backend.name().to_owned()),
        ("engine.cpu_expand", settings.cpu_expand.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.into_bytes()))
    .chain([("the model's tensors".to_owned(), tensors.finalize().to_vec())])
    .collect()
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
