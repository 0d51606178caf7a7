//! The vocabulary in a GGUF file, as Hugging Face's `tokenizer.json` and its companions.
//!
//! Two kinds exist in the supported families: byte-level BPE (`gpt2`), where the file has the
//! merges and names the pre-tokeniser, and SentencePiece BPE (`llama`), where they follow from
//! scores.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::architecture::token_id;
use super::metadata::Metadata;
use super::pretokenizer::{self, Pretokenizer};
use super::sentence_piece;

/// Token types of `tokenizer.ggml.token_type` (llama.cpp `llama_token_type`).
pub(super) const NORMAL: i64 = 1;
pub(super) const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
pub(super) const USER_DEFINED: i64 = 4;
const UNUSED: i64 = 5;
pub(super) const BYTE: i64 = 6;

/// Spellings of end tokens, by which llama.cpp finds them too; ends of a turn first.
const END_TEXTS: [&str; 12] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<end_of_turn>",
    "<|end|>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "</s>",
];

/// The files that describe text, as JSON.
#[derive(Debug)]
pub(super) struct Files {
    /// `tokenizer.json`
    pub(super) tokenizer: Value,
    /// `tokenizer_config.json`, with the chat template.
    pub(super) config: Value,
    /// `special_tokens_map.json`
    pub(super) special: Value,
    /// `generation_config.json`
    pub(super) generation: Value,
}

/// Converts the vocabulary. `rows` is how many tokens the embedding has.
pub(super) fn convert(meta: &Metadata, rows: usize) -> Result<Files, String> {
    let vocabulary = Vocabulary::read(meta, rows)?;
    let ends = Ends::read(meta, &vocabulary)?;
    let tokenizer = match meta.text("tokenizer.ggml.model")? {
        "gpt2" => {
            let pre = pretokenizer::find(meta.text("tokenizer.ggml.pre").map_err(|reason| {
                format!("{reason}; convert the original model again with a current llama.cpp")
            })?)?;
            byte_level(meta, &vocabulary, &ends.with_defaults(meta, pre.adds_bos)?, &pre)?
        }
        "llama" => sentence_piece::convert(meta, &vocabulary, &ends.with_defaults(meta, true)?)?,
        other => {
            return Err(format!(
                "tokenizer.ggml.model is {other:?}; gpt2 (byte-level BPE) and llama (SentencePiece \
                 BPE) are supported"
            ));
        }
    };
    let adds_bos = !tokenizer["post_processor"].is_null();
    Ok(Files {
        config: config(meta, &vocabulary, &ends, adds_bos)?,
        special: ends.named(&vocabulary),
        generation: generation(&ends),
        tokenizer,
    })
}

pub(super) struct Vocabulary<'a> {
    pub(super) tokens: &'a [String],
    types: &'a [i64],
}

impl<'a> Vocabulary<'a> {
    fn read(meta: &'a Metadata, rows: usize) -> Result<Self, String> {
        let tokens = meta.texts("tokenizer.ggml.tokens")?;
        let types = meta.ints("tokenizer.ggml.token_type")?;
        if tokens.is_empty() || tokens.len() > rows {
            return Err(format!("has {} tokens and an embedding of {rows} rows", tokens.len()));
        }
        if types.len() != tokens.len() {
            return Err(format!("has {} tokens and {} token types", tokens.len(), types.len()));
        }
        if let Some(other) = types.iter().find(|t| !(NORMAL..=BYTE).contains(*t)) {
            return Err(format!("tokenizer.ggml.token_type has the unknown type {other}"));
        }
        let mut seen = HashSet::with_capacity(tokens.len());
        if let Some(twice) = tokens.iter().find(|t| !seen.insert(t.as_str())) {
            return Err(format!("token {twice:?} comes twice in tokenizer.ggml.tokens"));
        }
        Ok(Self { tokens, types })
    }

    fn text(&self, id: u32) -> &'a str {
        // Ids were checked against the vocabulary when they were read.
        &self.tokens[id as usize]
    }

    /// The control tokens that end a text in every family that has them.
    fn spelt_ends(&self) -> Vec<u32> {
        let id = |text: &&str| {
            let mut control = self.used().filter(|(_, _, kind)| *kind == CONTROL);
            control.find(|(_, token, _)| token == text).map(|(id, ..)| id as u32)
        };
        END_TEXTS.iter().filter_map(id).collect()
    }

    /// (id, token, type), fillers of the embedding's last rows left out.
    pub(super) fn used(&self) -> impl Iterator<Item = (usize, &'a str, i64)> {
        let all = self.tokens.iter().zip(self.types).enumerate();
        all.filter(|(_, (_, kind))| **kind != UNUSED)
            .map(|(id, (token, kind))| (id, token.as_str(), *kind))
    }

    /// Tokens found in text before any splitting: control tokens and the user's own.
    fn added(&self) -> Vec<Value> {
        self.used()
            .filter(|(_, _, kind)| [UNKNOWN, CONTROL, USER_DEFINED].contains(kind))
            .map(|(id, token, kind)| {
                json!({
                    "id": id, "content": token, "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": kind != USER_DEFINED,
                })
            })
            .collect()
    }

    fn map(&self) -> Value {
        self.used()
            .map(|(id, token, _)| (token.to_owned(), json!(id)))
            .collect::<Map<_, _>>()
            .into()
    }
}

/// Ids of the tokens with a role, all inside the vocabulary.
struct Ends {
    bos: Option<u32>,
    eos: Option<u32>,
    /// End of a turn and of a message, where they are not the same.
    turn: Option<u32>,
    message: Option<u32>,
    /// What ends a text by its spelling, where the file says nothing.
    spelt: Vec<u32>,
    unknown: Option<u32>,
    padding: Option<u32>,
}

impl Ends {
    fn read(meta: &Metadata, vocabulary: &Vocabulary<'_>) -> Result<Self, String> {
        let id = |name: &str| match token_id(meta, name)? {
            Some(id) if id as usize >= vocabulary.tokens.len() => {
                Err(format!("tokenizer.ggml.{name}_token_id is {id}, beyond the vocabulary"))
            }
            id => Ok(id),
        };
        let (named, turn, message) = (id("eos")?, id("eot")?, id("eom")?);
        let spelt = match named.or(turn).or(message) {
            None => vocabulary.spelt_ends(),
            Some(_) => Vec::new(),
        };
        let eos = named.or(turn).or(spelt.first().copied());
        if eos.or(message).is_none() {
            return Err(format!(
                "names no token that ends a text (tokenizer.ggml.eos_token_id), and the vocabulary \
                 has none that is known to ({}); set it with gguf-py: gguf_set_metadata.py FILE \
                 tokenizer.ggml.eos_token_id ID",
                END_TEXTS.join(" ")
            ));
        }
        Ok(Self {
            bos: id("bos")?,
            eos,
            turn,
            message,
            spelt,
            unknown: id("unknown")?,
            padding: id("padding")?,
        })
    }

    fn named(&self, vocabulary: &Vocabulary<'_>) -> Value {
        let roles = [
            ("bos_token", self.bos),
            ("eos_token", self.eos),
            ("unk_token", self.unknown),
            ("pad_token", self.padding),
        ];
        let named = roles.into_iter().filter_map(|(role, id)| Some((role, id?)));
        named.map(|(role, id)| (role.to_owned(), json!(vocabulary.text(id)))).collect()
    }

    /// Which of bos and eos go around every text; absent keys mean what llama.cpp takes them for.
    fn with_defaults(&self, meta: &Metadata, bos: bool) -> Result<Around, String> {
        let add_bos = meta.flag_or("tokenizer.ggml.add_bos_token", bos && self.bos.is_some())?;
        let add_eos = meta.flag_or("tokenizer.ggml.add_eos_token", false)?;
        if (add_bos && self.bos.is_none()) || (add_eos && self.eos.is_none()) {
            return Err("asks for a bos or eos token around texts without naming it".to_owned());
        }
        Ok(Around { before: self.bos.filter(|_| add_bos), after: self.eos.filter(|_| add_eos) })
    }
}

/// Tokens put before and after every text.
pub(super) struct Around {
    before: Option<u32>,
    after: Option<u32>,
}

impl Around {
    /// A `TemplateProcessing` step; `None` if nothing is added.
    pub(super) fn template(&self, vocabulary: &Vocabulary<'_>) -> Option<Value> {
        if self.before.is_none() && self.after.is_none() {
            return None;
        }
        let token = |id: Option<u32>, kind: u8| {
            id.map(|id| json!({"SpecialToken": {"id": vocabulary.text(id), "type_id": kind}}))
        };
        let around = |kind: u8, name: &str| {
            let text = Some(json!({"Sequence": {"id": name, "type_id": kind}}));
            [token(self.before, kind), text, token(self.after, kind)].into_iter().flatten()
        };
        let mut special = Map::new();
        for id in [self.before, self.after].into_iter().flatten() {
            let text = vocabulary.text(id);
            special.insert(text.to_owned(), json!({"id": text, "ids": [id], "tokens": [text]}));
        }
        Some(json!({
            "type": "TemplateProcessing",
            "single": around(0, "A").collect::<Vec<_>>(),
            "pair": around(0, "A").chain(around(1, "B")).collect::<Vec<_>>(),
            "special_tokens": special,
        }))
    }
}

fn byte_level(
    meta: &Metadata,
    vocabulary: &Vocabulary<'_>,
    around: &Around,
    pre: &Pretokenizer,
) -> Result<Value, String> {
    let merges = meta.texts("tokenizer.ggml.merges")?;
    let known: HashSet<&str> = vocabulary.used().map(|(_, token, _)| token).collect();
    for merge in merges {
        // Byte-level tokens hold no space, so the one space parts the two halves.
        let sound = merge.split_once(' ').is_some_and(|(left, right)| {
            known.contains(left)
                && known.contains(right)
                && known.contains(format!("{left}{right}").as_str())
        });
        if !sound {
            return Err(format!("merge {merge:?} does not join two tokens into a third"));
        }
    }
    let mut tokenizer = frame(vocabulary);
    tokenizer["normalizer"] = pre.normalizer.clone();
    tokenizer["pre_tokenizer"] = pre.pre_tokenizer.clone();
    tokenizer["post_processor"] = around.template(vocabulary).into();
    tokenizer["decoder"] = json!({
        "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true,
    });
    tokenizer["model"]["ignore_merges"] = json!(pre.ignore_merges);
    tokenizer["model"]["merges"] = json!(merges);
    Ok(tokenizer)
}

/// What both kinds share.
pub(super) fn frame(vocabulary: &Vocabulary<'_>) -> Value {
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": vocabulary.added(),
        "normalizer": null,
        "pre_tokenizer": null,
        "post_processor": null,
        "decoder": null,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": false, "vocab": vocabulary.map(), "merges": [],
        },
    })
}

fn config(
    meta: &Metadata,
    vocabulary: &Vocabulary<'_>,
    ends: &Ends,
    adds_bos: bool,
) -> Result<Value, String> {
    let roles = [ends.bos, ends.eos, ends.unknown];
    let added = vocabulary.added();
    let mut decoder = Map::new();
    let mut additional = Vec::new();
    for token in &added {
        let id = token["id"].as_u64().and_then(|id| u32::try_from(id).ok());
        if token["special"] == json!(true) && !roles.contains(&id) {
            additional.push(token["content"].clone());
        }
        let mut entry = token.clone();
        if let Value::Object(fields) = &mut entry {
            fields.remove("id");
        }
        decoder.insert(token["id"].to_string(), entry);
    }
    let arch = meta.text("general.architecture")?;
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_prefix_space": false,
        "add_bos_token": adds_bos,
        "additional_special_tokens": additional,
        "added_tokens_decoder": decoder,
        "clean_up_tokenization_spaces": false,
        "model_max_length": meta.size(&format!("{arch}.context_length"))?,
    });
    if let (Value::Object(config), Value::Object(named)) = (&mut config, ends.named(vocabulary)) {
        config.extend(named);
    }
    if let Some(template) = template(meta)? {
        config["chat_template"] = template;
    }
    Ok(config)
}

/// The chat template as `tokenizer_config.json` has it: a text or, where the file has some by name,
/// a list of all of them.
fn template(meta: &Metadata) -> Result<Option<Value>, String> {
    let default = meta.text_opt("tokenizer.chat_template")?;
    let named: Vec<Value> = default
        .map(|template| ("default", template))
        .into_iter()
        .chain(meta.texts_under("tokenizer.chat_template."))
        .map(|(name, template)| json!({"name": name, "template": template}))
        .collect();
    Ok(match (default, named.len()) {
        (_, 0) => None,
        (Some(template), 1) => Some(template.into()),
        _ => Some(named.into()),
    })
}

/// Every id that ends an answer: end of text, of turn, of message.
fn generation(ends: &Ends) -> Value {
    let mut stops: Vec<u32> = Vec::new();
    let named = [ends.eos, ends.turn, ends.message].into_iter().flatten();
    for id in named.chain(ends.spelt.iter().copied()) {
        if !stops.contains(&id) {
            stops.push(id);
        }
    }
    let eos = match stops.as_slice() {
        [] => Value::Null,
        [one] => json!(one),
        many => json!(many),
    };
    json!({"bos_token_id": ends.bos, "eos_token_id": eos, "pad_token_id": ends.padding})
}
