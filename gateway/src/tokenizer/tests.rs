use super::*;
use crate::{detokenize::Detokenizer, model_folder, test_model_dir};

/// The small tokeniser of the tests, and that of a real model where the test command has one.
fn tokenizers() -> Vec<TextTokenizer> {
    let dir = tempfile::tempdir().unwrap();
    model_folder::write(dir.path());
    let mut all = vec![TextTokenizer::load(dir.path()).unwrap()];
    all.extend(test_model_dir().map(|dir| TextTokenizer::load(&dir).unwrap()));
    all
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) as usize % bound
    }
}

/// Pieces of every kind of trouble: combining marks, joined emoji, spaces, right-to-left text.
const PIECES: [&str; 16] = [
    " ",
    "  ",
    "\n",
    "the fox",
    " 日本語",
    "é",
    "e\u{301}",
    "👩‍🚀",
    "🚀🚀",
    "🇩🇪",
    " שלום",
    "Привет",
    "\t",
    "<|im_start|>",
    "\u{fffd}",
    "नमस्ते",
];

fn streamed(tokenizer: &TextTokenizer, ids: &[u32]) -> Vec<String> {
    let decode = |ids: &[u32]| tokenizer.decode(ids);
    let mut detokenizer = Detokenizer::default();
    let mut deltas: Vec<String> = ids.iter().map(|&id| detokenizer.push(id, decode)).collect();
    deltas.push(detokenizer.finish(decode));
    deltas
}

#[test]
fn random_texts_stream_to_what_they_decode_to() {
    for tokenizer in tokenizers() {
        let mut random = Random(1);
        for _ in 0..300 {
            let text: String =
                (0..random.below(12)).map(|_| PIECES[random.below(PIECES.len())]).collect();
            let ids = tokenizer.encode(&text, false).unwrap();
            let deltas = streamed(&tokenizer, &ids);
            assert_eq!(deltas.concat(), tokenizer.decode(&ids), "{text:?}");
            assert_eq!(deltas.concat(), text.replace("<|im_start|>", ""), "{text:?}");
        }
    }
}

#[test]
fn random_tokens_stream_to_what_they_decode_to() {
    for tokenizer in tokenizers() {
        let vocab_size = tokenizer.inner.get_vocab_size(true);
        let mut random = Random(2);
        for _ in 0..300 {
            let ids: Vec<u32> =
                (0..random.below(40)).map(|_| random.below(vocab_size) as u32).collect();
            assert_eq!(streamed(&tokenizer, &ids).concat(), tokenizer.decode(&ids), "{ids:?}");
        }
    }
}

#[test]
fn tokens_spell_their_bytes_even_inside_a_character() {
    for tokenizer in tokenizers() {
        let text = " héllo 👩‍🚀日本";
        let ids = tokenizer.encode(text, false).unwrap();
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| tokenizer.spell(id).1).collect();
        assert_eq!(bytes, text.as_bytes());
        let end = tokenizer.id("<|im_end|>").unwrap();
        assert_eq!(tokenizer.spell(end).0, "<|im_end|>");
        assert_eq!(tokenizer.spell(u32::MAX), Default::default());
    }
}

/// A SentencePiece-like tokeniser: `▁` for spaces, bytes for unknown characters, a first token
/// put before every text.
const SENTENCEPIECE: &str = r#"{
  "version": "1.0", "truncation": {"max_length": 2, "strategy": "LongestFirst", "stride": 0,
  "direction": "Right"}, "padding": null, "normalizer": {"type": "Sequence", "normalizers": [
    {"type": "Prepend", "prepend": "▁"},
    {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
  "added_tokens": [{"id": 1, "content": "<s>", "single_word": false, "lstrip": false,
    "rstrip": false, "normalized": false, "special": true}],
  "pre_tokenizer": null,
  "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>",
    "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
  "decoder": {"type": "Sequence", "decoders": [
    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
    {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
  "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
    "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
    "vocab": {"<unk>": 0, "<s>": 1, "▁": 2, "a": 3, "▁a": 4, "b": 5, "<0xE2>": 6, "<0x82>": 7,
      "<0xAC>": 8, "<0xF0>": 9}, "merges": ["▁ a"]}}"#;

#[test]
fn sentencepiece_keeps_inner_spaces_and_puts_bytes_together() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), SENTENCEPIECE).unwrap();
    let tokenizer = TextTokenizer::load(dir.path()).unwrap();
    let text = "a  a b€a € €";
    let ids = tokenizer.encode(text, false).unwrap();
    assert!(ids.len() > 2, "truncation left in the file is not obeyed");
    assert_eq!(streamed(&tokenizer, &ids).concat(), text);
    assert_eq!(tokenizer.spell(4), (" a".into(), b" a".to_vec()));
    assert_eq!(tokenizer.spell(6).1, [0xe2]);
    // A byte that takes back a whole character for a moment, and one that never fits.
    let euro = [3, 6, 7, 8];
    assert_eq!(streamed(&tokenizer, &[&euro[..], &euro[1..], &[5]].concat()).concat(), "a€€b");
    assert_eq!(streamed(&tokenizer, &[3, 9, 5]).concat(), tokenizer.decode(&[3, 9, 5]));
}

#[test]
fn the_first_token_comes_once() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), SENTENCEPIECE).unwrap();
    let tokenizer = TextTokenizer::load(dir.path()).unwrap();
    assert_eq!(tokenizer.encode("a", true).unwrap(), [1, 4]);
    assert_eq!(tokenizer.encode("a", false).unwrap(), [4]);
    assert_eq!(tokenizer.encode("<s>a", true).unwrap().iter().filter(|id| **id == 1).count(), 1);
    assert_eq!(tokenizer.encode("", true).unwrap(), [1]);
}

/// The small tokeniser with further special tokens.
fn with_specials(specials: &[&str]) -> TextTokenizer {
    let dir = tempfile::tempdir().unwrap();
    let mut tokenizer = model_folder::write(dir.path());
    let tokens: Vec<_> =
        specials.iter().map(|text| tokenizers::AddedToken::from(*text, true)).collect();
    tokenizer.add_special_tokens(&tokens);
    tokenizer.save(dir.path().join("tokenizer.json"), false).unwrap();
    TextTokenizer::load(dir.path()).unwrap()
}

#[test]
fn marks_stay_in_the_text_and_other_special_tokens_do_not() {
    let all: Vec<&str> = crate::marks::all().collect();
    let tokenizer = with_specials(&[&all[..], &["<|eot|>"]].concat());
    for mark in all {
        let text = format!("<|im_start|>a {mark}b c{mark}<|eot|><|im_end|>");
        let ids = tokenizer.encode(&text, false).unwrap();
        let id = tokenizer.id(mark).unwrap();
        assert_eq!(ids.iter().filter(|one| **one == id).count(), 2, "{mark} is one token");
        let kept = format!("a {mark}b c{mark}");
        assert_eq!(
            (tokenizer.decode(&ids), streamed(&tokenizer, &ids).concat()),
            (kept.clone(), kept)
        );
        assert!(tokenizer.is_added(id));
    }
}

#[test]
fn a_folder_with_another_tokeniser_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let problem = || TextTokenizer::load(dir.path()).err().unwrap();
    assert!(problem().contains("complete"), "{}", problem());
    for name in ["vocab.json", "tokenizer.model", "tekken.json"] {
        std::fs::write(dir.path().join(name), "{}").unwrap();
        let problem = problem();
        assert!(problem.contains("no tokenizer.json") && problem.contains("save_pretrained"));
        assert!(name == "vocab.json" || problem.contains(name), "{problem}");
    }
}

#[test]
fn a_missing_or_broken_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let problem = |dir: &Path| TextTokenizer::load(dir).err().unwrap();
    assert!(problem(dir.path()).contains("tokenizer.json"));
    std::fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
    assert!(problem(dir.path()).contains("tokenizer.json"));
}
