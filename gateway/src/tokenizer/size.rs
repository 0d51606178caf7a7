//! How much text one token can stand for.

use tokenizers::ModelWrapper;

use super::TextTokenizer;

/// Unicode's normal forms and lower case make text shorter by at most this: four bytes of a
/// mathematical letter become one, three Hangul letters of three bytes each become one.
const FOLDING: usize = 4;

impl TextTokenizer {
    /// Most bytes of text that one token can stand for; `None` if that has no bound, because this
    /// tokeniser leaves some text out.
    pub(crate) fn token_bytes_max(&self) -> Option<usize> {
        let json = |part: serde_json::Result<serde_json::Value>| part.ok();
        let normalizer = json(serde_json::to_value(self.inner.get_normalizer()))?;
        let splitter = json(serde_json::to_value(self.inner.get_pre_tokenizer()))?;
        // Others merge what they do not know, however long, into one token, or leave it out.
        let is_complete = self.byte_of_char.is_some()
            || match self.inner.get_model() {
                ModelWrapper::BPE(model) => model.byte_fallback,
                ModelWrapper::Unigram(model) => model.byte_fallback(),
                _ => false,
            };
        let strips = self.inner.get_added_tokens_decoder().into_values();
        let keeps_spaces = strips.into_iter().all(|token| !token.lstrip && !token.rstrip);
        if !is_complete || !keeps_spaces || !keeps_all(&splitter) {
            return None;
        }
        let longest = self.inner.get_vocab(true).into_values().map(|id| self.spell(id).1.len());
        Some(longest.max()?.max(1) * shrinking(&normalizer)?)
    }
}

/// By how much a normaliser may make text shorter; `None`: without a bound.
fn shrinking(normalizer: &serde_json::Value) -> Option<usize> {
    if normalizer.is_null() {
        return Some(1);
    }
    match normalizer["type"].as_str()? {
        "Sequence" => {
            let all = normalizer["normalizers"].as_array()?;
            all.iter().try_fold(1, |factor, one| Some(factor * shrinking(one)?))
        }
        "ByteLevel" | "Prepend" => Some(1),
        "NFC" | "NFD" | "NFKC" | "NFKD" | "Lowercase" => Some(FOLDING),
        "Replace" => {
            let (from, to) = (normalizer["pattern"]["String"].as_str()?, &normalizer["content"]);
            (to.as_str()?.len() >= from.len()).then_some(1)
        }
        _ => None,
    }
}

/// Whether what cuts text into words leaves nothing out.
fn keeps_all(splitter: &serde_json::Value) -> bool {
    if splitter.is_null() {
        return true;
    }
    match splitter["type"].as_str() {
        Some("Sequence") => {
            splitter["pretokenizers"].as_array().is_some_and(|all| all.iter().all(keeps_all))
        }
        Some("ByteLevel" | "Metaspace" | "Digits" | "UnicodeScripts") => true,
        Some("Split" | "Punctuation") => splitter["behavior"] != "Removed",
        _ => false,
    }
}
