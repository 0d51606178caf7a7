//! From GGUF's names and metadata to an MLX model's: which tensor becomes which, and `config.json`.
//! The reverse of llama.cpp's `convert_hf_to_gguf.py` and `gguf-py/gguf/tensor_mapping.py`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::blocks::TensorType;
use super::metadata::{self, Metadata};
use super::reader::{Header, Tensor};
use super::rope;
use crate::checkpoint::Dtype;
use crate::model_config::{Group, ModelConfig};

/// Where one GGUF tensor goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Output {
    /// The source.
    pub(super) tensor: Tensor,
    /// Module in the MLX folder, e.g. `model.layers.0.mlp.up_proj`.
    pub(super) module: String,
    /// `weight` or `bias`.
    pub(super) kind: &'static str,
    /// Set where rows of each head of this many must be put back into Hugging Face's order.
    pub(super) unpermute: Option<usize>,
}

/// What a GGUF file becomes.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) config: Value,
    pub(super) outputs: Vec<Output>,
    /// Type of the model's activations, which vectors should have too.
    pub(super) float: Dtype,
}

/// Tensors outside the blocks, and those of block N after `blk.N.`; an MLX name follows each.
const OUTSIDE: [(&str, &str); 3] =
    [("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head")];
const IN_BLOCK: [(&str, &str); 11] = [
    ("attn_norm", "input_layernorm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// Metadata that changes a model's numbers in ways this engine has no code for, with the value at
/// which it changes nothing.
const NEUTRAL: [(&str, f32); 9] = [
    ("expert_count", 0.0),
    ("embedding_scale", 1.0),
    ("residual_scale", 1.0),
    ("logit_scale", 1.0),
    ("attention.scale", 0.0),
    ("attention.clamp_kqv", 0.0),
    ("attention.max_alibi_bias", 0.0),
    ("attn_logit_softcapping", 0.0),
    ("final_logit_softcapping", 0.0),
];

/// Works out the whole import from the header alone. `rope_factors` are the values of tensor
/// `rope_freqs.weight`, if the file has it.
pub(super) fn plan(header: &Header, rope_factors: Option<&[f32]>) -> Result<Plan, String> {
    let meta = &header.metadata;
    let arch = meta.text("general.architecture")?;
    if !["llama", "qwen2", "qwen3"].contains(&arch) {
        return Err(format!(
            "general.architecture is {arch:?}; llama (also Mistral), qwen2 and qwen3 are supported"
        ));
    }
    refuse_unsupported(meta, arch)?;
    let mut outputs = Vec::with_capacity(header.tensors.len());
    for tensor in header.tensors.iter().filter(|t| t.name != rope::FACTORS) {
        outputs.push(output(tensor)?);
    }
    let config = config(meta, arch, &outputs, rope_factors)?;
    let typed = ModelConfig::parse(&config).map_err(|e| format!("its metadata: {e}"))?;
    if arch == "llama" {
        for output in &mut outputs {
            let rotated = ["self_attn.q_proj", "self_attn.k_proj"];
            if rotated.iter().any(|name| output.module.ends_with(name)) {
                output.unpermute = Some(typed.head_dim);
            }
        }
    }
    check_shapes(&typed, &outputs)?;
    let float = float(embedding(&outputs)?.tensor.kind);
    Ok(Plan { config, outputs, float })
}

fn refuse_unsupported(meta: &Metadata, arch: &str) -> Result<(), String> {
    for (key, neutral) in NEUTRAL {
        let key = format!("{arch}.{key}");
        let value = meta.float_or(&key, neutral)?;
        if value != neutral {
            return Err(format!("{key} is {value}; that is not supported"));
        }
    }
    if !meta.flag_or(&format!("{arch}.attention.causal"), true)? {
        return Err("is an encoder (attention.causal is false), not a text generator".to_owned());
    }
    if meta.size_or("split.count", 1)? > 1 {
        return Err("is one of several parts; join them with `llama-gguf-split --merge`".to_owned());
    }
    Ok(())
}

fn output(tensor: &Tensor) -> Result<Output, String> {
    let unknown = || {
        format!(
            "tensor {} belongs to no llama, qwen2 or qwen3 model this engine knows",
            tensor.name
        )
    };
    let (base, kind) = tensor.name.rsplit_once('.').ok_or_else(unknown)?;
    let kind = ["weight", "bias"].into_iter().find(|k| *k == kind).ok_or_else(unknown)?;
    let named = |table: &[(&str, &'static str)], name: &str| {
        table.iter().find(|(gguf, _)| *gguf == name).map(|(_, mlx)| *mlx)
    };
    let module = match base.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
        Some((layer, name)) => {
            // Parsed and printed anew, so `blk.007` can't pass for layer 7 twice.
            let layer: u32 = layer.parse().map_err(|_| unknown())?;
            let name = named(&IN_BLOCK, name).ok_or_else(unknown)?;
            format!("model.layers.{layer}.{name}")
        }
        None => named(&OUTSIDE, base).ok_or_else(unknown)?.to_owned(),
    };
    let matrix = kind == "weight" && !module.ends_with("norm");
    if tensor.vector == matrix {
        let axes = if matrix { 2 } else { 1 };
        return Err(format!("tensor {} must have {axes} axes", tensor.name));
    }
    if !matrix && tensor.kind.group().is_some() {
        return Err(format!("tensor {} is quantised; a vector can't be", tensor.name));
    }
    Ok(Output { tensor: tensor.clone(), module, kind, unpermute: None })
}

fn config(
    meta: &Metadata,
    arch: &str,
    outputs: &[Output],
    rope_factors: Option<&[f32]>,
) -> Result<Value, String> {
    let key = |name: &str| format!("{arch}.{name}");
    let find =
        |module: &str, kind: &str| outputs.iter().find(|o| o.module == module && o.kind == kind);
    let embedding = embedding(outputs)?;
    let heads = meta.size(&key("attention.head_count"))?;
    let hidden = meta.size(&key("embedding_length"))?;
    let head_dim = meta.size_or(&key("attention.key_length"), hidden / heads)?;
    if meta.size_or(&key("attention.value_length"), head_dim)? != head_dim
        || meta.size_or(&key("rope.dimension_count"), head_dim)? != head_dim
    {
        return Err(format!(
            "{arch}.attention.value_length and rope.dimension_count must be the head's {head_dim}"
        ));
    }
    let window = meta.get(&key("attention.sliding_window"));
    let window = match window {
        None | Some(metadata::Value::Int(0)) => None,
        Some(_) => Some(meta.size(&key("attention.sliding_window"))?),
    };
    let mistral = arch == "llama" && window.is_some();
    let bias = find("model.layers.0.self_attn.q_proj", "bias").is_some();
    let mut config = json!({
        "architectures": [match arch {
            "qwen2" => "Qwen2ForCausalLM",
            "qwen3" => "Qwen3ForCausalLM",
            _ if mistral => "MistralForCausalLM",
            _ => "LlamaForCausalLM",
        }],
        "model_type": if mistral { "mistral" } else { arch },
        "hidden_size": hidden,
        "num_hidden_layers": meta.size(&key("block_count"))?,
        "intermediate_size": meta.size(&key("feed_forward_length"))?,
        "num_attention_heads": heads,
        "num_key_value_heads": meta.size_or(&key("attention.head_count_kv"), heads)?,
        "head_dim": head_dim,
        "rms_norm_eps": shortest(meta.float(&key("attention.layer_norm_rms_epsilon"))?),
        "vocab_size": embedding.tensor.rows,
        "max_position_embeddings": meta.size(&key("context_length"))?,
        "rope_theta": shortest(meta.float_or(&key("rope.freq_base"), 10_000.0)?),
        "rope_scaling": rope::scaling(meta, arch, head_dim, rope_factors)?,
        "rope_traditional": false,
        "attention_bias": bias,
        "mlp_bias": find("model.layers.0.mlp.up_proj", "bias").is_some(),
        "hidden_act": "silu",
        "tie_word_embeddings": find("lm_head", "weight").is_none(),
        "torch_dtype": match float(embedding.tensor.kind) {
            Dtype::F32 => "float32",
            Dtype::BF16 => "bfloat16",
            _ => "float16",
        },
        "bos_token_id": token_id(meta, "bos")?,
        "eos_token_id": token_id(meta, "eos")?,
        "pad_token_id": token_id(meta, "padding")?,
    });
    if let Some(window) = window {
        config["sliding_window"] = json!(window);
        config["use_sliding_window"] = json!(true);
        config["max_window_layers"] = json!(0);
    }
    if let Some(quantization) = quantization(outputs) {
        config["quantization"] = quantization.clone();
        // transformers and older mlx-lm look here.
        config["quantization_config"] = quantization;
    }
    Ok(config)
}

/// A token id of the metadata, `null` if absent.
pub(super) fn token_id(meta: &Metadata, name: &str) -> Result<Option<u32>, String> {
    let key = format!("tokenizer.ggml.{name}_token_id");
    match meta.get(&key) {
        None => Ok(None),
        Some(metadata::Value::Int(id)) if u32::try_from(*id).is_ok() => Ok(Some(*id as u32)),
        Some(other) => Err(format!("metadata key {key} is {other:?}, not a token id")),
    }
}

/// The `quantization` object: the group most modules have, and every module that differs.
fn quantization(outputs: &[Output]) -> Option<Value> {
    let matrices = || outputs.iter().filter(|o| !o.tensor.vector);
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for group in matrices().filter_map(|o| o.tensor.kind.group()) {
        *counts.entry(group.bits).or_default() += 1;
    }
    let (&bits, _) = counts.iter().max_by_key(|(_, count)| **count)?;
    let object = |g: Group| json!({"group_size": g.group_size, "bits": g.bits, "mode": "affine"});
    let mut all = Map::new();
    if let Value::Object(default) = object(Group { group_size: 32, bits }) {
        all.extend(default);
    }
    for output in matrices() {
        match output.tensor.kind.group() {
            Some(group) if group.bits == bits => {}
            Some(group) => drop(all.insert(output.module.clone(), object(group))),
            None => drop(all.insert(output.module.clone(), Value::Bool(false))),
        }
    }
    Some(Value::Object(all))
}

/// The type of activations: that of dense weights, f16 for quantised ones (their scales').
fn float(kind: TensorType) -> Dtype {
    match kind {
        TensorType::F32 => Dtype::F32,
        TensorType::BF16 => Dtype::BF16,
        _ => Dtype::F16,
    }
}

fn embedding(outputs: &[Output]) -> Result<&Output, String> {
    let embedding = outputs.iter().find(|o| o.module == "model.embed_tokens");
    embedding.ok_or_else(|| "tensor token_embd.weight is missing".to_owned())
}

/// The shortest decimal that is this `f32` again: 1e-5, not 9.999999747378752e-6.
pub(super) fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// Every tensor the config describes is there in the right shape, and no other.
fn check_shapes(config: &ModelConfig, outputs: &[Output]) -> Result<(), String> {
    let mut shapes: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for matrix in config.matrices() {
        if matrix.bias {
            shapes.insert(format!("{}.bias", matrix.module), (1, matrix.rows));
        }
        shapes.insert(format!("{}.weight", matrix.module), (matrix.rows, matrix.columns));
    }
    for (norm, len) in config.norms() {
        shapes.insert(format!("{norm}.weight"), (1, len));
    }
    for output in outputs {
        let Tensor { name, rows, columns, .. } = &output.tensor;
        match shapes.remove(&format!("{}.{}", output.module, output.kind)) {
            Some(shape) if shape == (*rows, *columns) => {}
            Some((r, c)) => {
                return Err(format!(
                    "tensor {name} has {rows} rows of {columns}, the metadata makes it {r} of {c}"
                ));
            }
            None => {
                return Err(format!(
                    "tensor {name} is unknown to a {} model with this metadata",
                    config.model_type.name()
                ));
            }
        }
    }
    match shapes.keys().next() {
        None => Ok(()),
        Some(missing) => Err(format!("has no tensor for {missing}")),
    }
}
