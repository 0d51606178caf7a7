//! Import of a GGUF file into an MLX model folder, without loss.
//!
//! ```text
//!  FILE.gguf ─reader─▶ header ─architecture─▶ plan ──▶ staging folder ─rename─▶ models/NAME
//!                        │ (all checks)         └ weights: tensor by tensor
//!                        └─tokenizer────────────▶ tokenizer.json, chat template
//! ```
//!
//! Nothing is written before the header, the shapes and the vocabulary were checked; nothing stands
//! under the final name before the folder is complete, on disk and has been opened as a model.

mod architecture;
mod blocks;
mod error;
mod folder;
mod metadata;
mod pretokenizer;
mod reader;
mod rope;
mod sentence_piece;
mod tokenizer;
mod weights;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

pub use error::ImportError;

use crate::checkpoint::Checkpoint;
use crate::model_config::ModelConfig;
use error::Fault;
use folder::{Published, Staging};

/// Longest model name; file systems take 255 bytes.
const MAX_NAME_BYTES: usize = 128;

/// A finished import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The model folder.
    pub dir: PathBuf,
    /// Tensors in it.
    pub tensors: usize,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// The same model was there already; nothing was changed.
    pub already_there: bool,
}

/// Imports `file` as `models_dir/NAME`, where the name is `name` or the file's without `.gguf`.
///
/// # Errors
/// The file can't be read, is damaged or holds something unsupported (named, with what to do); the
/// name is unusable or taken by another model; the disk can't be written. Nothing is left behind
/// under the name then, and temporary files are removed now or, after a kill, by the next import.
pub fn import(file: &Path, models_dir: &Path, name: Option<&str>) -> Result<Imported, ImportError> {
    let target = models_dir.join(check_name(file, name)?);
    if !fs::metadata(file).map_err(|e| ImportError::read(file, e))?.is_file() {
        return Err(Fault::Bad("is not a file".to_owned()).at(file));
    }
    let source = File::open(file).map_err(|e| ImportError::read(file, e))?;
    let header = reader::read(&source).map_err(|fault| fault.at(file))?;
    let factors = match header.tensors.iter().find(|t| t.name == rope::FACTORS) {
        Some(tensor) => {
            Some(weights::read_floats(&source, tensor).map_err(|fault| fault.at(file))?)
        }
        None => None,
    };
    let refuse = |reason| Fault::Bad(reason).at(file);
    let plan = architecture::plan(&header, factors.as_deref()).map_err(refuse)?;
    let rows = plan.config["vocab_size"].as_u64().unwrap_or(0) as usize;
    let text = tokenizer::convert(&header.metadata, rows).map_err(refuse)?;

    let staging = Staging::create(models_dir)?;
    let entries = weights::write(&source, file, &plan, &staging.path().join("model.safetensors"))?;
    let index = index(&entries);
    for (name, value, pretty) in [
        ("model.safetensors.index.json", &index, true),
        ("config.json", &plan.config, true),
        ("generation_config.json", &text.generation, true),
        ("special_tokens_map.json", &text.special, true),
        ("tokenizer_config.json", &text.config, true),
        // One token a line would make it three times as long.
        ("tokenizer.json", &text.tokenizer, false),
    ] {
        let text = if pretty { format!("{value:#}\n") } else { value.to_string() };
        staging.write(name, text.as_bytes())?;
    }
    check_loads(staging.path())
        .map_err(|source| ImportError::Unloadable { path: file.to_owned(), source })?;
    let already_there = staging.publish(&target)? == Published::Same;
    let bytes = entries.iter().map(|e| e.bytes).sum();
    Ok(Imported { dir: target, tensors: entries.len(), bytes, already_there })
}

/// Opens the new folder as a rank will: what was written must be what loading accepts.
fn check_loads(dir: &Path) -> Result<(), crate::model_config::ConfigError> {
    ModelConfig::load(&Checkpoint::open(dir)?).map(drop)
}

fn index(entries: &[weights::Entry]) -> Value {
    let file = Value::from("model.safetensors");
    let map: Map<_, _> = entries.iter().map(|e| (e.name.clone(), file.clone())).collect();
    let bytes: u64 = entries.iter().map(|e| e.bytes).sum();
    json!({"metadata": {"total_size": bytes}, "weight_map": map})
}

fn check_name<'a>(file: &'a Path, name: Option<&'a str>) -> Result<&'a str, ImportError> {
    let stem = || file.file_stem().and_then(|s| s.to_str()).unwrap_or("");
    let name = name.unwrap_or_else(stem);
    let bad = |reason| ImportError::Name { name: name.to_owned(), reason };
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err(bad("must have 1 to 128 characters; give one with --name"));
    }
    if !name.chars().all(allowed) {
        return Err(bad("may hold only letters, digits, '.', '_' and '-'; give one with --name"));
    }
    if name.starts_with(['.', '-']) {
        return Err(bad("must not begin with '.' or '-'; give one with --name"));
    }
    Ok(name)
}
