//! What the gateway reads of a model folder: tokeniser, chat template, end tokens and the
//! sampling values the model's authors recommend.

mod ends;
mod template;

use std::{fs, path::Path};

use serde_json::{Map, Value};

use crate::{
    chat_template::ChatTemplate,
    marks::{self, Pair},
    tokenizer::TextTokenizer,
};

/// A model's text side.
pub(crate) struct Model {
    pub(crate) tokenizer: TextTokenizer,
    /// `None`: the folder holds no template, so there is no chat with this model.
    pub(crate) template: Option<ChatTemplate>,
    /// Ids that end a generation: not empty, all in the vocabulary.
    pub(crate) stop_tokens: Vec<u32>,
    /// Begins every text of this model, where it has such a token.
    pub(crate) bos_token: Option<u32>,
    /// What the model's reasoning stands between.
    pub(crate) reasoning: Vec<&'static Pair>,
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
        let generation = generation_config(dir);
        let settings = read_json(&dir.join("tokenizer_config.json"))?.unwrap_or_default();
        let map = read_json(&dir.join("special_tokens_map.json"))?.unwrap_or_default();
        // Older versions of `transformers` kept them in a file of their own.
        let mut specials = special_tokens(&map);
        specials.extend(special_tokens(&settings));
        let bos_token = specials
            .get("bos_token")
            .and_then(Value::as_str)
            .and_then(|spelling| tokenizer.id(spelling));
        let source = template::find(dir, &settings)?;
        let reasoning =
            marks::reasoning_of(source.as_ref().map(|found| found.source.as_str()), |mark| {
                tokenizer.id(mark).is_some_and(|id| tokenizer.is_added(id))
            });
        let template = match source {
            Some(found) => Some(
                ChatTemplate::new(&found.source, specials.clone())
                    .map_err(|e| format!("{}: {e}", dir.join(&found.file).display()))?,
            ),
            None => None,
        };
        let stop_tokens = ends::find(
            &ends::Files {
                generation: &generation,
                config: &config,
                settings: &settings,
                map: &map,
            },
            template.as_ref(),
            &tokenizer,
        )
        .map_err(|problem| format!("{}: {problem}", dir.display()))?;
        let recommended = Recommended::read(&generation);
        Ok(Self { tokenizer, template, stop_tokens, bos_token, reasoning, recommended })
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
        Ok(text) => serde_json::from_slice(&text)
            .or_else(|e| serde_json::from_slice(&without_nan(&text)).map_err(|_| e))
            .map(Some)
            .map_err(|e| in_file(&e)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(in_file(&e)),
    }
}

/// Python writes `NaN` and `Infinity` for numbers that JSON does not have: read as null.
fn without_nan(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut in_string = false;
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let rest = &text[at..];
        let number =
            ["-Infinity", "Infinity", "NaN"].iter().find(|n| rest.starts_with(n.as_bytes()));
        match (in_string, byte) {
            (true, b'\\') => {
                out.extend(rest.iter().take(2));
                at += 2;
                continue;
            }
            (_, b'"') => in_string = !in_string,
            (false, _) => {
                if let Some(number) = number {
                    out.extend(b"null");
                    at += number.len();
                    continue;
                }
            }
            (true, _) => {}
        }
        out.push(byte);
        at += 1;
    }
    out
}

/// `generation_config.json`; nothing if it can't be read: it only recommends, and what ends an
/// answer stands elsewhere too.
fn generation_config(dir: &Path) -> Map<String, Value> {
    read_json(&dir.join("generation_config.json")).map(Option::unwrap_or_default).unwrap_or_else(
        |problem| {
            tracing::warn!("{problem}; going on without what it recommends");
            Map::new()
        },
    )
}

/// Special tokens by name. Each is written as a string or as an object with `content`.
fn special_tokens(settings: &Map<String, Value>) -> Map<String, Value> {
    let names = ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token"];
    names
        .iter()
        .filter_map(|&name| Some((name.to_owned(), spelling(settings.get(name)?)?.into())))
        .collect()
}

fn spelling(token: &Value) -> Option<&str> {
    token.as_str().or(token["content"].as_str())
}

#[cfg(test)]
mod tests;
