use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::checkpoint::Checkpoint;
use crate::model_config::{ConfigError, ModelConfig};

fn llama() -> Value {
    json!({
        "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2,
        "intermediate_size": 128, "num_attention_heads": 4, "vocab_size": 100,
    })
}

fn with(changes: &[(&str, Value)]) -> Value {
    let mut json = llama();
    for (key, value) in changes {
        json[*key] = value.clone();
    }
    json
}

/// Name, type and shape.
type Tensors = Vec<(String, &'static str, Vec<usize>)>;

/// A folder of zeros with every tensor of the tiny llama, after `change` to the header.
fn checkpoint(config: &Value, change: impl FnOnce(&mut Tensors)) -> TempDir {
    let typed = ModelConfig::parse(config).unwrap();
    let mut tensors = Tensors::new();
    for m in typed.matrices() {
        match typed.group(&m.module) {
            None => tensors.push((format!("{}.weight", m.module), "F32", vec![m.rows, m.columns])),
            Some(g) => {
                let groups = vec![m.rows, m.columns / g.group_size];
                let words = vec![m.rows, g.words(m.columns)];
                tensors.push((format!("{}.weight", m.module), "U32", words));
                tensors.push((format!("{}.scales", m.module), "F16", groups.clone()));
                tensors.push((format!("{}.biases", m.module), "F16", groups));
            }
        }
    }
    for (norm, len) in typed.norms() {
        tensors.push((format!("{norm}.weight"), "F32", vec![len]));
    }
    change(&mut tensors);
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, dtype, shape) in tensors {
        let item = if dtype == "F16" { 2 } else { 4 };
        let begin = end;
        end += shape.iter().product::<usize>() * item;
        let offsets = [begin, end];
        header.insert(name, json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}));
    }
    let header = Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + end, 0);
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
    dir
}

fn load(dir: &TempDir) -> Result<ModelConfig, ConfigError> {
    ModelConfig::load(&Checkpoint::open(dir.path()).unwrap())
}

#[test]
fn the_weights_settle_what_the_config_leaves_open() {
    // Nothing says whether the head is tied: transformers and mlx-lm assume opposite things.
    let untied = checkpoint(&llama(), |_| {});
    assert!(!load(&untied).unwrap().tie_word_embeddings);
    let tied = checkpoint(&llama(), |all| all.retain(|(name, ..)| name != "lm_head.weight"));
    assert!(load(&tied).unwrap().tie_word_embeddings);
    // A module stored dense is dense, though the config does not except it.
    let config = with(&[("quantization", json!({"group_size": 32, "bits": 4}))]);
    let mixed = checkpoint(&config, |all| {
        all.retain(|(name, ..)| !name.starts_with("lm_head"));
        all.push(("lm_head.weight".to_owned(), "F32", vec![100, 64]));
    });
    let mixed = load(&mixed).unwrap();
    assert_eq!(mixed.group("lm_head"), None);
    assert!(mixed.group("model.embed_tokens").is_some());
}

#[test]
fn weights_the_config_does_not_describe_are_refused_by_name() {
    let refused = |config: &Value, change: fn(&mut Tensors)| {
        load(&checkpoint(config, change)).expect_err("must be refused").to_string()
    };
    let error = refused(&llama(), |all| all.retain(|(n, ..)| !n.contains("layers.1.mlp.up")));
    assert!(error.contains("model.layers.1.mlp.up_proj.weight: is missing"), "{error}");
    let error = refused(&llama(), |all| all[0].2 = vec![100, 65]);
    assert!(error.contains("embed_tokens.weight: has the shape [100, 65]"), "{error}");
    let error = refused(&llama(), |all| all[0].1 = "U32");
    assert!(error.contains("is U32, it must be F32, F16 or BF16"), "{error}");
    let error = refused(&llama(), |all| {
        all.push(("model.layers.0.self_attn.q_proj.bias".to_owned(), "F32", vec![64]));
    });
    assert!(error.contains("q_proj.bias: is unknown to a llama model"), "{error}");
    let quantised = with(&[("quantization", json!({"group_size": 32, "bits": 4}))]);
    let error = refused(&quantised, |all| all.retain(|(n, ..)| n != "lm_head.biases"));
    assert!(error.contains("lm_head.biases: is missing"), "{error}");
    let error = refused(&quantised, |all| all[1].2 = vec![100, 1]);
    assert!(error.contains("embed_tokens.scales: has the shape [100, 1]"), "{error}");
    let leftover = checkpoint(&llama(), |all| {
        let name = "model.layers.0.self_attn.rotary_emb.inv_freq";
        all.push((name.to_owned(), "F32", vec![8]));
    });
    assert!(load(&leftover).is_ok(), "old converters left it, nothing reads it");
}
