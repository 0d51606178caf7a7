//! The state on disk: written beside, synced, renamed over; so a reader finds the old one or the
//! new one, never half of one.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use tracing::{error, warn};

use super::run_dir::create_anew;
use crate::policy::{STATE_VERSION, State};

/// Largest state file that is read. A full one is some kilobytes.
const STATE_BYTES_MAX: u64 = 1 << 20;

/// The state could not be written.
#[derive(Debug, thiserror::Error)]
#[error("can't write {}", path.display())]
pub struct SaveError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl SaveError {
    /// An error for this file.
    pub fn new(path: &Path, source: io::Error) -> Self {
        Self { path: path.into(), source }
    }
}

/// The file.
#[derive(Clone, Debug)]
pub struct Store {
    path: PathBuf,
}

impl Store {
    /// The store of a run directory.
    pub fn new(run_dir: &Path) -> Self {
        Self { path: run_dir.join("state.json") }
    }

    /// What was last saved. A missing file is a first start; one that can't be understood is set
    /// aside and said so, and the start is taken as a first one.
    pub fn load(&self, boot: &str) -> State {
        match self.read() {
            Ok(Some(state)) => state.resumed(boot),
            Ok(None) => State::new(boot),
            Err(reason) => {
                let aside = self.path.with_extension("corrupt.json");
                error!("{} can't be used: {reason}", self.path.display());
                match fs::rename(&self.path, &aside) {
                    Ok(()) => warn!("it is kept as {}; starting afresh", aside.display()),
                    Err(error) => warn!("it can't be set aside either: {error}"),
                }
                State::new(boot)
            }
        }
    }

    fn read(&self) -> Result<Option<State>, String> {
        let size = match fs::metadata(&self.path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        if size > STATE_BYTES_MAX {
            return Err(format!("it has {size} bytes"));
        }
        let text = fs::read_to_string(&self.path).map_err(|e| e.to_string())?;
        let state: State = serde_json::from_str(&text).map_err(|e| e.to_string())?;
        if state.version != STATE_VERSION {
            return Err(format!("it has version {}, not {STATE_VERSION}", state.version));
        }
        Ok(Some(state))
    }

    /// Writes the state so that it survives a power cut.
    pub fn save(&self, state: &State) -> Result<(), SaveError> {
        self.write(state).map_err(|source| SaveError::new(&self.path, source))
    }

    fn write(&self, state: &State) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        let mut file = create_anew(&beside)?;
        file.write_all(&serde_json::to_vec(state)?)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        match self.path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_and_damage_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        assert_eq!(store.load("boot"), State::new("boot"), "a first start");

        let state = State { epoch: 7, restarts_ms: vec![1, 2], ..State::new("boot") };
        store.save(&state).unwrap();
        assert_eq!(store.load("boot"), state);
        let rebooted = store.load("another boot");
        assert_eq!((rebooted.epoch, rebooted.restarts_ms.len()), (7, 0), "only the number stays");

        fs::write(folder.path().join("state.json"), "{\"version\":1,\"ep").unwrap();
        assert_eq!(store.load("boot"), State::new("boot"));
        assert!(folder.path().join("state.corrupt.json").exists());
        assert_eq!(store.load("boot"), State::new("boot"), "and is not met again");
    }

    #[test]
    fn a_failed_save_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(&folder.path().join("gone"));
        let message = store.save(&State::new("boot")).unwrap_err().to_string();
        assert!(message.contains("gone/state.json"), "{message}");
    }
}
