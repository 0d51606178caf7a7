//! Llama (and SmolLM2, Mistral): RMS norm, grouped-query attention, SwiGLU.

use super::Decoder;
use crate::EngineError;
use crate::load::Loader;

pub(super) fn load(files: &Loader<'_>) -> Result<Decoder, EngineError> {
    files.decoder(|layer| {
        Ok(super::decoder::Block {
            attention_norm: files.norm(&format!("{layer}.input_layernorm"))?,
            attention: files.attention(&format!("{layer}.self_attn"))?,
            mlp_norm: files.norm(&format!("{layer}.post_attention_layernorm"))?,
            mlp: files.mlp(&format!("{layer}.mlp"))?,
        })
    })
}
