//! What weights and metadata become.

use half::f16;
use serde_json::{Value, json};
use tandem_engine::checkpoint::Dtype;
use tandem_engine::model_config::{ModelConfig, ModelType, RopeScaling};

use crate::file::{
    BF16, F16, F32, FFN, Gguf, HEAD_DIM, HEADS, HIDDEN, KV_HEADS, Q4_0, Q4_1, Q8_0, TOKENS, Val,
    imported, read, row_data,
};

/// Rows of a matrix as Hugging Face orders them, from rows as llama.cpp does.
fn unpermuted(rows: usize, columns: usize, kind: u32) -> Vec<u8> {
    let source = |row: usize| {
        let (head, within) = (row / HEAD_DIM, row % HEAD_DIM);
        let (half, i) = (within / (HEAD_DIM / 2), within % (HEAD_DIM / 2));
        head * HEAD_DIM + 2 * i + half
    };
    (0..rows).flat_map(|row| row_data(source(row), columns, kind)).collect()
}

fn in_order(rows: usize, columns: usize, kind: u32) -> Vec<u8> {
    (0..rows).flat_map(|row| row_data(row, columns, kind)).collect()
}

#[test]
fn dense_weights_keep_their_bytes_and_llama_its_rotation() {
    for (kind, dtype) in [(F32, Dtype::F32), (F16, Dtype::F16), (BF16, Dtype::BF16)] {
        let (_sandbox, model) = imported(&Gguf::tiny("llama", kind));
        let layer = |name: &str| read(&model, &format!("model.layers.1.{name}.weight"));
        assert_eq!(layer("self_attn.q_proj"), unpermuted(HEADS * HEAD_DIM, HIDDEN, kind));
        assert_eq!(layer("self_attn.k_proj"), unpermuted(KV_HEADS * HEAD_DIM, HIDDEN, kind));
        assert_eq!(layer("self_attn.v_proj"), in_order(KV_HEADS * HEAD_DIM, HIDDEN, kind));
        assert_eq!(layer("self_attn.o_proj"), in_order(HIDDEN, HEADS * HEAD_DIM, kind));
        assert_eq!(layer("mlp.down_proj"), in_order(HIDDEN, FFN, kind));
        assert_eq!(read(&model, "model.embed_tokens.weight"), in_order(TOKENS.len(), HIDDEN, kind));
        let info = model.tensor("model.layers.0.self_attn.q_proj.weight").unwrap();
        assert_eq!((info.dtype, info.shape.as_slice()), (dtype, &[64, HIDDEN][..]));
        // llama.cpp widened the norms; they go back to the model's type, as that loses nothing.
        assert_eq!(model.tensor("model.norm.weight").unwrap().dtype, dtype);
        let config = ModelConfig::load(&model).unwrap();
        assert!(config.tie_word_embeddings && config.quantization.is_none());
        assert_eq!((config.rms_norm_eps, config.head_dim, config.vocab_size), (1e-5, 16, 8));
        assert_eq!(config.eos_token_ids, [1]);
    }
}

#[test]
fn qwen_keeps_its_row_order_and_brings_its_biases_and_norms() {
    let mut file = Gguf::tiny("qwen2", F16);
    for layer in 0..2 {
        for (name, heads) in [("attn_q", HEADS), ("attn_k", KV_HEADS), ("attn_v", KV_HEADS)] {
            file.vector(&format!("blk.{layer}.{name}.bias"), heads * HEAD_DIM);
        }
    }
    file.matrix("output.weight", TOKENS.len(), HIDDEN, F16);
    let (_sandbox, model) = imported(&file);
    let config = ModelConfig::load(&model).unwrap();
    assert_eq!(config.model_type, ModelType::Qwen2);
    assert!(config.attention_bias && !config.tie_word_embeddings);
    let q = read(&model, "model.layers.0.self_attn.q_proj.weight");
    assert_eq!(q, in_order(HEADS * HEAD_DIM, HIDDEN, F16));
    let bias = read(&model, "model.layers.0.self_attn.q_proj.bias");
    assert_eq!(bias[2..4], f16::from_f32(0.5 + 1.0 / 64.0).to_le_bytes());

    let mut file = Gguf::tiny("qwen3", Q8_0);
    file.set("qwen3.attention.key_length", Val::U32(HEAD_DIM as u32));
    for layer in 0..2 {
        file.vector(&format!("blk.{layer}.attn_q_norm.weight"), HEAD_DIM);
        file.vector(&format!("blk.{layer}.attn_k_norm.weight"), HEAD_DIM);
    }
    let (_sandbox, model) = imported(&file);
    let config = ModelConfig::load(&model).unwrap();
    assert!(config.model_type == ModelType::Qwen3 && config.qk_norm);
}

#[test]
fn a_llama_with_biases_has_them_rotated_too() {
    let mut file = Gguf::tiny("llama", F32);
    for layer in 0..2 {
        for (name, len) in [
            ("attn_q", HEADS * HEAD_DIM),
            ("attn_k", KV_HEADS * HEAD_DIM),
            ("attn_v", KV_HEADS * HEAD_DIM),
            ("attn_output", HIDDEN),
        ] {
            file.vector(&format!("blk.{layer}.{name}.bias"), len);
        }
    }
    let (_sandbox, model) = imported(&file);
    assert!(ModelConfig::load(&model).unwrap().attention_output_bias);
    let floats = |name: &str| -> Vec<f32> {
        let bytes = read(&model, &format!("model.layers.0.self_attn.{name}.bias"));
        bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    assert_eq!(floats("q_proj")[..3], [0.5, 0.5 + 2.0 / 64.0, 0.5 + 4.0 / 64.0]);
    assert_eq!(floats("q_proj")[8], 0.5 + 1.0 / 64.0, "the second half of the first head");
    assert_eq!(floats("v_proj")[..2], [0.5, 0.5 + 1.0 / 64.0]);
}

/// A quantised matrix of the folder, widened as MLX does it.
fn widened(model: &tandem_engine::checkpoint::Checkpoint, module: &str, bits: usize) -> Vec<f32> {
    let float = |name: &str| -> Vec<f32> {
        let name = format!("{module}.{name}");
        let bytes = read(model, &name);
        match model.tensor(&name).unwrap().dtype {
            Dtype::F32 => {
                bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
            }
            _ => bytes.chunks(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        }
    };
    let (scales, biases) = (float("scales"), float("biases"));
    let words = read(model, &format!("{module}.weight"));
    (0..words.len() * 8 / bits)
        .map(|i| {
            let q = words[i * bits / 8] >> (i * bits % 8) & (0xFF >> (8 - bits));
            f32::from(q) * scales[i / 32] + biases[i / 32]
        })
        .collect()
}

/// The same matrix by ggml's definition of its blocks.
fn ggml(rows: usize, columns: usize, kind: u32) -> Vec<f32> {
    let size = match kind {
        Q4_0 => 18,
        Q4_1 => 20,
        _ => 34,
    };
    let mut values = Vec::new();
    for block in in_order(rows, columns, kind).chunks(size) {
        let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
        let body = &block[size - if kind == Q8_0 { 32 } else { 16 }..];
        let nibble = |i: usize| f32::from(if i < 16 { body[i] & 15 } else { body[i - 16] >> 4 });
        values.extend((0..32).map(|i| match kind {
            Q4_0 => (nibble(i) - 8.0) * half(0),
            Q4_1 => nibble(i) * half(0) + half(2),
            _ => f32::from(body[i] as i8) * half(0),
        }));
    }
    values
}

#[test]
fn quantised_blocks_keep_every_value() {
    for (kind, bits) in [(Q4_0, 4), (Q4_1, 4), (Q8_0, 8)] {
        let (_sandbox, model) = imported(&Gguf::tiny("llama", kind));
        let down = widened(&model, "model.layers.0.mlp.down_proj", bits);
        assert_eq!(down, ggml(HIDDEN, FFN, kind));
        let group = ModelConfig::load(&model).unwrap().group("model.embed_tokens").unwrap();
        assert_eq!((group.group_size, group.bits), (32, bits));
        assert_eq!(model.tensor("model.layers.0.mlp.up_proj.scales").unwrap().dtype, Dtype::F16);
        // Rows move with their scales.
        let q = widened(&model, "model.layers.0.self_attn.q_proj", bits);
        let source = ggml(HEADS * HEAD_DIM, HIDDEN, kind);
        assert_eq!(q[HIDDEN..2 * HIDDEN], source[2 * HIDDEN..3 * HIDDEN]);
    }
}

#[test]
fn mixed_types_become_overrides() {
    let mut file = Gguf::tiny("llama", Q4_1);
    file.matrix("token_embd.weight", TOKENS.len(), HIDDEN, Q8_0);
    file.matrix("blk.1.ffn_down.weight", HIDDEN, FFN, F16);
    let (_sandbox, model) = imported(&file);
    let config = ModelConfig::load(&model).unwrap();
    let bits = |name: &str| config.group(name).map(|g| g.bits);
    assert_eq!(bits("model.embed_tokens"), Some(8));
    assert_eq!(bits("model.layers.0.mlp.down_proj"), Some(4));
    assert_eq!(bits("model.layers.1.mlp.down_proj"), None);
    assert_eq!(model.config()["quantization"]["model.layers.1.mlp.down_proj"], Value::Bool(false));
    assert_eq!(model.config()["quantization"], model.config()["quantization_config"]);
}

#[test]
fn what_f16_cant_hold_is_kept_in_f32() {
    let mut file = Gguf::tiny("llama", Q8_0);
    let up = file.tensor("blk.0.ffn_up.weight");
    up.data[..2].copy_from_slice(&f16::from_f32(1000.0).to_le_bytes());
    let expected = -128_000.0f32;
    let norm = file.tensor("output_norm.weight");
    norm.data[..4].copy_from_slice(&0.1f32.to_le_bytes());
    let (_sandbox, model) = imported(&file);
    let kind = |name: &str| model.tensor(name).unwrap().dtype;
    assert_eq!(kind("model.layers.0.mlp.up_proj.scales"), Dtype::F32);
    assert_eq!(read(&model, "model.layers.0.mlp.up_proj.biases")[..4], expected.to_le_bytes());
    assert_eq!(kind("model.layers.1.mlp.up_proj.scales"), Dtype::F16);
    assert_eq!(kind("model.norm.weight"), Dtype::F32);
    assert_eq!(read(&model, "model.norm.weight")[..4], 0.1f32.to_le_bytes());
    assert_eq!(kind("model.layers.0.input_layernorm.weight"), Dtype::F16);
}

#[test]
fn rotary_stretching_and_windows_survive() {
    let scaling = |change: &dyn Fn(&mut Gguf)| {
        let mut file = Gguf::tiny("llama", F16);
        change(&mut file);
        let (_sandbox, model) = imported(&file);
        ModelConfig::load(&model).unwrap()
    };
    assert_eq!(scaling(&|_| {}).rope_scaling, RopeScaling::Default);
    let linear = scaling(&|file| {
        file.set("llama.rope.scaling.type", Val::text("linear"));
        file.set("llama.rope.scaling.factor", Val::F32(4.0));
    });
    assert_eq!(linear.rope_scaling, RopeScaling::Linear { factor: 4.0 });
    let yarn = scaling(&|file| {
        file.set("llama.rope.scaling.type", Val::text("yarn"));
        file.set("llama.rope.scaling.factor", Val::F32(4.0));
        file.set("llama.rope.scaling.original_context_length", Val::U32(128));
    });
    assert!(matches!(
        yarn.rope_scaling,
        RopeScaling::Yarn { factor: 4.0, original_max_position_embeddings: 128, .. }
    ));
    let yarn = scaling(&|file| {
        file.set("llama.rope.scaling.type", Val::text("yarn"));
        file.set("llama.rope.scaling.factor", Val::F32(4.0));
    });
    assert!(
        matches!(
            yarn.rope_scaling,
            RopeScaling::Yarn { factor: 4.0, original_max_position_embeddings: 512, .. }
        ),
        "absent, it is the model's context"
    );
    // Divisors as llama.cpp writes them for theta 500 000, factor 8, context 8192, head of 16.
    let llama3 = scaling(&|file| {
        file.set("llama.rope.freq_base", Val::F32(500_000.0));
        let factors = [1.0f32, 1.0, 1.0, 1.0, 2.694_529_7, 8.0, 8.0, 8.0];
        let data = factors.iter().flat_map(|f| f.to_le_bytes()).collect();
        file.put("rope_freqs.weight", vec![8], F32, data);
    });
    assert_eq!(
        llama3.rope_scaling,
        RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        }
    );
    let window = scaling(&|file| {
        file.set("llama.attention.sliding_window", Val::U32(256));
    });
    assert_eq!((window.model_type, window.context_limit()), (ModelType::Mistral, 256));
}

#[test]
fn the_index_and_metadata_name_what_is_there() {
    let (sandbox, model) = imported(&Gguf::tiny("llama", Q4_0));
    let index = crate::file::json(model.dir(), "model.safetensors.index.json");
    assert_eq!(index["metadata"]["total_size"], json!(model.total_bytes()));
    assert_eq!(index["weight_map"].as_object().unwrap().len(), model.names().count());
    assert_eq!(sandbox.left(), ["tiny"]);
}
