//! A model folder without weights: a byte-level BPE trained here on a few sentences, and ChatML.

use std::path::Path;

use serde_json::json;
use tokenizers::{
    AddedToken, Tokenizer,
    models::bpe::{BPE, BpeTrainer},
    pre_tokenizers::byte_level::ByteLevel,
};

/// Ends every answer.
pub(crate) const END: &str = "<|im_end|>";

const CORPUS: [&str; 6] = [
    "the quick brown fox jumps over the lazy dog and the other fox thinks about the end",
    "<think>think about the answer</think> the answer is forty two, said the other one",
    "日本語の文章を少しだけ書きます。日本は島国です。",
    "Der Fuß süßer Träume hört früh auf, übrigens.",
    "🚀🚀🚀 👩‍🚀 😀😀 🎉 rockets and 🚀 emoji 🎉🎉",
    "Привет, мир! Ещё немного текста для словаря.",
];

pub(crate) const TEMPLATE: &str = "{% for message in messages %}
{%- if message.role == 'user' and message.content == 'raise' %}
    {{- raise_exception('I will not answer that') }}
{%- endif %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}
{%- if thinking is defined and thinking %}{{- '<think>\\n' }}{% endif %}";

/// Writes the folder; gives the tokeniser for the test's own use.
pub(crate) fn write(dir: &Path) -> Tokenizer {
    let tokenizer = train();
    tokenizer.save(dir.join("tokenizer.json"), false).unwrap();
    let end = tokenizer.token_to_id(END).unwrap();
    let files = [
        ("config.json", json!({"model_type": "llama", "eos_token_id": 0})),
        ("generation_config.json", json!({"eos_token_id": [end, 0], "temperature": 0.5})),
        (
            "tokenizer_config.json",
            json!({
                "bos_token": "<|im_start|>",
                "eos_token": {"content": END},
                "chat_template": TEMPLATE,
            }),
        ),
    ];
    for (name, content) in files {
        std::fs::write(dir.join(name), content.to_string()).unwrap();
    }
    tokenizer
}

fn train() -> Tokenizer {
    let specials = ["<|endoftext|>", "<|im_start|>", END];
    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(600)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(specials.map(|text| AddedToken::from(text, true)).to_vec())
        .build();
    let mut model = BPE::default();
    let mut tokenizer = Tokenizer::new(BPE::default());
    let byte_level = ByteLevel::new(false, true, true);
    tokenizer.with_pre_tokenizer(Some(byte_level)).with_decoder(Some(byte_level));
    let words = CORPUS.iter().flat_map(|text| {
        let mut pieces = tokenizers::PreTokenizedString::from(*text);
        tokenizers::PreTokenizer::pre_tokenize(&byte_level, &mut pieces).unwrap();
        let splits = pieces
            .get_splits(tokenizers::OffsetReferential::Original, tokenizers::OffsetType::Byte);
        splits.iter().map(|(word, ..)| word.to_string()).collect::<Vec<_>>()
    });
    let words: Vec<String> = words.collect();
    tokenizers::Trainer::feed(&mut trainer, words.iter(), |word| Ok(vec![word.to_owned()]))
        .unwrap();
    let added = tokenizers::Trainer::train(&trainer, &mut model).unwrap();
    let mut trained = Tokenizer::new(model);
    trained.with_pre_tokenizer(Some(byte_level)).with_decoder(Some(byte_level));
    trained.add_special_tokens(&added);
    trained
}
