//! Models: one file an architecture, named as `model_type` in config.json names it, each a short
//! description of how the shared parts are put together.

pub mod attention;
pub mod cache;
mod cpu;
pub mod decoder;
pub mod linear;
pub mod mlp;
pub mod rope;

mod llama;
mod qwen2;
mod qwen3;

pub use decoder::{Decoder, SequenceCache};

use crate::EngineError;
use crate::load::Loader;
use crate::model_config::ModelType;

/// Reads this rank's shard of the model.
pub fn load(files: &Loader<'_>) -> Result<Decoder, EngineError> {
    match files.config.model_type {
        // Mistral's dense models are Llama's in all but name.
        ModelType::Llama | ModelType::Mistral => llama::load(files),
        ModelType::Qwen2 => qwen2::load(files),
        ModelType::Qwen3 => qwen3::load(files),
    }
}
