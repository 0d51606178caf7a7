//! How text is cut before byte-level BPE, by llama.cpp's name for it (`tokenizer.ggml.pre`).
//! Patterns: llama.cpp `src/llama-vocab.cpp` and the `tokenizer.json` of the models themselves.

use serde_json::{Value, json};

/// What a name of `tokenizer.ggml.pre` stands for.
#[derive(Debug)]
pub(super) struct Pretokenizer {
    pub(super) normalizer: Value,
    pub(super) pre_tokenizer: Value,
    /// A piece that is a token as a whole is not merged step by step.
    pub(super) ignore_merges: bool,
    /// The begin token is added unless the file says otherwise.
    pub(super) adds_bos: bool,
}

/// Contractions, words with one leading sign, numbers of up to three digits, signs, line ends.
const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// As [`LLAMA3`] with every digit alone.
const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// llama.cpp's rule where a converter found no better one; each pattern cuts what the last left.
const DEFAULT: [&str; 4] = [
    r"[\p{P}\$\+<=>\^~\|]+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
    r"\p{N}+",
    r"[0-9][0-9][0-9]",
];

/// The pre-tokeniser of this name.
pub(super) fn find(name: &str) -> Result<Pretokenizer, String> {
    let plain = |steps: Vec<Value>| Pretokenizer {
        normalizer: Value::Null,
        pre_tokenizer: match <[Value; 1]>::try_from(steps) {
            Ok([one]) => one,
            Err(steps) => json!({"type": "Sequence", "pretokenizers": steps}),
        },
        ignore_merges: false,
        adds_bos: false,
    };
    Ok(match name {
        "smollm" => {
            let digits = json!({"type": "Digits", "individual_digits": true});
            plain(vec![digits, bytes(true)])
        }
        "gpt-2" => plain(vec![bytes(true)]),
        "default" => {
            plain(DEFAULT.iter().map(|pattern| split(pattern)).chain([bytes(false)]).collect())
        }
        "llama-bpe" | "llama3" | "llama-v3" => Pretokenizer {
            ignore_merges: true,
            adds_bos: true,
            ..plain(vec![split(LLAMA3), bytes(false)])
        },
        "qwen2" | "deepseek-r1-qwen" => Pretokenizer {
            normalizer: json!({"type": "NFC"}),
            ..plain(vec![split(QWEN2), bytes(false)])
        },
        other => {
            return Err(format!(
                "tokenizer.ggml.pre is {other:?}; smollm, gpt-2, default, llama-bpe and qwen2 are \
                 supported"
            ));
        }
    })
}

fn bytes(use_regex: bool) -> Value {
    json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
        "use_regex": use_regex,
    })
}

fn split(pattern: &str) -> Value {
    json!({
        "type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false,
    })
}
