//! Bytes of a rank's weights, as `load.rs` keeps them.

use super::Form;
use crate::EngineError;
use crate::checkpoint::Dtype;
use crate::model_config::Group;
use crate::shard::{ShardPlan, tensor_part};
use crate::start::ModelFiles;

/// What a rank's weights take.
#[derive(Debug, Default)]
pub(super) struct Weights {
    /// In memory, once loaded.
    pub(super) bytes: u64,
    /// Most bytes held beside them while one more is read.
    pub(super) loading_bytes: u64,
    /// Bytes of a value that is computed with them.
    pub(super) value_bytes: u64,
}

struct Count<'a> {
    files: &'a ModelFiles,
    plan: &'a ShardPlan,
    form: Form,
    /// The type that all weights compute in so far.
    value: Option<Dtype>,
    total: Weights,
}

/// Counts every tensor that the loader would read, and nothing else.
pub(super) fn weights(
    files: &ModelFiles,
    plan: &ShardPlan,
    form: Form,
) -> Result<Weights, EngineError> {
    let mut count = Count { files, plan, form, value: None, total: Weights::default() };
    for matrix in files.config.matrices() {
        let module = &matrix.module;
        match files.config.group(module) {
            None => count.float(&format!("{module}.weight"))?,
            Some(group) => count.quantised(module, group)?,
        }
        // Of a row-parallel projection only rank 0 has the bias.
        let is_row_parallel = module.ends_with(".o_proj") || module.ends_with(".down_proj");
        if matrix.bias && (!is_row_parallel || plan.rank == 0) {
            count.float(&format!("{module}.bias"))?;
        }
    }
    for (norm, _) in files.config.norms() {
        count.float(&format!("{norm}.weight"))?;
    }
    count.total.value_bytes = match (form, count.value) {
        (Form::Metal, Some(dtype)) => dtype.bytes() as u64,
        _ => 4,
    };
    Ok(count.total)
}

impl Count<'_> {
    /// Type and stored bytes of this rank's part of a tensor.
    fn stored(&self, name: &str) -> Result<(Dtype, u64), EngineError> {
        let part = tensor_part(self.plan, &self.files.config, name)?;
        let bytes = self.files.checkpoint.part_bytes(name, &part)? as u64;
        let info = self.files.checkpoint.tensor(name);
        let info = info.ok_or_else(|| EngineError::Software(format!("{name} is not indexed")))?;
        Ok((info.dtype, bytes))
    }

    /// Bytes of a float tensor in memory: as stored on Metal, in f32 on a CPU
    /// (`model::linear::compute_dtype`).
    fn kept(&mut self, name: &str) -> Result<(u64, u64), EngineError> {
        let (dtype, stored) = self.stored(name)?;
        // Two half types meet in f32, as MLX promotes them.
        self.value = match self.value {
            Some(other) if other != dtype => Some(Dtype::F32),
            _ => Some(dtype),
        };
        let width = match self.form {
            Form::Metal => dtype.bytes() as u64,
            Form::Cpu { .. } => 4,
        };
        Ok((stored / dtype.bytes() as u64 * width, stored))
    }

    fn float(&mut self, name: &str) -> Result<(), EngineError> {
        let (kept, stored) = self.kept(name)?;
        self.add(kept, self.read_bytes(stored));
        Ok(())
    }

    fn quantised(&mut self, module: &str, group: Group) -> Result<(), EngineError> {
        let (_, words) = self.stored(&format!("{module}.weight"))?;
        let (scales, stored_scales) = self.kept(&format!("{module}.scales"))?;
        let (biases, stored_biases) = self.kept(&format!("{module}.biases"))?;
        let stored = words + stored_scales + stored_biases;
        if self.form == (Form::Cpu { expand: true }) {
            // Scales and biases are widened to f32 before each group becomes as many f32 values.
            let beside = self.read_bytes(stored) + scales + biases;
            self.add(scales * group.group_size as u64, beside);
        } else {
            self.add(words + scales + biases, self.read_bytes(stored));
        }
        Ok(())
    }

    /// Held while so many stored bytes become a weight: themselves and, on a CPU, which widens them, the
    /// same as 16-bit words.
    fn read_bytes(&self, stored: u64) -> u64 {
        match self.form {
            Form::Metal => stored,
            Form::Cpu { .. } => 2 * stored,
        }
    }

    fn add(&mut self, kept: u64, beside: u64) {
        self.total.bytes += kept;
        self.total.loading_bytes = self.total.loading_bytes.max(beside);
    }
}
