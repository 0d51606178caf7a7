//! What the vocabulary becomes.

use serde_json::{Value, json};

use crate::file::{F16, Gguf, HIDDEN, Val, imported, json as read_json};

fn files(file: &Gguf) -> (Value, Value, Value) {
    let (_sandbox, model) = imported(file);
    let read = |name: &str| read_json(model.dir(), name);
    (read("tokenizer.json"), read("tokenizer_config.json"), read("generation_config.json"))
}

#[test]
fn a_byte_level_vocabulary_keeps_tokens_merges_and_template() {
    let (tokenizer, config, generation) = files(&Gguf::tiny("llama", F16));
    let model = &tokenizer["model"];
    assert_eq!(model["vocab"]["abc"], json!(6));
    assert_eq!(model["merges"], json!(["a b", "ab c"]));
    assert_eq!(tokenizer["pre_tokenizer"]["pretokenizers"][0]["type"], json!("Digits"));
    assert_eq!(tokenizer["post_processor"], Value::Null, "smollm puts no token before a text");
    let added: Vec<_> = tokenizer["added_tokens"].as_array().unwrap().iter().collect();
    let added: Vec<_> = added.iter().map(|t| (&t["id"], &t["content"], &t["special"])).collect();
    assert_eq!(
        added,
        [
            (&json!(0), &json!("<|start|>"), &json!(true)),
            (&json!(1), &json!("<|end|>"), &json!(true)),
            (&json!(7), &json!("<tool>"), &json!(false)),
        ]
    );
    assert_eq!(config["chat_template"], json!("{{ messages }} ü"));
    assert_eq!(
        (&config["bos_token"], &config["eos_token"]),
        (&json!("<|start|>"), &json!("<|end|>"))
    );
    assert_eq!(generation, json!({"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": null}));
}

#[test]
fn a_file_that_names_no_end_has_it_by_its_spelling() {
    let mut file = Gguf::tiny("llama", F16);
    file.unset("tokenizer.ggml.eos_token_id");
    let (_, config, generation) = files(&file);
    assert_eq!((&config["eos_token"], &generation["eos_token_id"]), (&json!("<|end|>"), &json!(1)));
    let ends = ["<|endoftext|>", "<|im_end|>", "a", "b", "ab", "c", "abc", "</s>"];
    file.set("tokenizer.ggml.tokens", Val::texts(&ends));
    let (_, config, generation) = files(&file);
    assert_eq!(config["eos_token"], json!("<|im_end|>"), "the end of a turn comes first");
    assert_eq!(generation["eos_token_id"], json!([1, 0]), "</s> is no control token here");
    file.set("tokenizer.ggml.eot_token_id", Val::U32(0));
    assert_eq!(files(&file).2["eos_token_id"], json!(0), "what the file says is believed");
    file.unset("tokenizer.ggml.eot_token_id");
    file.set("tokenizer.ggml.eom_token_id", Val::U32(0));
    assert_eq!(files(&file).2["eos_token_id"], json!(0));
}

#[test]
fn named_templates_are_kept_by_name() {
    let with = |default: bool, names: &[&str]| {
        let mut file = Gguf::tiny("llama", F16);
        if !default {
            file.unset("tokenizer.chat_template");
        }
        file.set("tokenizer.chat_templates", Val::texts(names));
        for name in names {
            file.set(&format!("tokenizer.chat_template.{name}"), Val::text(name));
        }
        files(&file).1["chat_template"].clone()
    };
    let entry = |name: &str, template: &str| json!({"name": name, "template": template});
    let default = entry("default", "{{ messages }} ü");
    assert_eq!(with(false, &[]), Value::Null);
    assert_eq!(with(false, &["rag"]), json!([entry("rag", "rag")]));
    assert_eq!(
        with(false, &["tool_use", "rag"]),
        json!([entry("rag", "rag"), entry("tool_use", "tool_use")])
    );
    assert_eq!(with(true, &["tool_use"]), json!([default, entry("tool_use", "tool_use")]));
}

#[test]
fn lists_in_lists_that_nobody_reads_are_read_over() {
    let mut file = Gguf::tiny("llama", F16);
    let plain = files(&file);
    file.set("general.dataset.groups", Val::Lists(vec![vec![1, 2], vec![], vec![3]]));
    assert_eq!(files(&file), plain);
}

#[test]
fn each_pre_tokeniser_brings_its_models_habits() {
    let with = |pre: &str, more: &dyn Fn(&mut Gguf)| {
        let mut file = Gguf::tiny("llama", F16);
        file.set("tokenizer.ggml.pre", Val::text(pre));
        more(&mut file);
        files(&file)
    };
    let (llama3, config, _) = with("llama-bpe", &|_| {});
    assert_eq!(llama3["model"]["ignore_merges"], json!(true));
    let pattern = &llama3["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"];
    assert!(pattern.as_str().unwrap().contains(r"\p{N}{1,3}"));
    assert_eq!(
        llama3["post_processor"]["single"],
        json!([
            {"SpecialToken": {"id": "<|start|>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ])
    );
    assert_eq!(config["add_bos_token"], json!(true));

    let (qwen, config, generation) = with("qwen2", &|file| {
        file.set("tokenizer.ggml.add_bos_token", Val::Bool(false));
        file.set("tokenizer.ggml.eot_token_id", Val::U32(0));
    });
    assert_eq!(qwen["normalizer"], json!({"type": "NFC"}));
    assert_eq!((&qwen["post_processor"], &config["add_bos_token"]), (&Value::Null, &json!(false)));
    assert_eq!(generation["eos_token_id"], json!([1, 0]), "end of text and end of turn");

    let (gpt2, ..) = with("gpt-2", &|file| {
        file.set("tokenizer.ggml.add_bos_token", Val::Bool(true));
        file.set("tokenizer.ggml.add_eos_token", Val::Bool(true));
    });
    assert_eq!(gpt2["pre_tokenizer"]["type"], json!("ByteLevel"));
    assert_eq!(gpt2["post_processor"]["single"].as_array().unwrap().len(), 3);
    assert_eq!(gpt2["post_processor"]["special_tokens"]["<|end|>"]["ids"], json!([1]));
    let (default, ..) = with("default", &|_| {});
    assert_eq!(default["pre_tokenizer"]["pretokenizers"].as_array().unwrap().len(), 5);
}

#[test]
fn sentence_piece_merges_follow_from_scores() {
    let tokens = ["<unk>", "<s>", "</s>", "<0x41>", "▁", "a", "b", "▁a", "ab", "▁ab"];
    let mut file = Gguf::tiny("llama", F16);
    file.matrix("token_embd.weight", tokens.len(), HIDDEN, F16);
    file.set("tokenizer.ggml.model", Val::text("llama"));
    file.set("tokenizer.ggml.tokens", Val::texts(&tokens));
    file.set("tokenizer.ggml.token_type", Val::I32s(vec![2, 3, 3, 6, 1, 1, 1, 1, 1, 1]));
    file.set(
        "tokenizer.ggml.scores",
        Val::F32s(vec![0.0, 0.0, 0.0, 0.0, -5.0, -6.0, -7.0, -1.0, -2.0, -0.5]),
    );
    file.set("tokenizer.ggml.bos_token_id", Val::U32(1));
    file.set("tokenizer.ggml.eos_token_id", Val::U32(2));
    file.set("tokenizer.ggml.unknown_token_id", Val::U32(0));
    let (tokenizer, config, _) = files(&file);
    let model = &tokenizer["model"];
    // As transformers' generate_merges orders them.
    assert_eq!(model["merges"], json!([["▁a", "b"], ["▁", "ab"], ["▁", "a"], ["a", "b"]]));
    assert_eq!(model["unk_token"], json!("<unk>"));
    assert_eq!((&model["byte_fallback"], &model["fuse_unk"]), (&json!(true), &json!(true)));
    assert_eq!(tokenizer["normalizer"]["normalizers"][0]["prepend"], json!("▁"));
    assert_eq!(tokenizer["post_processor"]["single"][0]["SpecialToken"]["id"], json!("<s>"));
    assert_eq!(config["unk_token"], json!("<unk>"));

    file.set("tokenizer.ggml.add_space_prefix", Val::Bool(false));
    let (bare, ..) = files(&file);
    assert_eq!(bare["normalizer"]["normalizers"].as_array().unwrap().len(), 1);
    assert_eq!(bare["decoder"]["decoders"].as_array().unwrap().len(), 3);
}

#[test]
fn fillers_of_the_embedding_are_no_tokens() {
    let mut file = Gguf::tiny("qwen2", F16);
    for layer in 0..2 {
        for (name, len) in [("attn_q", 64), ("attn_k", 32), ("attn_v", 32)] {
            file.vector(&format!("blk.{layer}.{name}.bias"), len);
        }
    }
    file.set("tokenizer.ggml.token_type", Val::I32s(vec![3, 3, 1, 1, 1, 1, 1, 5]));
    let (tokenizer, ..) = files(&file);
    assert_eq!(tokenizer["model"]["vocab"].as_object().unwrap().len(), 7);
}
