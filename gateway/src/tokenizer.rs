//! The model's tokeniser (`tokenizer.json`), with the few uses the gateway has for it.

use std::{collections::HashMap, path::Path};

use serde_json::Value;
use tokenizers::Tokenizer;

use crate::marks;

mod size;

/// Text to ids and back. Cheap to share behind an `Arc`; all methods take `&self`.
pub(crate) struct TextTokenizer {
    inner: Tokenizer,
    /// For byte-level decoders: the byte behind each character of a token's spelling.
    byte_of_char: Option<HashMap<char, u8>>,
}

impl TextTokenizer {
    /// Reads `tokenizer.json` of a model folder. The error names the file.
    pub(crate) fn load(model_dir: &Path) -> Result<Self, String> {
        let path = model_dir.join("tokenizer.json");
        let in_file = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let mut text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(missing(model_dir)),
            Err(e) => return Err(in_file(&e)),
        };
        let mut json: Value = serde_json::from_slice(&text).map_err(|e| in_file(&e))?;
        if make_marks_text(&mut json) {
            text = serde_json::to_vec(&json).map_err(|e| in_file(&e))?;
        }
        let mut inner = Tokenizer::from_bytes(&text).map_err(|e| in_file(&e))?;
        // Left over from training in some files; they would silently cut or lengthen prompts.
        inner.with_truncation(None).map_err(|e| in_file(&e))?;
        inner.with_padding(None);
        let byte_level = mentions_byte_level(&json["decoder"]);
        Ok(Self { inner, byte_of_char: byte_level.then(byte_of_char) })
    }

    /// Ids of a text in which special tokens are spelt out. `add_special`: also put those around
    /// it that the model expects around a plain text, but none twice.
    pub(crate) fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, String> {
        let encode = |add| self.inner.encode_fast(text, add).map_err(|e| e.to_string());
        let plain = encode(false)?.get_ids().to_vec();
        if !add_special {
            return Ok(plain);
        }
        let full = encode(true)?.get_ids().to_vec();
        // The text may spell out the token that begins every text, as templates do.
        let twice = plain.first() == full.first()
            && full.get(1..).is_some_and(|rest| rest.starts_with(&plain) && !plain.is_empty());
        Ok(if twice { full.into_iter().skip(1).collect() } else { full })
    }

    /// Text of ids, special tokens left out unless they are [`marks`]. Ids that there are not are left
    /// out too.
    pub(crate) fn decode(&self, ids: &[u32]) -> String {
        self.inner.decode(ids, true).unwrap_or_default()
    }

    /// The bytes of one token alone and its best rendering as text, special tokens included.
    pub(crate) fn spell(&self, id: u32) -> (String, Vec<u8>) {
        let Some(spelling) = self.inner.id_to_token(id) else {
            return Default::default();
        };
        let bytes =
            if self.is_added(id) { spelling.into_bytes() } else { self.bytes_of(&spelling) };
        (String::from_utf8_lossy(&bytes).into_owned(), bytes)
    }

    /// The id of a token as it is spelt in the vocabulary.
    pub(crate) fn id(&self, spelling: &str) -> Option<u32> {
        self.inner.token_to_id(spelling)
    }

    /// Whether the vocabulary has this id.
    pub(crate) fn knows(&self, id: u32) -> bool {
        self.inner.id_to_token(id).is_some()
    }

    /// Whether it is a token of its own, beside the words of the vocabulary.
    pub(crate) fn is_added(&self, id: u32) -> bool {
        self.inner.get_added_vocabulary().get_added_tokens_decoder().contains_key(&id)
    }

    fn bytes_of(&self, spelling: &str) -> Vec<u8> {
        if let Some(map) = &self.byte_of_char {
            let bytes: Option<Vec<u8>> = spelling.chars().map(|c| map.get(&c).copied()).collect();
            return bytes.unwrap_or_else(|| spelling.as_bytes().to_vec());
        }
        // SentencePiece: a byte without a token of its own is spelt `<0xE2>`, a space `▁`.
        let byte = spelling.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
        match byte.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => vec![byte],
            None => spelling.replace('▁', " ").into_bytes(),
        }
    }
}

/// Marks that are special tokens become tokens like others, so that decoding keeps them. Whether
/// there were any. They are found in a prompt as before.
fn make_marks_text(json: &mut Value) -> bool {
    let Some(added) = json.get_mut("added_tokens").and_then(Value::as_array_mut) else {
        return false;
    };
    let mut any = false;
    for token in added {
        if token["special"] == true && token["content"].as_str().is_some_and(marks::is_text) {
            token["special"] = false.into();
            any = true;
        }
    }
    any
}

/// What to do about a folder that has no `tokenizer.json`, by what it has instead.
fn missing(model_dir: &Path) -> String {
    let has = |name: &str| model_dir.join(name).exists();
    let convert = "write it with transformers: AutoTokenizer.from_pretrained(FOLDER)\
                   .save_pretrained(FOLDER), or take the model's MLX or Hugging Face form, which has it";
    let what = if has("tekken.json") {
        format!("only tekken.json, Mistral's own form, which is not read; {convert}")
    } else if has("tokenizer.model") {
        format!("only tokenizer.model, SentencePiece's form, which is not read; {convert}")
    } else if has("vocab.json") || has("vocab.txt") {
        format!("only a vocabulary; {convert}")
    } else {
        "nor another tokeniser's file; is the download complete?".to_owned()
    };
    format!("{}: there is no tokenizer.json, {what}", model_dir.display())
}

fn mentions_byte_level(decoder: &Value) -> bool {
    decoder["type"] == "ByteLevel"
        || decoder["decoders"].as_array().is_some_and(|all| all.iter().any(mentions_byte_level))
}

/// GPT-2's printable alphabet for bytes: those that print stand for themselves, the others are
/// numbered from U+0100 on.
fn byte_of_char() -> HashMap<char, u8> {
    let mut next = 0x100;
    (0..=255u8)
        .map(|byte| {
            let prints = matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
            let code = if prints { u32::from(byte) } else { next };
            next += u32::from(!prints);
            (char::from_u32(code).unwrap_or('\0'), byte)
        })
        .collect()
}

#[cfg(test)]
mod tests;
