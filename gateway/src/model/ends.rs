//! Which tokens end an answer.
//!
//! Model folders say it in up to five files, which seldom agree: a base model's end of text beside a
//! chat's end of turn, a list beside one of its entries. A model may write any of them when it is
//! done, and what follows would be turns that it makes up. So all of them end an answer, and with
//! them the token that the chat template puts after an assistant's words, whether a file names it or
//! not.

use serde_json::{Map, Value, json};

use super::spelling;
use crate::{chat_template::ChatTemplate, tokenizer::TextTokenizer};

/// The files, parsed; empty where there is none.
pub(super) struct Files<'a> {
    pub(super) generation: &'a Map<String, Value>,
    pub(super) config: &'a Map<String, Value>,
    pub(super) settings: &'a Map<String, Value>,
    pub(super) map: &'a Map<String, Value>,
}

/// The ids of all end tokens, in the order of the files. The error: there is none.
pub(super) fn find(
    files: &Files<'_>,
    template: Option<&ChatTemplate>,
    tokenizer: &TextTokenizer,
) -> Result<Vec<u32>, String> {
    let mut found = Ends { tokenizer, ids: Vec::new(), unknown: Vec::new() };
    let inner = files.config.get("text_config").and_then(|inner| inner.get("eos_token_id"));
    for (file, value) in [
        ("generation_config.json", files.generation.get("eos_token_id")),
        ("config.json", files.config.get("eos_token_id")),
        ("config.json (text_config)", inner),
    ] {
        found.add_ids(file, value);
    }
    for (file, settings) in
        [("tokenizer_config.json", files.settings), ("special_tokens_map.json", files.map)]
    {
        if let Some(text) = settings.get("eos_token").and_then(spelling) {
            match tokenizer.id(text) {
                Some(id) => found.add(file, id),
                None => found.unknown.push(format!("{text:?} in {file}")),
            }
        }
    }
    if let Some(id) = template.and_then(|template| end_of_turn(template, tokenizer)) {
        found.add("the chat template", id);
    }
    found.all()
}

struct Ends<'a> {
    tokenizer: &'a TextTokenizer,
    ids: Vec<u32>,
    /// What is no token of the vocabulary, and where it stands.
    unknown: Vec<String>,
}

impl Ends<'_> {
    fn add_ids(&mut self, file: &str, value: Option<&Value>) {
        let values = match value {
            None | Some(Value::Null) => &[],
            Some(Value::Array(all)) => all.as_slice(),
            Some(one) => std::slice::from_ref(one),
        };
        for value in values {
            match value.as_u64().and_then(|id| u32::try_from(id).ok()) {
                Some(id) => self.add(file, id),
                None => self.unknown.push(format!("{value} in {file}")),
            }
        }
    }

    fn add(&mut self, file: &str, id: u32) {
        if !self.tokenizer.knows(id) {
            self.unknown.push(format!("{id} in {file}"));
        } else if !self.ids.contains(&id) {
            if !self.tokenizer.is_added(id) {
                let (text, _) = self.tokenizer.spell(id);
                tracing::warn!(
                    "answers end at {text:?} (token {id}), as {file} says; it is a word"
                );
            }
            self.ids.push(id);
        }
    }

    fn all(self) -> Result<Vec<u32>, String> {
        let unknown = self.unknown.join(", ");
        if self.ids.is_empty() {
            let named = if unknown.is_empty() {
                String::new()
            } else {
                format!(" in the vocabulary (there is {unknown})")
            };
            return Err(format!(
                "no file names a token{named} that ends a text: generation_config.json or \
                 config.json (eos_token_id), tokenizer_config.json or special_tokens_map.json \
                 (eos_token); add it to one of them"
            ));
        }
        if !unknown.is_empty() {
            tracing::warn!("end tokens that are not in the vocabulary are left out: {unknown}");
        }
        Ok(self.ids)
    }
}

/// The special token that the template puts right behind an assistant's words, if it puts one.
fn end_of_turn(template: &ChatTemplate, tokenizer: &TextTokenizer) -> Option<u32> {
    const WORDS: &str = "Good morning to you";
    let messages = [
        json!({"role": "user", "content": "Hello"}),
        json!({"role": "assistant", "content": WORDS}),
    ];
    let text = template.render(&messages, &Map::new(), false).ok()?;
    let (_, after) = text.rsplit_once(WORDS)?;
    let ids = tokenizer.encode(after.trim_start(), false).ok()?;
    ids.first().copied().filter(|id| tokenizer.is_added(*id))
}
