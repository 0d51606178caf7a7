//! A SentencePiece BPE vocabulary (`tokenizer.ggml.model` = `llama`) as a `tokenizer.json`, as
//! transformers' `LlamaConverter` makes it: merges from scores, bytes for unknown characters.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::metadata::Metadata;
use super::tokenizer::{Around, BYTE, NORMAL, UNKNOWN, USER_DEFINED, Vocabulary, frame};

/// SentencePiece's visible space.
const SPACE: &str = "\u{2581}";

/// The vocabulary as a `tokenizer.json`.
pub(super) fn convert(
    meta: &Metadata,
    vocabulary: &Vocabulary<'_>,
    around: &Around,
) -> Result<Value, String> {
    if meta.get("tokenizer.ggml.precompiled_charsmap").is_some() {
        return Err("its tokeniser has a character map; that is not supported".to_owned());
    }
    let scores = meta.floats("tokenizer.ggml.scores")?;
    if scores.len() != vocabulary.tokens.len() || scores.iter().any(|s| s.is_nan()) {
        return Err("tokenizer.ggml.scores has not one number for every token".to_owned());
    }
    let unknown = vocabulary.used().find(|(_, _, kind)| *kind == UNKNOWN).map(|(_, t, _)| t);
    let bytes = vocabulary.used().any(|(_, _, kind)| kind == BYTE);
    let prefix = meta.flag_or("tokenizer.ggml.add_space_prefix", true)?;
    let mut normalizers = vec![json!({
        "type": "Replace", "pattern": {"String": " "}, "content": SPACE,
    })];
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": SPACE}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let mut tokenizer = frame(vocabulary);
    tokenizer["normalizer"] = json!({"type": "Sequence", "normalizers": normalizers});
    tokenizer["post_processor"] = around.template(vocabulary).into();
    tokenizer["decoder"] = json!({"type": "Sequence", "decoders": decoders});
    tokenizer["model"]["unk_token"] = json!(unknown);
    tokenizer["model"]["fuse_unk"] = json!(true);
    tokenizer["model"]["byte_fallback"] = json!(bytes);
    tokenizer["model"]["merges"] = json!(merges_from_scores(vocabulary, scores));
    Ok(tokenizer)
}

/// SentencePiece joins the pair whose result scores best; BPE joins the pair listed first. Listing
/// every way to make each token by falling score gives the same joins: `generate_merges` of
/// transformers' `convert_slow_tokenizer.py`.
fn merges_from_scores(vocabulary: &Vocabulary<'_>, scores: &[f32]) -> Vec<[String; 2]> {
    let ids: HashMap<&str, usize> = vocabulary
        .used()
        .filter(|(_, _, kind)| *kind == NORMAL || *kind == USER_DEFINED)
        .map(|(id, token, _)| (token, id))
        .collect();
    let mut merges = Vec::new();
    for (id, token, _) in vocabulary.used().filter(|(_, token, _)| ids.contains_key(token)) {
        let mut ways: Vec<(&str, &str, f32)> = token
            .char_indices()
            .skip(1)
            .map(|(at, _)| token.split_at(at))
            .filter(|(left, right)| ids.contains_key(left) && ids.contains_key(right))
            .map(|(left, right)| (left, right, scores[id]))
            .collect();
        ways.sort_by_key(|(left, right, _)| (ids.get(left), ids.get(right)));
        merges.extend(ways);
    }
    let chars = |text: &str| text.chars().count();
    // A stable sort: equals stay in the vocabulary's order, as in Python.
    merges.sort_by(|a, b| {
        let by_score = b.2.total_cmp(&a.2);
        by_score.then_with(|| (chars(b.0), chars(b.1)).cmp(&(chars(a.0), chars(a.1))))
    });
    merges.into_iter().map(|(left, right, _)| [left.to_owned(), right.to_owned()]).collect()
}
