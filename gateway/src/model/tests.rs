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

/// Ids of the test tokeniser: `<|endoftext|>`, `<|im_start|>` and the end of a turn are 0, 1 and 2.
#[test]
fn an_answer_ends_at_every_end_token_of_every_file() {
    let tokenizer = load(json!({})).unwrap().tokenizer;
    assert_eq!(
        ["<|endoftext|>", "<|im_start|>", model_folder::END].map(|t| tokenizer.id(t)),
        [Some(0), Some(1), Some(2)]
    );
    let plain = "{% for m in messages %}{{ m.content + '\n' }}{% endfor %}";
    let settings = |eos: Value| json!({"eos_token": eos, "chat_template": plain});
    // What the five files say, and what ends an answer.
    for (generation, config, tokens, map, ends) in [
        (
            json!({"eos_token_id": [2, 0]}),
            json!({"eos_token_id": 0}),
            json!(null),
            json!(null),
            vec![2, 0],
        ),
        (
            json!(null),
            json!({"eos_token_id": 0}),
            json!(model_folder::END),
            json!(null),
            vec![0, 2],
        ),
        (
            json!({}),
            json!({"eos_token_id": 0}),
            json!({"content": "<|im_end|>"}),
            json!({}),
            vec![0, 2],
        ),
        (
            json!({"eos_token_id": 9}),
            json!({"eos_token_id": [0, 9]}),
            json!("<|im_end|>"),
            json!({"eos_token": "<|im_start|>"}),
            vec![9, 0, 2, 1],
        ),
        (
            json!({}),
            json!({"text_config": {"eos_token_id": [7, 8]}}),
            json!(null),
            json!(null),
            vec![7, 8],
        ),
        (
            json!({"eos_token_id": 7}),
            json!({"text_config": {"eos_token_id": 8}}),
            json!(null),
            json!(null),
            vec![7, 8],
        ),
        (json!(null), json!({}), json!(null), json!({"eos_token": "<|im_end|>"}), vec![2]),
        (
            json!({"eos_token_id": null}),
            json!({}),
            json!(null),
            json!({"eos_token": {"content": "<|endoftext|>", "lstrip": false}}),
            vec![0],
        ),
        // What is no token of the vocabulary is left out.
        (
            json!({"eos_token_id": 128_001}),
            json!({"eos_token_id": 0}),
            json!(null),
            json!(null),
            vec![0],
        ),
        (
            json!({"eos_token_id": [-1, "x", 2]}),
            json!({}),
            json!("<|eot_id|>"),
            json!(null),
            vec![2],
        ),
    ] {
        let shown = format!("{generation} {config} {tokens} {map}");
        let mut files = json!({"config.json": config, "tokenizer_config.json": settings(tokens),
                               "generation_config.json": generation});
        if !map.is_null() {
            files["special_tokens_map.json"] = map;
        }
        assert_eq!(load(files).unwrap().stop_tokens, ends, "{shown}");
    }
}

#[test]
fn a_folder_without_an_end_token_is_refused_in_words() {
    let plain = json!({"chat_template": "{{ messages }}"});
    let refused = |generation: Value| {
        let files = json!({"generation_config.json": generation, "config.json": {},
                           "tokenizer_config.json": plain});
        load(files).err().unwrap()
    };
    let none = refused(json!({}));
    assert!(none.contains("eos_token_id") && none.contains("special_tokens_map.json"), "{none}");
    let outside = refused(json!({"eos_token_id": 128_001}));
    assert!(outside.contains("128001 in generation_config.json"), "{outside}");
}

#[test]
fn the_templates_end_of_turn_ends_an_answer() {
    let ends = |template: &str| {
        let settings = json!({"chat_template": template, "eos_token": "<|endoftext|>"});
        let files = json!({"generation_config.json": null, "config.json": {},
                           "tokenizer_config.json": settings});
        load(files).unwrap().stop_tokens
    };
    let each = |turn: &str| format!("{{% for m in messages %}}{turn}{{% endfor %}}");
    assert_eq!(ends(model_folder::TEMPLATE), [0, 2]);
    assert_eq!(ends(&each("{{ m.role + ': ' + m.content + ' <|im_end|>\n' }}")), [0, 2]);
    assert_eq!(ends(&each("{{ m.content + eos_token }}")), [0]);
    assert_eq!(ends(&each("{{ '<|im_start|>' + m.content + '\n' }}")), [0]);
    assert_eq!(ends(&each("{{ m.content }}")), [0]);
    assert_eq!(ends("{{ raise_exception('never') }}"), [0]);
    assert_eq!(ends(&each("{% if m.role == 'user' %}{{ m.content }}<|im_end|>{% endif %}")), [0]);
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
fn of_several_templates_one_is_taken() {
    let listed = |names: &[&str]| -> Value {
        names.iter().map(|name| json!({"name": name, "template": format!("the {name}")})).collect()
    };
    let settings = |template: Value| json!({"tokenizer_config.json": {"chat_template": template}});
    assert_eq!(rendered(settings(listed(&["rag", "tool_use", "default"]))), "the default");
    assert_eq!(rendered(settings(listed(&["rag", "tool_use"]))), "the tool_use");
    assert_eq!(rendered(settings(listed(&["rag", "other"]))), "the rag");
    assert_eq!(rendered(settings(json!({"rag": "r", "default": "d"}))), "d");
    assert!(load(settings(json!([]))).unwrap().template.is_none());
    assert!(load(settings(json!([{"name": "default"}]))).unwrap().template.is_none());

    let dir = tempfile::tempdir().unwrap();
    model_folder::write(dir.path());
    fs::write(dir.path().join("tokenizer_config.json"), "{}").unwrap();
    let named = dir.path().join("additional_chat_templates");
    fs::create_dir(&named).unwrap();
    let text = || {
        let template = Model::load(dir.path()).unwrap().template?;
        Some(template.render(&[], &Map::new(), false).unwrap())
    };
    assert_eq!(text(), None);
    fs::write(named.join("rag.jinja"), "rag").unwrap();
    fs::write(named.join("notes.txt"), "{% if %}").unwrap();
    assert_eq!(text().as_deref(), Some("rag"));
    fs::write(named.join("tool_use.jinja"), "tools").unwrap();
    assert_eq!(text().as_deref(), Some("tools"));
    fs::write(dir.path().join("chat_template.jinja"), "own").unwrap();
    assert_eq!(text().as_deref(), Some("own"));
}

#[test]
fn broken_files_are_named() {
    for file in ["config.json", "tokenizer_config.json", "special_tokens_map.json"] {
        let mut files = json!({});
        files[file] = "{".into();
        assert!(load(files).err().unwrap().contains(file), "{file}");
    }
    let broken = load(json!({"chat_template.jinja": "{% if %}"}));
    assert!(broken.err().unwrap().contains("chat_template.jinja"));
}

/// It only recommends, so a broken one costs what it recommends and nothing else.
#[test]
fn a_broken_generation_config_is_passed_over() {
    for broken in ["", "{", "[]", "null", "7", "{\"temperature\": nan}", "\u{feff}"] {
        let model = load(json!({"generation_config.json": broken})).unwrap();
        assert_eq!((model.recommended, model.stop_tokens), (Recommended::default(), vec![0, 2]));
    }
    // As Python writes what is no number.
    let python = r#"{"eos_token_id": [9], "temperature": NaN, "top_p": Infinity, "top_k": 7,
                     "min_p": -Infinity, "note": "NaN \"Infinity"}"#;
    let model = load(json!({"generation_config.json": python})).unwrap();
    assert_eq!(model.recommended, Recommended { top_k: Some(7), ..Recommended::default() });
    assert_eq!(model.stop_tokens, [9, 0, 2]);
}

#[test]
fn numbers_that_json_lacks_are_null_outside_of_strings() {
    for (text, read) in [
        (r#"{"a":NaN,"b":[-Infinity,Infinity]}"#, r#"{"a":null,"b":[null,null]}"#),
        (r#"{"NaN":"Infinity\"NaN\\","x":NaN}"#, r#"{"NaN":"Infinity\"NaN\\","x":null}"#),
        ("{\"a\": \"\\", "{\"a\": \"\\"),
    ] {
        assert_eq!(String::from_utf8(without_nan(text.as_bytes())).unwrap(), read);
    }
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
