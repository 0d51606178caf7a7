//! Reads this rank's shard of a model from disk, tensor by tensor: only its bytes, and evaluated as
//! it goes, so that no more than one tensor is ever held twice.

use std::rc::Rc;

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};
use mlx_rs::{Array, Dtype};

use crate::EngineError;
use crate::checkpoint::{self, Checkpoint, Part};
use crate::expand::Packed;
use crate::mlx::{Group, adopt, on_metal, upload};
use crate::model::Decoder;
use crate::model::attention::Attention;
use crate::model::decoder::Block;
use crate::model::linear::{Linear, Matrix, Norm, compute_dtype};
use crate::model::mlp::Mlp;
use crate::model::rope::Rope;
use crate::model_config::ModelConfig;
use crate::shard::{ShardPlan, tensor_part};

/// What a model's description reads its weights through.
pub struct Loader<'a> {
    /// The folder.
    pub checkpoint: &'a Checkpoint,
    /// Its config.
    pub config: &'a ModelConfig,
    /// What of it is this rank's.
    pub plan: &'a ShardPlan,
    /// The other ranks, if any.
    pub group: Option<Rc<Group>>,
    /// Expand quantised weights to f32 (CPU only).
    pub expand: bool,
    rope: Rc<Rope>,
    first_rank: bool,
}

impl<'a> Loader<'a> {
    /// For one rank.
    pub fn new(
        checkpoint: &'a Checkpoint,
        config: &'a ModelConfig,
        plan: &'a ShardPlan,
        group: Option<Rc<Group>>,
        expand: bool,
    ) -> Result<Self, EngineError> {
        let first_rank = group.as_ref().is_none_or(|g| g.rank() == 0);
        let rope = Rc::new(Rope::new(config)?);
        Ok(Self { checkpoint, config, plan, group, expand, rope, first_rank })
    }

    /// The whole shard; `block` describes a layer, given its name.
    pub fn decoder(
        &self,
        block: impl Fn(&str) -> Result<Block, EngineError>,
    ) -> Result<Decoder, EngineError> {
        let embedding = Rc::new(self.matrix("model.embed_tokens")?);
        let layers = 0..self.config.num_hidden_layers;
        let blocks =
            layers.map(|i| block(&format!("model.layers.{i}"))).collect::<Result<_, _>>()?;
        let head = if self.config.tie_word_embeddings {
            embedding.clone()
        } else {
            Rc::new(self.matrix("lm_head")?)
        };
        Ok(Decoder {
            group: self.group.clone(),
            embedding,
            vocab_start: self.plan.vocab.start as i32,
            vocab_len: self.plan.vocab.len() as i32,
            blocks,
            norm: self.norm("model.norm")?,
            head,
            rope: self.rope.clone(),
        })
    }

    /// Grouped-query attention without norms on its heads.
    pub fn attention(&self, module: &str) -> Result<Attention, EngineError> {
        Ok(Attention {
            query: self.split_rows(&format!("{module}.q_proj"))?,
            key: self.split_rows(&format!("{module}.k_proj"))?,
            value: self.split_rows(&format!("{module}.v_proj"))?,
            output: self.split_columns(&format!("{module}.o_proj"))?,
            query_norm: None,
            key_norm: None,
            rope: self.rope.clone(),
            query_heads: self.plan.heads.len() as i32,
            kv_heads: self.plan.kv_heads.len() as i32,
            head_dim: self.config.head_dim as i32,
        })
    }

    /// SwiGLU.
    pub fn mlp(&self, module: &str) -> Result<Mlp, EngineError> {
        Ok(Mlp {
            gate: self.split_rows(&format!("{module}.gate_proj"))?,
            up: self.split_rows(&format!("{module}.up_proj"))?,
            down: self.split_columns(&format!("{module}.down_proj"))?,
        })
    }

    /// A norm, whole on every rank.
    pub fn norm(&self, module: &str) -> Result<Norm, EngineError> {
        let weight = self.vector(&format!("{module}.weight"))?;
        Ok(Norm { weight, eps: self.config.rms_norm_eps })
    }

    /// Column-parallel: this rank computes some of the outputs, bias and all.
    fn split_rows(&self, module: &str) -> Result<Linear, EngineError> {
        Ok(Linear { matrix: self.matrix(module)?, bias: self.bias(module)? })
    }

    /// Row-parallel: this rank computes a part of every output's sum; the first adds the bias.
    fn split_columns(&self, module: &str) -> Result<Linear, EngineError> {
        let bias = if self.first_rank { self.bias(module)? } else { None };
        Ok(Linear { matrix: self.matrix(module)?, bias })
    }

    fn bias(&self, module: &str) -> Result<Option<Array>, EngineError> {
        let name = format!("{module}.bias");
        match self.checkpoint.tensor(&name) {
            Some(_) => self.vector(&name).map(Some),
            None => Ok(None),
        }
    }

    fn vector(&self, name: &str) -> Result<Array, EngineError> {
        if on_metal() {
            let (bytes, shape, dtype) = self.stored(name)?;
            let array = upload(&bytes, &shape, dtype)?.as_dtype(compute_dtype(dtype, true))?;
            array.eval()?;
            return Ok(array);
        }
        let (values, shape) = self.widened(name)?;
        adopt(values, &shape)
    }

    fn matrix(&self, module: &str) -> Result<Matrix, EngineError> {
        let weight = format!("{module}.weight");
        let Some(group) = self.config.group(module) else {
            return Matrix::dense(self.vector(&weight)?);
        };
        let [scales, biases] = [format!("{module}.scales"), format!("{module}.biases")];
        if self.expand {
            let words = self.checkpoint.read(&weight, &self.part(&weight)?)?;
            let (scales, shape) = self.widened(&scales)?;
            let packed = Packed {
                words: &words,
                scales: &scales,
                biases: &self.widened(&biases)?.0,
                group_size: group.group_size,
                bits: group.bits,
            };
            let [rows, groups] = shape.as_slice() else {
                return Err(EngineError::Software(format!("{module}: scales of shape {shape:?}")));
            };
            return Matrix::dense(adopt(
                packed.expand()?,
                &[*rows, groups * group.group_size as i32],
            )?);
        }
        let (bytes, shape, dtype) = self.stored(&weight)?;
        Ok(Matrix::Quantized {
            weight: upload(&bytes, &shape, dtype)?,
            scales: self.vector(&scales)?,
            biases: self.vector(&biases)?,
            group_size: group.group_size as i32,
            bits: group.bits as i32,
        })
    }

    /// This rank's part of a float tensor, in f32. Not by MLX: its CPU conversion of half types
    /// takes 10 ns an element, a second for the scales of a small model.
    fn widened(&self, name: &str) -> Result<(Vec<f32>, Vec<i32>), EngineError> {
        let (bytes, shape, dtype) = self.stored(name)?;
        let halves = || bytemuck::allocation::pod_collect_to_vec::<u8, u16>(&bytes);
        let values = match dtype {
            Dtype::Float16 => halves().reinterpret_cast::<f16>().to_f32_vec(),
            Dtype::Bfloat16 => halves().reinterpret_cast::<bf16>().to_f32_vec(),
            Dtype::Float32 => bytemuck::allocation::pod_collect_to_vec::<u8, f32>(&bytes),
            other => return Err(EngineError::Model(format!("{name}: {other:?} is no float"))),
        };
        Ok((values, shape))
    }

    fn part(&self, name: &str) -> Result<Part, EngineError> {
        Ok(tensor_part(self.plan, self.config, name)?)
    }

    /// This rank's part of a tensor as it is stored: bytes, shape, dtype.
    fn stored(&self, name: &str) -> Result<(Vec<u8>, Vec<i32>, Dtype), EngineError> {
        let part = self.part(name)?;
        let bytes = self.checkpoint.read(name, &part)?;
        let info = self.checkpoint.tensor(name).ok_or_else(|| {
            EngineError::Software(format!("{name} was read but is not in the index"))
        })?;
        let mut shape: Vec<i32> = info.shape.iter().map(|&d| d as i32).collect();
        match (&part, shape.as_mut_slice()) {
            (Part::All, _) => {}
            (Part::Rows(ranges), [first, ..]) => {
                *first = ranges.iter().map(|r| r.len() as i32).sum();
            }
            (Part::Columns(range), [.., last]) => *last = range.len() as i32,
            _ => return Err(EngineError::Software(format!("{name}: a part of a scalar"))),
        }
        let dtype = match info.dtype {
            checkpoint::Dtype::F32 => Dtype::Float32,
            checkpoint::Dtype::F16 => Dtype::Float16,
            checkpoint::Dtype::BF16 => Dtype::Bfloat16,
            checkpoint::Dtype::U32 => Dtype::Uint32,
            other => return Err(EngineError::Model(format!("{name}: {} weights", other.name()))),
        };
        Ok((bytes, shape, dtype))
    }
}
