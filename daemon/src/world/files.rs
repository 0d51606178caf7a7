//! What is known of the model's files: what is in them, since when, and where they differ from those
//! with which serving was last proven.

use std::{io, path::Path};

use serde::{Deserialize, Serialize};
use tandem_peer::manifest::{Manifest, ManifestEntry, SAVED_BYTES_MAX};
use tandem_policy::ManifestSeen;

use super::own_file::{Access, atomic_write, read_own};

/// How differences are worded: what is only now there, and what was only before.
const TIMES: [&str; 2] = ["now", "before"];

/// Raised when the form of the saved file changes; one of another form is as good as none.
const VERSION: u32 = 1;

/// The model's files, as far as they are known.
#[derive(Default)]
pub(super) struct ModelFiles {
    /// What is in them, and since when, in milliseconds since boot.
    now: Option<(Manifest, u64)>,
    /// Those with which serving was last proven.
    proven: Option<Manifest>,
    /// Where the two differ.
    changed: Option<Vec<String>>,
}

impl ModelFiles {
    /// Nothing is known but what was proven.
    pub(super) fn of(proven: Option<Manifest>) -> Self {
        Self { proven, ..Self::default() }
    }

    /// What was found in them, and since when, in milliseconds since boot; `None` while that is not
    /// known.
    pub(super) fn see(&mut self, now: Option<(Manifest, u64)>) {
        self.now = now;
        self.compare();
    }

    /// What is in them.
    pub(super) fn manifest(&self) -> Option<&Manifest> {
        self.now.as_ref().map(|(manifest, _)| manifest)
    }

    /// The same, for policy.
    pub(super) fn seen(&self) -> Option<ManifestSeen> {
        let (manifest, since_ms) = self.now.as_ref()?;
        Some(ManifestSeen {
            digest: manifest.digest().to_owned(),
            since_ms: *since_ms,
            changed: self.changed.clone(),
        })
    }

    /// Takes the files of this digest for proven, if they are still there. Returns what is to be
    /// saved.
    pub(super) fn keep(&mut self, digest: &str) -> Option<Manifest> {
        let manifest = self.manifest().filter(|manifest| manifest.digest() == digest)?.clone();
        self.proven = Some(manifest.clone());
        self.compare();
        Some(manifest)
    }

    fn compare(&mut self) {
        let both = self.manifest().zip(self.proven.as_ref());
        self.changed = both.map(|(now, proven)| now.differences(proven, TIMES));
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: u32,
    /// The model's folder: another model was never proven.
    model_dir: String,
    files: Vec<ManifestEntry>,
}

/// Saves the files with which serving was proven.
///
/// # Errors
/// The file can't be written.
pub(super) fn save(path: &Path, model_dir: &Path, proven: &Manifest) -> io::Result<()> {
    let model_dir = model_dir.to_string_lossy().into_owned();
    let saved = Saved { version: VERSION, model_dir, files: proven.entries().to_vec() };
    atomic_write(path, &serde_json::to_vec(&saved)?, Access::OWN)
}

/// What was saved of this model; `None` if nothing was.
///
/// # Errors
/// The file can't be read, or is not one that this version has saved.
pub(super) fn load(path: &Path, model_dir: &Path) -> io::Result<Option<Manifest>> {
    let text = match read_own(path, SAVED_BYTES_MAX) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let saved: Saved = serde_json::from_slice(&text)?;
    let is_of_model = saved.version == VERSION && saved.model_dir == model_dir.to_string_lossy();
    Ok(is_of_model.then(|| Manifest::of(saved.files)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(rows: &[(&str, u64, &str)]) -> Manifest {
        let entry = |(path, size_bytes, blake3): &(&str, u64, &str)| ManifestEntry {
            path: (*path).into(),
            size_bytes: *size_bytes,
            blake3: (*blake3).into(),
        };
        Manifest::of(rows.iter().map(entry).collect())
    }

    #[test]
    fn files_are_compared_with_those_that_were_proven() {
        let (sound, damaged) = (manifest(&[("a", 1, "x")]), manifest(&[("a", 1, "y")]));
        let mut files = ModelFiles::of(None);
        assert_eq!(files.seen(), None);
        files.see(Some((sound.clone(), 7)));
        let seen = files.seen().unwrap();
        assert_eq!((seen.since_ms, seen.changed), (7, None), "nothing was proven yet");
        assert!(files.keep(damaged.digest()).is_none(), "these are not there");
        assert_eq!(files.keep(sound.digest()), Some(sound.clone()));
        assert_eq!(files.seen().unwrap().changed, Some(Vec::new()));

        files.see(Some((damaged.clone(), 9)));
        let changed = files.seen().unwrap().changed.unwrap();
        assert_eq!(changed, ["a: the same size, other content before"]);
        files.see(None);
        assert_eq!(files.seen(), None);
        files.see(Some((sound, 11)));
        assert_eq!(files.seen().unwrap().changed, Some(Vec::new()), "restored");
    }

    #[test]
    fn what_was_proven_outlives_the_supervisor_and_is_of_one_model() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("proven.json");
        let model = Path::new("/models/one");
        assert_eq!(load(&path, model).unwrap(), None);
        let proven = manifest(&[("a", 1, "x"), ("b", 2, "y")]);
        save(&path, model, &proven).unwrap();
        assert_eq!(load(&path, model).unwrap(), Some(proven));
        assert_eq!(load(&path, Path::new("/models/two")).unwrap(), None);
        std::fs::write(&path, "{").unwrap();
        assert!(load(&path, model).is_err());
    }
}
