use serde_json::json;

use super::*;
use crate::{model_folder, test_model_dir};

/// A folder with these files put over the good ones; `null` takes a file out.
fn load(files: Value) -> Result<Model, String> {
    let dir = tempfile::tempdir().unwrap();
    model_folder::write(dir.path());
    for (name, content) in files.as_object().unwrap() {
        let path = dir.path().join(name);
        match content {
            Value::Null => fs::remove_file(path).unwrap(),
            Value::String(text) => fs::write(path, text).unwrap(),
            other => fs::write(path, other.to_string()).unwrap(),
        }
    }
    Model::load(dir.path())
}

fn rendered(files: Value) -> String {
    let model = load(files).unwrap();
    model.template.unwrap().render(&[], &Map::new(), false).unwrap()
}

#[test]
fn end_tokens_come_from_the_first_file_that_has_some() {
    let end = load(json!({})).unwrap().tokenizer.id(model_folder::END).unwrap();
    let none = json!({});
    let stop_tokens = |files| load(files).unwrap().stop_tokens;
    assert_eq!(stop_tokens(json!({})), [end, 0]);
    assert_eq!(stop_tokens(json!({"generation_config.json": {"eos_token_id": 9}})), [9]);
    assert_eq!(stop_tokens(json!({"generation_config.json": null})), [0]);
    let inner = json!({"text_config": {"eos_token_id": [7, 8]}});
    assert_eq!(stop_tokens(json!({"generation_config.json": none, "config.json": inner})), [7, 8]);
    let files = json!({"generation_config.json": none, "config.json": none});
    assert_eq!(stop_tokens(files), [end]);
    let files = json!({"generation_config.json": none, "config.json": none,
                       "tokenizer_config.json": none});
    assert!(load(files).err().unwrap().contains("eos_token"));
}

#[test]
fn a_template_is_found_wherever_it_may_stand() {
    assert_eq!(rendered(json!({"chat_template.jinja": "own file"})), "own file");
    let wrapped = json!({"chat_template": "wrapped"});
    assert_eq!(rendered(json!({"chat_template.json": wrapped})), "wrapped");
    let named = json!({"eos_token": "<|im_end|>", "chat_template": [
        {"name": "tool_use", "template": "tools"}, {"name": "default", "template": "default"}]});
    assert_eq!(rendered(json!({"tokenizer_config.json": named})), "default");
    let tokens = json!({"bos_token": {"content": "<B>"}, "chat_template": "{{ bos_token }}"});
    assert_eq!(rendered(json!({"tokenizer_config.json": tokens})), "<B>");
    assert!(load(json!({"tokenizer_config.json": {}})).unwrap().template.is_none());
}

#[test]
fn broken_files_are_named() {
    for file in ["config.json", "generation_config.json", "tokenizer_config.json"] {
        let mut files = json!({});
        files[file] = "{".into();
        assert!(load(files).err().unwrap().contains(file), "{file}");
    }
    let broken = load(json!({"chat_template.jinja": "{% if %}"}));
    assert!(broken.err().unwrap().contains("chat_template.jinja"));
}

#[test]
fn recommended_values_are_taken_if_they_are_possible() {
    let recommended = |generation: Value| {
        load(json!({"generation_config.json": generation})).unwrap().recommended
    };
    let values = recommended(json!({"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0}));
    assert_eq!((values.temperature, values.top_p), (Some(0.6), Some(0.95)));
    assert_eq!((values.top_k, values.min_p), (Some(20), Some(0.0)));
    assert_eq!(recommended(json!({"temperature": 9, "top_p": 0})), Recommended::default());
    let greedy = recommended(json!({"do_sample": false, "temperature": 0.6}));
    assert_eq!(greedy.temperature, Some(0.0));
}

/// Where the test command has a real model: the prompt is the one `transformers` makes of it.
#[test]
fn smollm2_renders_as_by_transformers() {
    let Some(dir) = test_model_dir() else { return };
    let model = Model::load(&dir).unwrap();
    let messages = [json!({"role": "user", "content": "Hi"})];
    let text = model.template.unwrap().render(&messages, &Map::new(), true).unwrap();
    assert_eq!(
        text,
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging \
         Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    );
    let ids = model.tokenizer.encode(&text, false).unwrap();
    assert_eq!(ids[..4], [1, 9690, 198, 2683]);
    assert_eq!(model.stop_tokens, [2]);
}
