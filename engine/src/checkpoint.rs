//! A model folder: `config.json` and safetensors files, opened by reading only their headers.
//!
//! Everything a file says about itself is checked before any weight is read: header lengths, types,
//! shapes, offsets, the index. After that [`Checkpoint::read`] takes just the bytes of one rank's
//! part of a tensor from disk, and counts them.

mod header;
mod index;
mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

pub use header::{Dtype, MAX_HEADER_BYTES, TensorInfo};
pub use read::Part;

use crate::EngineError;
use index::Index;
use read::Shelf;

/// Longest `config.json` or index accepted. An index of a 1-trillion-parameter model with one entry
/// per expert tensor is 20 MB; the bound keeps a wrong file from filling memory.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// Why a model folder can't be used. The texts name the file and, where there is one, the tensor.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The system would not open or read a file.
    #[error("can't read {path}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// A file contradicts itself, its size, the index or the format.
    #[error("{path}: {reason}")]
    Malformed {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it, with the numbers.
        reason: String,
    },
    /// A tensor the model needs is not there, or a part of it that does not exist was asked for.
    #[error("tensor {name}: {reason}")]
    Tensor {
        /// The tensor's name in the checkpoint.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

impl CheckpointError {
    fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    fn malformed(path: &Path, reason: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn tensor(name: &str, reason: impl Into<String>) -> Self {
        Self::Tensor { name: name.to_owned(), reason: reason.into() }
    }
}

impl From<CheckpointError> for EngineError {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::Io { path, source } if source.kind() != io::ErrorKind::NotFound => {
                EngineError::Os { what: format!("can't read {}", path.display()), source }
            }
            CheckpointError::Io { path, source } => {
                EngineError::Model(format!("{}: {source}", path.display()))
            }
            other => EngineError::Model(other.to_string()),
        }
    }
}

/// An opened and validated model folder. Reading is `&self` and may happen from several threads.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    config: serde_json::Value,
    tensors: BTreeMap<String, TensorInfo>,
    shelf: Shelf,
    bytes_read: AtomicU64,
}

impl Checkpoint {
    /// Opens a folder with `config.json` and either `model.safetensors.index.json` with its files,
    /// or `model.safetensors`, or any `model*.safetensors`. An index of other files than those that
    /// are there is passed over. Reads headers only.
    ///
    /// # Errors
    /// Whatever in the folder is missing, truncated or inconsistent, by name.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        let config = read_json(&dir.join("config.json"))?;
        if !config.is_object() {
            return Err(CheckpointError::malformed(
                &dir.join("config.json"),
                "is not a JSON object",
            ));
        }
        let index = Index::find(dir)?;
        let mut shelf = Shelf::default();
        let mut tensors = BTreeMap::new();
        for (number, name) in index.files.iter().enumerate() {
            let path = dir.join(name);
            let file = open_regular(&path)?;
            for (tensor, info) in header::read(&file, &path, number)? {
                index.check_listed(&tensor, name)?;
                if tensors.insert(tensor.clone(), info).is_some() {
                    let reason = format!("tensor {tensor} is in another file of the folder too");
                    return Err(CheckpointError::malformed(&path, reason));
                }
            }
            shelf.add(path, &file)?;
        }
        index.check_all_found(&tensors)?;
        let dir = dir.to_owned();
        Ok(Self { dir, config, tensors, shelf, bytes_read: AtomicU64::new(0) })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The content of `config.json`; an object.
    pub fn config(&self) -> &serde_json::Value {
        &self.config
    }

    /// Type, shape and place of a tensor.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// All tensors' names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Bytes of tensor data read from disk so far. Headers, config and index are not counted.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// Bytes of all tensors together, as stored.
    pub fn total_bytes(&self) -> u64 {
        self.tensors.values().map(|t| t.len).sum()
    }

    /// How many bytes [`read`](Self::read) gives for this part.
    ///
    /// # Errors
    /// No such tensor, or the part is not inside it.
    pub fn part_bytes(&self, name: &str, part: &Part) -> Result<usize, CheckpointError> {
        let info = self.require(name)?;
        Ok(read::plan(name, info, part)?.total_bytes)
    }

    /// Reads a part of a tensor: row-major, little-endian as stored. Only these bytes are read.
    ///
    /// # Errors
    /// No such tensor, the part is not inside it, or the system can't read the file.
    pub fn read(&self, name: &str, part: &Part) -> Result<Vec<u8>, CheckpointError> {
        let mut bytes = vec![0; self.part_bytes(name, part)?];
        self.read_into(name, part, &mut bytes)?;
        Ok(bytes)
    }

    /// As [`read`](Self::read), into memory of exactly [`part_bytes`](Self::part_bytes).
    ///
    /// # Errors
    /// As [`read`](Self::read); also when `out` has another length.
    pub fn read_into(
        &self,
        name: &str,
        part: &Part,
        out: &mut [u8],
    ) -> Result<(), CheckpointError> {
        let info = self.require(name)?;
        let plan = read::plan(name, info, part)?;
        if plan.total_bytes != out.len() {
            let reason =
                format!("the part has {} bytes, the buffer {}", plan.total_bytes, out.len());
            return Err(CheckpointError::tensor(name, reason));
        }
        let (path, file) = self.shelf.file(info.file)?;
        read::run(&file, &plan, out).map_err(|e| CheckpointError::io(path, e))?;
        self.bytes_read.fetch_add(out.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn require(&self, name: &str) -> Result<&TensorInfo, CheckpointError> {
        self.tensor(name).ok_or_else(|| {
            CheckpointError::tensor(name, format!("is missing in {}", self.dir.display()))
        })
    }
}

/// Opens a plain file. Links are followed (the Hugging Face cache is made of them); anything that
/// could block or never end, such as a pipe or device, is refused.
fn open_regular(path: &Path) -> Result<File, CheckpointError> {
    let meta = fs::metadata(path).map_err(|e| CheckpointError::io(path, e))?;
    if !meta.is_file() {
        return Err(CheckpointError::malformed(path, "is not a file"));
    }
    File::open(path).map_err(|e| CheckpointError::io(path, e))
}

fn read_json(path: &Path) -> Result<serde_json::Value, CheckpointError> {
    let file = open_regular(path)?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells "too long" from "just fits" without trusting the file size.
    file.take(MAX_JSON_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| CheckpointError::io(path, e))?;
    if bytes.len() as u64 > MAX_JSON_BYTES {
        let reason = format!("is longer than {MAX_JSON_BYTES} bytes");
        return Err(CheckpointError::malformed(path, reason));
    }
    serde_json::from_slice(&bytes)
        .map_err(|e| CheckpointError::malformed(path, format!("is not valid JSON: {e}")))
}
