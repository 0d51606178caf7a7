//! A writer of small GGUF files, sound or not.

use std::fs;
use std::path::Path;

use half::f16;
use tandem_engine::checkpoint::{Checkpoint, Part};
use tandem_engine::gguf::{self, ImportError, Imported};
use tempfile::TempDir;

/// A metadata value of the kinds the tests use.
#[derive(Clone)]
pub(crate) enum Val {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
    Lists(Vec<Vec<i32>>),
    /// Type number and bytes as they are.
    Raw(u32, Vec<u8>),
}

impl Val {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    pub(crate) fn texts(texts: &[&str]) -> Self {
        Self::Texts(texts.iter().map(|t| (*t).to_owned()).collect())
    }

    fn write(&self, out: &mut Vec<u8>) {
        let list = |out: &mut Vec<u8>, kind: u32, len: usize| {
            out.extend(9u32.to_le_bytes());
            out.extend(kind.to_le_bytes());
            out.extend((len as u64).to_le_bytes());
        };
        match self {
            Self::U32(n) => out.extend([4u32.to_le_bytes(), n.to_le_bytes()].concat()),
            Self::F32(n) => out.extend([6u32.to_le_bytes(), n.to_le_bytes()].concat()),
            Self::Bool(b) => {
                out.extend(7u32.to_le_bytes());
                out.push(u8::from(*b));
            }
            Self::Text(text) => {
                out.extend(8u32.to_le_bytes());
                write_text(out, text.as_bytes());
            }
            Self::Texts(texts) => {
                list(out, 8, texts.len());
                texts.iter().for_each(|t| write_text(out, t.as_bytes()));
            }
            Self::I32s(ints) => {
                list(out, 5, ints.len());
                ints.iter().for_each(|n| out.extend(n.to_le_bytes()));
            }
            Self::F32s(floats) => {
                list(out, 6, floats.len());
                floats.iter().for_each(|n| out.extend(n.to_le_bytes()));
            }
            Self::Lists(lists) => {
                list(out, 9, lists.len());
                for ints in lists {
                    out.extend(5u32.to_le_bytes());
                    out.extend((ints.len() as u64).to_le_bytes());
                    ints.iter().for_each(|n| out.extend(n.to_le_bytes()));
                }
            }
            Self::Raw(kind, bytes) => {
                out.extend(kind.to_le_bytes());
                out.extend(bytes);
            }
        }
    }
}

pub(crate) fn write_text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text);
}

/// ggml's type numbers.
pub(crate) const F32: u32 = 0;
pub(crate) const F16: u32 = 1;
pub(crate) const Q4_0: u32 = 2;
pub(crate) const Q4_1: u32 = 3;
pub(crate) const Q8_0: u32 = 8;
pub(crate) const BF16: u32 = 30;

#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    /// Innermost first, as GGUF has it.
    pub(crate) axes: Vec<u64>,
    pub(crate) kind: u32,
    pub(crate) data: Vec<u8>,
    /// Added to the offset it should have.
    pub(crate) shift: i64,
}

/// A file under construction.
#[derive(Clone)]
pub(crate) struct Gguf {
    pub(crate) version: u32,
    pub(crate) keys: Vec<(String, Val)>,
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) alignment: usize,
}

/// The tiny model's sizes.
pub(crate) const HIDDEN: usize = 64;
pub(crate) const HEADS: usize = 4;
pub(crate) const KV_HEADS: usize = 2;
pub(crate) const HEAD_DIM: usize = 16;
pub(crate) const FFN: usize = 96;
pub(crate) const TOKENS: [&str; 8] = ["<|start|>", "<|end|>", "a", "b", "ab", "c", "abc", "<tool>"];

impl Gguf {
    /// A sound two-layer model: F32 norms, matrices of type `kind`, tied, byte-level vocabulary.
    pub(crate) fn tiny(arch: &str, kind: u32) -> Self {
        let key = |name: &str| format!("{arch}.{name}");
        let keys = vec![
            ("general.architecture".to_owned(), Val::text(arch)),
            (key("embedding_length"), Val::U32(HIDDEN as u32)),
            (key("block_count"), Val::U32(2)),
            (key("feed_forward_length"), Val::U32(FFN as u32)),
            (key("attention.head_count"), Val::U32(HEADS as u32)),
            (key("attention.head_count_kv"), Val::U32(KV_HEADS as u32)),
            (key("attention.layer_norm_rms_epsilon"), Val::F32(1e-5)),
            (key("context_length"), Val::U32(512)),
            (key("rope.freq_base"), Val::F32(10_000.0)),
            ("tokenizer.ggml.model".to_owned(), Val::text("gpt2")),
            ("tokenizer.ggml.pre".to_owned(), Val::text("smollm")),
            ("tokenizer.ggml.tokens".to_owned(), Val::texts(&TOKENS)),
            ("tokenizer.ggml.token_type".to_owned(), Val::I32s(vec![3, 3, 1, 1, 1, 1, 1, 4])),
            ("tokenizer.ggml.merges".to_owned(), Val::texts(&["a b", "ab c"])),
            ("tokenizer.ggml.bos_token_id".to_owned(), Val::U32(0)),
            ("tokenizer.ggml.eos_token_id".to_owned(), Val::U32(1)),
            ("tokenizer.chat_template".to_owned(), Val::text("{{ messages }} ü")),
        ];
        let mut file = Self { version: 3, keys, tensors: Vec::new(), alignment: 32 };
        file.matrix("token_embd.weight", TOKENS.len(), HIDDEN, kind);
        file.vector("output_norm.weight", HIDDEN);
        for layer in 0..2 {
            let mut matrix = |name: &str, rows, columns| {
                file.matrix(&format!("blk.{layer}.{name}.weight"), rows, columns, kind);
            };
            matrix("attn_q", HEADS * HEAD_DIM, HIDDEN);
            matrix("attn_k", KV_HEADS * HEAD_DIM, HIDDEN);
            matrix("attn_v", KV_HEADS * HEAD_DIM, HIDDEN);
            matrix("attn_output", HIDDEN, HEADS * HEAD_DIM);
            matrix("ffn_gate", FFN, HIDDEN);
            matrix("ffn_up", FFN, HIDDEN);
            matrix("ffn_down", HIDDEN, FFN);
            file.vector(&format!("blk.{layer}.attn_norm.weight"), HIDDEN);
            file.vector(&format!("blk.{layer}.ffn_norm.weight"), HIDDEN);
        }
        file
    }

    pub(crate) fn set(&mut self, key: &str, value: Val) {
        match self.keys.iter_mut().find(|(k, _)| k == key) {
            Some((_, old)) => *old = value,
            None => self.keys.push((key.to_owned(), value)),
        }
    }

    pub(crate) fn unset(&mut self, key: &str) {
        self.keys.retain(|(k, _)| k != key);
    }

    pub(crate) fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|t| t.name == name).unwrap()
    }

    /// Adds or replaces a matrix; its values count rows and columns.
    pub(crate) fn matrix(&mut self, name: &str, rows: usize, columns: usize, kind: u32) {
        let data = (0..rows).flat_map(|row| row_data(row, columns, kind)).collect();
        self.put(name, vec![columns as u64, rows as u64], kind, data);
    }

    /// Adds or replaces a vector of values exact in f16 and bf16.
    pub(crate) fn vector(&mut self, name: &str, len: usize) {
        let data = (0..len).flat_map(|i| (i as f32 / 64.0 + 0.5).to_le_bytes()).collect();
        self.put(name, vec![len as u64], F32, data);
    }

    pub(crate) fn put(&mut self, name: &str, axes: Vec<u64>, kind: u32, data: Vec<u8>) {
        let tensor = Tensor { name: name.to_owned(), axes, kind, data, shift: 0 };
        match self.tensors.iter_mut().find(|t| t.name == name) {
            Some(old) => *old = tensor,
            None => self.tensors.push(tensor),
        }
    }

    /// Everything before the tensors' data.
    pub(crate) fn header(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            write_text(&mut out, key.as_bytes());
            value.write(&mut out);
        }
        let mut at = 0usize;
        for tensor in &self.tensors {
            write_text(&mut out, tensor.name.as_bytes());
            out.extend((tensor.axes.len() as u32).to_le_bytes());
            tensor.axes.iter().for_each(|n| out.extend(n.to_le_bytes()));
            out.extend(tensor.kind.to_le_bytes());
            out.extend((at as u64).wrapping_add_signed(tensor.shift).to_le_bytes());
            at = (at + tensor.data.len()).next_multiple_of(self.alignment);
        }
        out
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = self.header();
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(self.alignment), 0);
            out.extend(&tensor.data);
        }
        out
    }
}

/// A row whose every value, or whose scales, tell its number.
pub(crate) fn row_data(row: usize, columns: usize, kind: u32) -> Vec<u8> {
    let value = |column: usize| row as f32 + column as f32 / 128.0;
    let scale = f16::from_f32(row as f32 / 16.0 + 0.5).to_le_bytes();
    match kind {
        F32 => (0..columns).flat_map(|c| value(c).to_le_bytes()).collect(),
        F16 => (0..columns).flat_map(|c| f16::from_f32(value(c)).to_le_bytes()).collect(),
        BF16 => (0..columns).flat_map(|c| half::bf16::from_f32(value(c)).to_le_bytes()).collect(),
        _ => (0..columns / 32)
            .flat_map(|block| {
                let mut bytes = scale.to_vec();
                if kind == Q4_1 {
                    bytes.extend(f16::from_f32(-(row as f32)).to_le_bytes());
                }
                let packed = if kind == Q8_0 { 32 } else { 16 };
                bytes.extend((0..packed).map(|i| (row * 31 + block * 7 + i * 5) as u8));
                bytes
            })
            .collect(),
    }
}

/// An import into a fresh folder.
pub(crate) struct Sandbox(pub(crate) TempDir);

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub(crate) fn import(&self, bytes: &[u8]) -> Result<Imported, ImportError> {
        let path = self.0.path().join("tiny.gguf");
        fs::write(&path, bytes).unwrap();
        gguf::import(&path, &self.models(), None)
    }

    pub(crate) fn models(&self) -> std::path::PathBuf {
        self.0.path().join("models")
    }

    /// Names in the models folder, temporary ones too.
    pub(crate) fn left(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.models()) else {
            return Vec::new();
        };
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Imports a sound file and opens the result.
pub(crate) fn imported(file: &Gguf) -> (Sandbox, Checkpoint) {
    let sandbox = Sandbox::new();
    let imported = sandbox.import(&file.bytes()).unwrap();
    let checkpoint = Checkpoint::open(&imported.dir).unwrap();
    (sandbox, checkpoint)
}

pub(crate) fn read(checkpoint: &Checkpoint, name: &str) -> Vec<u8> {
    checkpoint.read(name, &Part::All).unwrap()
}

pub(crate) fn json(dir: &Path, name: &str) -> serde_json::Value {
    serde_json::from_slice(&fs::read(dir.join(name)).unwrap()).unwrap()
}
