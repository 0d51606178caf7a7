//! The model's files by name, size and content: two nodes may serve together only if theirs are the
//! same.
//!
//! ```text
//!  child, as the children's user                     supervisor
//!  list ▶ what changed since the cache? ▶ hash ──▶   manifest.json  ──▶ list; does it still hold? ──▶
//!         (build)                                    (Cache)            (Cache::manifest)      digest
//! ```
//!
//! Hashing reads every byte of files that root must not parse, and takes minutes for a large model;
//! so a child does it, and the supervisor believes its hashes only as long as every file is the one,
//! by its [`Stamp`], that was hashed.

mod build;
mod cache;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use build::{Built, build};
pub use cache::{Cache, SAVED_BYTES_MAX};

/// Most entries of a folder that are looked at, noise included, so that a listing ends. A model is
/// some hundreds at most.
const ENTRIES_MAX: usize = 10_000;

/// Most files of a model. A list of that many still fits into one message between nodes.
pub const FILES_MAX: usize = 4_096;

/// Endings of the files that any role reads: the engine weights, their index and `config.json`, the
/// gateway the tokeniser's and the template's. Whatever else lies in the folder (a README, a
/// licence, a download's notes and locks, the tokeniser in a form that nobody here reads) can't make
/// two nodes answer differently, so it must not keep them from serving together.
const ENDINGS: [&str; 3] = [".safetensors", ".json", ".jinja"];

/// Why there is no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The system would not list or read something.
    #[error("can't read {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Something in the folder can't be part of a model.
    #[error("{0}")]
    Refused(String),
    /// A file changed while it was read: later it may be still.
    #[error("{0} changed while it was read; try again when nothing writes to the folder")]
    Changed(String),
}

impl ManifestError {
    fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        |source| Self::Io { path, source }
    }
}

/// One file of the model.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestEntry {
    /// Where it is in the model's folder.
    pub path: String,
    /// Its size, in bytes.
    pub size_bytes: u64,
    /// BLAKE3 of its content: 64 digits of lower-case hex.
    pub blake3: String,
}

/// All files of a model and what is in them.
#[derive(Clone, PartialEq, Eq)]
pub struct Manifest {
    entries: Vec<ManifestEntry>,
    digest: String,
}

impl Manifest {
    /// Of these files, in any order.
    pub fn of(mut entries: Vec<ManifestEntry>) -> Self {
        entries.sort();
        let mut hasher = blake3::Hasher::new();
        for ManifestEntry { path, size_bytes, blake3 } in &entries {
            hasher.update(format!("{path}\0{size_bytes}\0{blake3}\n").as_bytes());
        }
        let digest = hasher.finalize().to_hex().to_string();
        Self { entries, digest }
    }

    /// The files, sorted by path.
    pub fn entries(&self) -> &[ManifestEntry] {
        &self.entries
    }

    /// BLAKE3, in hex, over a line `path NUL size NUL blake3 LF` for each file in order of paths
    /// (as bytes), sizes in decimal. A path holds neither NUL nor LF, so no two lists have the same
    /// lines.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

/// What tells a file from the same path's earlier or later one without reading it. The time of the
/// last change (`ctime`) is in it because nobody can set it: content that was changed under the old
/// size and the old time of modification still shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stamp {
    size_bytes: u64,
    mtime_ns: i64,
    ctime_ns: i64,
    inode: u64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        // 2^63 ns reach to the year 2262.
        let ns = |seconds: i64, ns: i64| seconds.saturating_mul(1_000_000_000).saturating_add(ns);
        Self {
            size_bytes: metadata.size(),
            mtime_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
        }
    }
}

/// The files of a model's folder as they are now, not what is in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing(BTreeMap<String, Stamp>);

/// Lists a model's folder: the files in it that a role reads, and those that links in it lead to, as
/// a download's cache has them. Nothing in folders below it: no role reads there.
///
/// # Errors
/// [`ManifestError::Io`] for a folder or file that is not there or can't be looked at,
/// [`ManifestError::Refused`] for too many files, a name that can't be told to other nodes, or
/// something by a model file's name that is no file (a pipe, a device).
pub fn list(dir: &Path) -> Result<Listing, ManifestError> {
    let mut files = BTreeMap::new();
    for (count, entry) in fs::read_dir(dir).map_err(ManifestError::io(dir))?.enumerate() {
        let entry = entry.map_err(ManifestError::io(dir))?;
        if count >= ENTRIES_MAX || files.len() >= FILES_MAX {
            return Err(ManifestError::Refused(format!(
                "{} has more than {ENTRIES_MAX} entries or {FILES_MAX} files of a model; give \
                 model.path a folder of its own",
                dir.display()
            )));
        }
        let name = entry.file_name();
        if !is_read(&name.to_string_lossy()) {
            continue;
        }
        let metadata = fs::metadata(entry.path()).map_err(ManifestError::io(entry.path()))?;
        if metadata.is_dir() {
            continue;
        }
        if !metadata.is_file() {
            return Err(refused(dir, &name, "is neither a file nor a link to one"));
        }
        match name.to_str().filter(|name| !name.contains(char::is_control)) {
            Some(text) => files.insert(text.to_owned(), Stamp::of(&metadata)),
            None => return Err(refused(dir, &name, "has a name that is not printable UTF-8")),
        };
    }
    Ok(Listing(files))
}

/// Whether any role reads a file of this name. What is hidden none does.
fn is_read(name: &str) -> bool {
    !name.starts_with('.') && ENDINGS.iter().any(|ending| name.ends_with(ending))
}

fn refused(dir: &Path, name: &std::ffi::OsStr, why: &str) -> ManifestError {
    ManifestError::Refused(format!("{:?} {why}; remove it from the model's folder", dir.join(name)))
}
