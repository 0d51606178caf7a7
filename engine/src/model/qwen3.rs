//! Qwen3 (dense): Llama with a norm on each query and key head.

use super::Decoder;
use crate::EngineError;
use crate::load::Loader;

pub(super) fn load(files: &Loader<'_>) -> Result<Decoder, EngineError> {
    files.decoder(|layer| {
        let mut attention = files.attention(&format!("{layer}.self_attn"))?;
        attention.query_norm = Some(files.norm(&format!("{layer}.self_attn.q_norm"))?);
        attention.key_norm = Some(files.norm(&format!("{layer}.self_attn.k_norm"))?);
        Ok(super::decoder::Block {
            attention_norm: files.norm(&format!("{layer}.input_layernorm"))?,
            attention,
            mlp_norm: files.norm(&format!("{layer}.post_attention_layernorm"))?,
            mlp: files.mlp(&format!("{layer}.mlp"))?,
        })
    })
}
