//! `tandem manifest`: reads the model's files and writes down what is in them.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{Duration, Instant},
};

use nix::fcntl::{Flock, FlockArg};
use tandem_peer::manifest::{Cache, ManifestError, build};
use tandem_wire::exit;
use tracing::{error, info, warn};

/// Exit code where another time it may go well (`EX_TEMPFAIL` of BSD's `sysexits.h`): the folder is
/// being changed, or is being read by another process.
pub const AGAIN: i32 = 75;

/// How often what was learned is saved while there is more to read: so much of reading a large model
/// a kill may cost.
const SAVE_PERIOD: Duration = Duration::from_secs(10);

/// Reads what changed of a model's folder since `out` was written, and writes `out` anew
/// ([`tandem_peer::manifest::Cache`]). Returns the exit code: 0, [`AGAIN`], [`exit::MODEL`] for a
/// folder that no model can be in, [`exit::OS`] for one that can't be read or an `out` that can't be
/// written.
pub fn run(model_dir: &Path, out: &Path) -> i32 {
    let _lock = match lock(&out.with_extension("lock")) {
        Ok(lock) => lock,
        Err(error) => {
            error!("{} can't be had for this process alone: {error}", out.display());
            return AGAIN;
        }
    };
    let mut cache = Cache::load(out).unwrap_or_else(|error| {
        warn!("{} is of no use, all files are read: {error}", out.display());
        Cache::default()
    });
    let began = Instant::now();
    let mut saved = began;
    let built = build(model_dir, &mut cache, |cache| {
        if saved.elapsed() >= SAVE_PERIOD {
            saved = Instant::now();
            if let Err(error) = cache.save(out) {
                warn!("{} can't be written: {error}", out.display());
            }
        }
    });
    if let Err(error) = cache.save(out) {
        error!("{} can't be written: {error}", out.display());
        return exit::OS;
    }
    match built {
        Ok(built) => {
            info!(
                files = built.manifest.entries().len(),
                bytes_read = built.bytes_read,
                took_ms = began.elapsed().as_millis() as u64,
                digest = built.manifest.digest(),
                "the model's files are read"
            );
            exit::OK
        }
        Err(error) => {
            let code = match &error {
                ManifestError::Changed(_) => AGAIN,
                ManifestError::Refused(_) => exit::MODEL,
                ManifestError::Io { .. } => exit::OS,
            };
            error!("{:#}", anyhow::Error::new(error));
            code
        }
    }
}

/// One reader at a time: a second would only read the same bytes.
fn lock(path: &Path) -> io::Result<Flock<File>> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o640)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno.into())
}
