//! Which tensors a config describes, and whether the checkpoint has exactly these.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use super::{Group, ModelConfig};
use crate::checkpoint::{Checkpoint, CheckpointError, Dtype, TensorInfo};

/// A linear layer or embedding: `weight` is [rows, columns] when dense.
pub(crate) struct Matrix {
    pub(crate) module: String,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) bias: bool,
}

impl ModelConfig {
    /// Every matrix of the model, dense shape.
    pub(crate) fn matrices(&self) -> Vec<Matrix> {
        let (hidden, ffn) = (self.hidden_size, self.intermediate_size);
        let q = self.num_attention_heads * self.head_dim;
        let kv = self.num_key_value_heads * self.head_dim;
        let matrix = |module: String, rows, columns, bias| Matrix { module, rows, columns, bias };
        let mut all = vec![matrix(EMBEDDING.to_owned(), self.vocab_size, hidden, false)];
        if !self.tie_word_embeddings {
            all.push(matrix(HEAD.to_owned(), self.vocab_size, hidden, false));
        }
        for layer in 0..self.num_hidden_layers {
            for (name, rows, columns, bias) in [
                ("self_attn.q_proj", q, hidden, self.attention_bias),
                ("self_attn.k_proj", kv, hidden, self.attention_bias),
                ("self_attn.v_proj", kv, hidden, self.attention_bias),
                ("self_attn.o_proj", hidden, q, self.attention_output_bias),
                ("mlp.gate_proj", ffn, hidden, self.mlp_bias),
                ("mlp.up_proj", ffn, hidden, self.mlp_bias),
                ("mlp.down_proj", hidden, ffn, self.mlp_bias),
            ] {
                all.push(matrix(format!("model.layers.{layer}.{name}"), rows, columns, bias));
            }
        }
        all
    }

    /// Every norm of the model, with its length.
    pub(crate) fn norms(&self) -> Vec<(String, usize)> {
        let mut all = vec![("model.norm".to_owned(), self.hidden_size)];
        for layer in 0..self.num_hidden_layers {
            let name = |norm: &str| format!("model.layers.{layer}.{norm}");
            all.push((name("input_layernorm"), self.hidden_size));
            all.push((name("post_attention_layernorm"), self.hidden_size));
            if self.qk_norm {
                all.push((name("self_attn.q_norm"), self.head_dim));
                all.push((name("self_attn.k_norm"), self.head_dim));
            }
        }
        all
    }
}

pub(crate) const EMBEDDING: &str = "model.embed_tokens";
pub(crate) const HEAD: &str = "lm_head";

/// A module without `.scales` in the checkpoint is dense even under a default quantisation; mlx-lm
/// does the same, its converter leaves such modules out of the config.
pub(super) fn settle_quantization(
    config: &mut ModelConfig,
    checkpoint: &Checkpoint,
) -> Result<(), CheckpointError> {
    let matrices = config.matrices();
    let Some(quantization) = &mut config.quantization else {
        return Ok(());
    };
    for matrix in matrices {
        let stored = checkpoint.tensor(&format!("{}.scales", matrix.module)).is_some();
        if stored || quantization.overrides.get(&matrix.module).is_some_and(Option::is_some) {
            continue;
        }
        quantization.overrides.insert(matrix.module, None);
    }
    Ok(())
}

/// Checks names, shapes and types of all tensors.
pub(super) fn check(config: &ModelConfig, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
    let mut check = Check { checkpoint, known: BTreeSet::new() };
    for matrix in config.matrices() {
        check.matrix(&matrix, config.group(&matrix.module))?;
    }
    for (norm, len) in config.norms() {
        check.float(format!("{norm}.weight"), &[len])?;
    }
    check.no_others(config)
}

struct Check<'a> {
    checkpoint: &'a Checkpoint,
    known: BTreeSet<String>,
}

impl Check<'_> {
    fn matrix(&mut self, matrix: &Matrix, group: Option<Group>) -> Result<(), CheckpointError> {
        let Matrix { module, rows, columns, bias } = matrix;
        let weight = format!("{module}.weight");
        match group {
            None => {
                self.float(weight, &[*rows, *columns])?;
            }
            Some(group) => {
                if columns % group.group_size != 0 {
                    let reason = format!(
                        "{columns} columns do not divide into groups of {}",
                        group.group_size
                    );
                    return Err(CheckpointError::tensor(&weight, reason));
                }
                let info = self.shaped(weight.clone(), &[*rows, group.words(*columns)])?;
                if info.dtype != Dtype::U32 {
                    let reason = format!("is {}, quantised weights are U32", info.dtype);
                    return Err(CheckpointError::tensor(&weight, reason));
                }
                let groups = [*rows, columns / group.group_size];
                let scales = self.float(format!("{module}.scales"), &groups)?;
                let biases = format!("{module}.biases");
                if self.float(biases.clone(), &groups)? != scales {
                    return Err(CheckpointError::tensor(&biases, "has not its scales' type"));
                }
            }
        }
        if *bias {
            self.float(format!("{module}.bias"), &[*rows])?;
        }
        Ok(())
    }

    fn float(&mut self, name: String, shape: &[usize]) -> Result<Dtype, CheckpointError> {
        let dtype = self.shaped(name.clone(), shape)?.dtype;
        if !dtype.is_float() {
            let reason = format!("is {dtype}, it must be F32, F16 or BF16");
            return Err(CheckpointError::tensor(&name, reason));
        }
        Ok(dtype)
    }

    fn shaped(&mut self, name: String, shape: &[usize]) -> Result<&TensorInfo, CheckpointError> {
        let Some(info) = self.checkpoint.tensor(&name) else {
            let reason = format!(
                "is missing in {}; config.json asks for it",
                self.checkpoint.dir().display()
            );
            return Err(CheckpointError::tensor(&name, reason));
        };
        if info.shape != shape {
            let reason = format!("has the shape {:?}, config.json makes it {shape:?}", info.shape);
            return Err(CheckpointError::tensor(&name, reason));
        }
        self.known.insert(name);
        Ok(info)
    }

    /// A tensor nobody would use means that the config is not this checkpoint's: answers would be
    /// wrong without a word. Known leftovers of converters are let pass.
    fn no_others(&self, config: &ModelConfig) -> Result<(), CheckpointError> {
        let leftover = |name: &str| {
            name.ends_with(".rotary_emb.inv_freq")
                || (config.tie_word_embeddings && name.starts_with("lm_head."))
        };
        match self.checkpoint.names().find(|n| !self.known.contains(*n) && !leftover(n)) {
            None => Ok(()),
            Some(name) => {
                let reason = format!(
                    "is unknown to a {} model with this config.json",
                    config.model_type.name()
                );
                Err(CheckpointError::tensor(name, reason))
            }
        }
    }
}
