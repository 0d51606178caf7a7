//! Hashes of files that were read before, kept in one small JSON file. Also how the child that reads
//! the files tells the supervisor what it found.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use serde::{Deserialize, Serialize};

use super::{FILES_MAX, Listing, Manifest, ManifestEntry, Stamp};

/// Most bytes of the saved file: [`FILES_MAX`] rows of the longest names (255 bytes, each of which
/// may need two in JSON) and 350 bytes of numbers and field names.
pub const SAVED_BYTES_MAX: u64 = 4 << 20;

/// Raised when the form of the saved file changes; one of another form is as good as none.
const VERSION: u32 = 1;

/// What is known of files' contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cache(BTreeMap<String, Known>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    stamp: Stamp,
    blake3: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: u32,
    files: Vec<SavedFile>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedFile {
    path: String,
    blake3: String,
    stamp: Stamp,
}

impl Cache {
    /// Reads what was saved; nothing is known if nothing was. The file may be another user's: a link
    /// or a pipe in its place is not followed or waited for, and only a bounded list in exactly the
    /// form of [`Self::save`] is taken.
    ///
    /// # Errors
    /// The file can't be read, or is not one that this version has saved.
    pub fn load(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path);
        let file = match file {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
        if !file.metadata()?.is_file() {
            return Err(bad("it is no file"));
        }
        let mut text = Vec::new();
        file.take(SAVED_BYTES_MAX + 1).read_to_end(&mut text)?;
        if text.len() as u64 > SAVED_BYTES_MAX {
            return Err(bad("it is larger than any list of a model's files"));
        }
        let saved: Saved = serde_json::from_slice(&text)?;
        let is_hash = |text: &str| {
            text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        if saved.version != VERSION || saved.files.len() > FILES_MAX {
            return Err(bad("it is of another version, or lists too many files"));
        }
        if !saved.files.iter().all(|file| is_hash(&file.blake3)) {
            return Err(bad("one of its hashes is none"));
        }
        let known = |f: SavedFile| (f.path, Known { stamp: f.stamp, blake3: f.blake3 });
        Ok(Self(saved.files.into_iter().map(known).collect()))
    }

    /// Saves it in place of what was saved before, at once or not at all.
    ///
    /// # Errors
    /// The folder does not take the file, or the file beside it (`.new`) through which it goes.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let file = |(path, known): (&String, &Known)| SavedFile {
            path: path.clone(),
            blake3: known.blake3.clone(),
            stamp: known.stamp,
        };
        let saved = Saved { version: VERSION, files: self.0.iter().map(file).collect() };
        let new = path.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(&new)?;
        file.write_all(&serde_json::to_vec(&saved)?)?;
        // What was paid for with minutes of reading should outlive a power cut.
        file.sync_all()?;
        fs::rename(&new, path)
    }

    /// The manifest of these files; `None` unless the content of every one of them, as it is now, is
    /// known.
    pub fn manifest(&self, listing: &Listing) -> Option<Manifest> {
        let entry = |(path, stamp): (&String, &Stamp)| {
            Some(ManifestEntry {
                path: path.clone(),
                size_bytes: stamp.size_bytes,
                blake3: self.get(path, stamp)?.to_owned(),
            })
        };
        let entries = listing.0.iter().map(entry).collect::<Option<Vec<_>>>()?;
        Some(Manifest::of(entries))
    }

    /// The hash of a file, if this very file was hashed.
    pub(super) fn get(&self, path: &str, stamp: &Stamp) -> Option<&str> {
        let known = self.0.get(path).filter(|known| known.stamp == *stamp)?;
        Some(&known.blake3)
    }

    pub(super) fn insert(&mut self, path: String, stamp: Stamp, blake3: String) {
        self.0.insert(path, Known { stamp, blake3 });
    }

    /// Forgets files that are not there any more.
    pub(super) fn keep_only(&mut self, listing: &Listing) {
        self.0.retain(|path, _| listing.0.contains_key(path));
    }
}
