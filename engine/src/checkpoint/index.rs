//! Which weight files a folder has, and where its index says each tensor is.
//!
//! Tools that quantise, merge or split a model again often leave the old index behind. mlx-lm looks
//! at no index but takes what is there; so an index that names other files than the folder's is
//! *stale* and is passed over, if what is there instead is whole. Whether it has every tensor is
//! seen when the model's own list of them is checked. One that names some files that are there and
//! some that are not tells of a download that is not complete.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::{CheckpointError, TensorInfo, read_json};

/// Most weight files in one folder; the largest published models have about 200.
const MAX_FILES: usize = 4096;

const NAME: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";

/// The weight files to open.
pub(super) struct Index {
    path: PathBuf,
    pub(super) files: Vec<String>,
    /// Tensor to file; `None` without an index.
    map: Option<BTreeMap<String, String>>,
}

impl Index {
    pub(super) fn find(dir: &Path) -> Result<Self, CheckpointError> {
        let path = dir.join(NAME);
        let index = if path.exists() { Some(Self::parse(path)?) } else { None };
        let here = |file: &String| dir.join(file).exists();
        let index = match index {
            Some(index) if index.files.iter().all(here) => return Ok(index),
            other => other,
        };
        let found = weight_files(dir)?;
        if let Some(index) = index {
            return index.passed_over(dir, found);
        }
        let files =
            if found.iter().any(|name| name == SINGLE) { vec![SINGLE.to_owned()] } else { found };
        if files.is_empty() {
            let reason = "has no model.safetensors; is it a model folder in HF or MLX form? \
                          A GGUF file is turned into one by `tandem model import FILE.gguf`";
            return Err(CheckpointError::malformed(dir, reason));
        }
        Self { path: dir.to_owned(), files, map: None }.bounded()
    }

    /// What to open in place of this index's files, some of which are not there. `found`: what is.
    fn passed_over(self, dir: &Path, found: Vec<String>) -> Result<Self, CheckpointError> {
        let (named, others): (Vec<String>, Vec<String>) =
            found.into_iter().partition(|name| self.files.contains(name));
        let whole = if others.iter().any(|name| name == SINGLE) {
            vec![SINGLE.to_owned()]
        } else {
            whole_split(&others)
        };
        let gone = self.files.iter().filter(|name| !dir.join(name).exists());
        let (count, first) = (gone.clone().count(), gone.clone().next().map_or("", String::as_str));
        let files = self.files.len();
        if whole.is_empty() {
            let reason = format!(
                "names {files} files, of which {count} are not here, the first {first}; {}",
                if named.is_empty() {
                    "download the model again"
                } else {
                    "download the rest of the model"
                }
            );
            return Err(CheckpointError::malformed(&self.path, reason));
        }
        tracing::warn!(
            "{} names {count} files that are not here, the first {first}; taking {} in their place. \
             Remove the index if that is right",
            self.path.display(),
            whole.join(", ")
        );
        Self { path: dir.to_owned(), files: whole, map: None }.bounded()
    }

    fn parse(path: PathBuf) -> Result<Self, CheckpointError> {
        let bad = |reason: String| CheckpointError::malformed(&path, reason);
        let json = read_json(&path)?;
        let Some(entries) = json.get("weight_map").and_then(|m| m.as_object()) else {
            return Err(bad("has no object \"weight_map\"".to_owned()));
        };
        let mut map = BTreeMap::new();
        let mut files = BTreeSet::new();
        for (tensor, file) in entries {
            let Some(file) = file.as_str() else {
                return Err(bad(format!("the entry of {tensor} is not a file name")));
            };
            // Only plain names: an index must not make us read outside its folder.
            let plain = !file.contains(['/', '\\', '\0']) && file.ends_with(".safetensors");
            if !plain || file.starts_with('.') || file.len() > 255 {
                return Err(bad(format!(
                    "the entry of {tensor} is {file:?}; it must be a .safetensors file in the \
                     same folder"
                )));
            }
            files.insert(file.to_owned());
            map.insert(tensor.clone(), file.to_owned());
        }
        if files.is_empty() {
            return Err(bad("lists no tensors".to_owned()));
        }
        Self { files: files.into_iter().collect(), map: Some(map), path }.bounded()
    }

    fn bounded(self) -> Result<Self, CheckpointError> {
        if self.files.len() > MAX_FILES {
            let reason = format!("{} weight files; at most {MAX_FILES}", self.files.len());
            return Err(CheckpointError::malformed(&self.path, reason));
        }
        Ok(self)
    }

    pub(super) fn check_listed(&self, tensor: &str, file: &str) -> Result<(), CheckpointError> {
        let Some(map) = &self.map else { return Ok(()) };
        let reason = match map.get(tensor) {
            Some(listed) if listed == file => return Ok(()),
            Some(listed) => format!("says tensor {tensor} is in {listed}, it is in {file}"),
            None => format!("does not list tensor {tensor}, which is in {file}"),
        };
        Err(CheckpointError::malformed(&self.path, reason))
    }

    pub(super) fn check_all_found(
        &self,
        tensors: &BTreeMap<String, TensorInfo>,
    ) -> Result<(), CheckpointError> {
        let Some(map) = &self.map else { return Ok(()) };
        match map.iter().find(|(tensor, _)| !tensors.contains_key(*tensor)) {
            None => Ok(()),
            Some((tensor, file)) => {
                let reason = format!("says tensor {tensor} is in {file}, it is not there");
                Err(CheckpointError::malformed(&self.path, reason))
            }
        }
    }
}

/// All `model*.safetensors`, sorted.
fn weight_files(dir: &Path) -> Result<Vec<String>, CheckpointError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| CheckpointError::io(dir, e))? {
        let entry = entry.map_err(|e| CheckpointError::io(dir, e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("model") && name.ends_with(".safetensors") {
            files.push(name);
        }
    }
    files.sort();
    Ok(files)
}

/// The files, if they are all of one split: `model-00002-of-00003.safetensors` says of how many.
fn whole_split(files: &[String]) -> Vec<String> {
    let numbered: BTreeSet<(usize, usize)> =
        files.iter().filter_map(|name| number_of(name)).collect();
    let counts: BTreeSet<usize> = numbered.iter().map(|(_, count)| *count).collect();
    let whole = match counts.first() {
        None => true,
        Some(count) => {
            counts.len() == 1
                && numbered.len() == files.len()
                && numbered.iter().map(|(number, _)| *number).eq(1..=*count)
        }
    };
    if whole { files.to_vec() } else { Vec::new() }
}

/// Number and count in a name such as `model-00002-of-00003.safetensors`.
fn number_of(name: &str) -> Option<(usize, usize)> {
    let (head, count) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
    let (_, number) = head.rsplit_once('-')?;
    Some((number.parse().ok()?, count.parse().ok()?))
}
