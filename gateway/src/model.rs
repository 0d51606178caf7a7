//! What the gateway reads of a model folder: tokeniser, chat template, end tokens and the
//! sampling values the model's authors recommend.

use std::{fs, path::Path};

use serde_json::{Map, Value};

use crate::{chat_template::ChatTemplate, tokenizer::TextTokenizer};

/// A model's text side.
pub(crate) struct Model {
    pub(crate) tokenizer: TextTokenizer,
    /// `None`: the folder holds no template, so there is no chat with this model.
    pub(crate) template: Option<ChatTemplate>,
    /// Ids that end a generation.
    pub(crate) stop_tokens: Vec<u32>,
    /// Begins every text of this model, where it has such a token.
    pub(crate) bos_token: Option<u32>,
    pub(crate) recommended: Recommended,
}

/// Sampling values in `generation_config.json`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Recommended {
    pub(crate) temperature: Option<f32>,
    pub(crate) top_p: Option<f32>,
    pub(crate) top_k: Option<u32>,
    pub(crate) min_p: Option<f32>,
    pub(crate) repetition_penalty: Option<f32>,
}

impl Model {
    /// Reads the folder. The error names the file and what is wrong with it.
    pub(crate) fn load(dir: &Path) -> Result<Self, String> {
        let tokenizer = TextTokenizer::load(dir)?;
        let config = read_json(&dir.join("config.json"))?.unwrap_or_default();
        let generation = read_json(&dir.join("generation_config.json"))?.unwrap_or_default();
        let settings = read_json(&dir.join("tokenizer_config.json"))?.unwrap_or_default();
        let specials = special_tokens(&settings);
        let stop_tokens = stop_tokens(&generation, &config, &specials, &tokenizer);
        if stop_tokens.is_empty() {
            return Err(format!(
                "{}: neither generation_config.json, config.json (eos_token_id) nor \
                 tokenizer_config.json (eos_token) says which token ends a text",
                dir.display()
            ));
        }
        let bos_token = specials
            .get("bos_token")
            .and_then(Value::as_str)
            .and_then(|spelling| tokenizer.id(spelling));
        let template = match template_source(dir, &settings)? {
            Some((file, source)) => Some(
                ChatTemplate::new(&source, specials)
                    .map_err(|e| format!("{}: {e}", dir.join(file).display()))?,
            ),
            None => None,
        };
        let recommended = Recommended::read(&generation);
        Ok(Self { tokenizer, template, stop_tokens, bos_token, recommended })
    }
}

impl Recommended {
    fn read(generation: &Map<String, Value>) -> Self {
        if generation.get("do_sample") == Some(&Value::Bool(false)) {
            return Self { temperature: Some(0.0), ..Self::default() };
        }
        // Values out of the API's ranges are not recommendations but mistakes.
        let number = |key: &str, low: f64, high: f64| {
            let value = generation.get(key).and_then(Value::as_f64)?;
            (low..=high).contains(&value).then_some(value as f32)
        };
        Self {
            temperature: number("temperature", 0.0, 2.0),
            top_p: number("top_p", f64::from(f32::MIN_POSITIVE), 1.0),
            top_k: number("top_k", 0.0, 1e9).map(|k| k as u32),
            min_p: number("min_p", 0.0, 1.0),
            repetition_penalty: number("repetition_penalty", 0.01, 10.0),
        }
    }
}

/// A JSON object in a file; `None` if there is no such file.
fn read_json(path: &Path) -> Result<Option<Map<String, Value>>, String> {
    let in_file = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|e| in_file(&e)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(in_file(&e)),
    }
}

/// Special tokens by name. Each is written as a string or as an object with `content`.
fn special_tokens(settings: &Map<String, Value>) -> Map<String, Value> {
    let names = ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token"];
    let text = |value: &Value| value.as_str().or(value["content"].as_str()).map(Value::from);
    names.iter().filter_map(|&name| Some((name.to_owned(), text(settings.get(name)?)?))).collect()
}

/// The end tokens by the first file that names some, as `transformers` and mlx-lm choose them.
fn stop_tokens(
    generation: &Map<String, Value>,
    config: &Map<String, Value>,
    specials: &Map<String, Value>,
    tokenizer: &TextTokenizer,
) -> Vec<u32> {
    let ids = |value: Option<&Value>| -> Vec<u32> {
        let values = match value {
            Some(Value::Array(all)) => all.as_slice(),
            Some(one) => std::slice::from_ref(one),
            None => &[],
        };
        values.iter().filter_map(|v| u32::try_from(v.as_u64()?).ok()).collect()
    };
    let inner = config.get("text_config").and_then(|inner| inner.get("eos_token_id"));
    let spelt = || specials.get("eos_token").and_then(|v| tokenizer.id(v.as_str()?));
    [generation.get("eos_token_id"), config.get("eos_token_id"), inner]
        .into_iter()
        .map(ids)
        .find(|ids| !ids.is_empty())
        .unwrap_or_else(|| spelt().into_iter().collect())
}

/// The chat template's text and the file it stands in. A file of its own wins, as newer versions
/// of `transformers` write it; of several named ones, that called `default`.
fn template_source(
    dir: &Path,
    settings: &Map<String, Value>,
) -> Result<Option<(&'static str, String)>, String> {
    let own = "chat_template.jinja";
    match fs::read_to_string(dir.join(own)) {
        Ok(source) => return Ok(Some((own, source))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(format!("{}: {e}", dir.join(own).display())),
    }
    let json = "chat_template.json";
    let wrapped = read_json(&dir.join(json))?;
    let files = [(json, wrapped.as_ref()), ("tokenizer_config.json", Some(settings))];
    for (file, content) in files {
        match content.and_then(|content| content.get("chat_template")) {
            Some(Value::String(source)) => return Ok(Some((file, source.clone()))),
            Some(Value::Array(named)) => {
                let default = named.iter().find(|one| one["name"] == "default");
                let source = default.or(named.first()).and_then(|one| one["template"].as_str());
                return Ok(source.map(|source| (file, source.to_owned())));
            }
            _ => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
