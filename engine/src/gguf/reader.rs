//! GGUF's header: magic, version, counts, metadata, tensor table. Format:
//! ggml `docs/gguf.md` and `src/gguf.cpp`. Nothing a length or count says is believed before it was
//! compared with what is left of the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};

use super::blocks::TensorType;
use super::error::Fault;
use super::metadata::{Metadata, Value};

/// Longest header (metadata and tensor table) accepted. A vocabulary of 256 000 tokens with its
/// merges takes 15 MB.
const MAX_HEADER_BYTES: u64 = 64 << 20;

/// Most metadata keys; real files have 20 to 60.
const MAX_KEYS: u64 = 1 << 12;

/// Most tensors; a dense model has about ten a layer.
const MAX_TENSORS: u64 = 1 << 16;

/// How deep lists may stand in lists. No key that is read has any; they are skipped.
const LIST_DEPTH_MAX: usize = 8;

/// Longest key or tensor name. ggml's own bound for names is 64.
const MAX_NAME_BYTES: u64 = 256;

/// A tensor of the table, checked against the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) kind: TensorType,
    /// Values in a row; contiguous.
    pub(super) columns: usize,
    /// Number of rows; 1 for a vector.
    pub(super) rows: usize,
    /// One axis, not two.
    pub(super) vector: bool,
    /// Where its data begins in the file.
    pub(super) offset: u64,
}

impl Tensor {
    /// Bytes of one row. `columns` is a whole number of blocks.
    pub(super) fn row_bytes(&self) -> usize {
        self.columns / self.kind.block_values() * self.kind.block_bytes()
    }
}

/// A GGUF file's header.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<Tensor>,
}

/// Reads and checks the whole header.
pub(super) fn read(file: &File) -> Result<Header, Fault> {
    let file_bytes = file.metadata()?.len();
    let mut cursor = Cursor {
        input: BufReader::with_capacity(1 << 20, file),
        at: 0,
        limit: file_bytes.min(MAX_HEADER_BYTES),
        file_bytes,
    };
    if cursor.array::<4>("the magic number")? != *b"GGUF" {
        return Err("is not a GGUF file (it does not begin with GGUF)".to_owned().into());
    }
    match cursor.u32("the version")? {
        2 | 3 => {}
        version if version.swap_bytes() <= 3 => {
            return Err("is big-endian; only little-endian GGUF is supported".to_owned().into());
        }
        version => {
            return Err(format!("is GGUF version {version}; 2 and 3 are supported").into());
        }
    }
    let tensor_count = cursor.count("tensors", MAX_TENSORS)?;
    let key_count = cursor.count("metadata keys", MAX_KEYS)?;
    let mut values = BTreeMap::new();
    for _ in 0..key_count {
        let key = cursor.text("a metadata key", MAX_NAME_BYTES)?;
        let kind = cursor.u32(&key)?;
        let value = cursor.value(&key, kind)?;
        if values.insert(key.clone(), value).is_some() {
            return Err(format!("metadata key {key} comes twice").into());
        }
    }
    let metadata = Metadata(values);
    let tensors = cursor.tensors(tensor_count, alignment(&metadata)?)?;
    Ok(Header { metadata, tensors })
}

fn alignment(metadata: &Metadata) -> Result<u64, String> {
    let alignment = metadata.size_or("general.alignment", 32)? as u64;
    // ggml asks for a power of two; 1 MiB is far above any page or block size in use.
    if !alignment.is_power_of_two() || alignment > 1 << 20 {
        return Err(format!("general.alignment is {alignment}, not a power of two up to 1048576"));
    }
    Ok(alignment)
}

struct Cursor<R> {
    input: R,
    at: u64,
    /// Neither the file's end nor our bound of the header may be passed.
    limit: u64,
    file_bytes: u64,
}

impl<R: Read> Cursor<R> {
    /// Refuses before memory is taken if fewer than `bytes` are left.
    fn claim(&self, what: &str, bytes: u64) -> Result<(), Fault> {
        if bytes <= self.limit - self.at {
            return Ok(());
        }
        Err(if self.limit < self.file_bytes {
            format!("its header is longer than {MAX_HEADER_BYTES} bytes (at {what})")
        } else {
            format!(
                "is truncated or damaged: {what} needs {bytes} bytes at {}, the file ends at {}",
                self.at, self.file_bytes
            )
        }
        .into())
    }

    fn bytes(&mut self, what: &str, len: u64) -> Result<Vec<u8>, Fault> {
        self.claim(what, len)?;
        let mut bytes = vec![0; len as usize];
        self.input.read_exact(&mut bytes)?;
        self.at += len;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Fault> {
        self.claim(what, N as u64)?;
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        self.at += N as u64;
        Ok(bytes)
    }

    fn u32(&mut self, what: &str) -> Result<u32, Fault> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64, Fault> {
        self.array(what).map(u64::from_le_bytes)
    }

    fn count(&mut self, what: &str, max: u64) -> Result<u64, Fault> {
        match self.u64(what)? {
            n if n <= max => Ok(n),
            n => Err(format!("claims {n} {what}; at most {max}").into()),
        }
    }

    fn text(&mut self, what: &str, max: u64) -> Result<String, Fault> {
        let len = self.u64(what)?;
        if len > max {
            self.claim(what, len)?;
            return Err(format!("{what} is {len} bytes long; at most {max}").into());
        }
        let bytes = self.bytes(what, len)?;
        String::from_utf8(bytes).map_err(|_| format!("{what} is not valid UTF-8").into())
    }

    fn value(&mut self, key: &str, kind: u32) -> Result<Value, Fault> {
        Ok(match kind {
            8 => Value::Text(self.text(key, MAX_HEADER_BYTES)?),
            9 => self.list(key, 0)?,
            _ => self.scalar(key, kind)?,
        })
    }

    fn scalar(&mut self, key: &str, kind: u32) -> Result<Value, Fault> {
        Ok(match kind {
            0 => Value::Int(i128::from(u8::from_le_bytes(self.array(key)?))),
            1 => Value::Int(i128::from(i8::from_le_bytes(self.array(key)?))),
            2 => Value::Int(i128::from(u16::from_le_bytes(self.array(key)?))),
            3 => Value::Int(i128::from(i16::from_le_bytes(self.array(key)?))),
            4 => Value::Int(i128::from(u32::from_le_bytes(self.array(key)?))),
            5 => Value::Int(i128::from(i32::from_le_bytes(self.array(key)?))),
            6 => Value::Float(f32::from_le_bytes(self.array(key)?)),
            7 => match self.array::<1>(key)? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => return Err(format!("{key}: {other} is no boolean").into()),
            },
            10 => Value::Int(i128::from(u64::from_le_bytes(self.array(key)?))),
            11 => Value::Int(i128::from(i64::from_le_bytes(self.array(key)?))),
            12 => Value::Float(f64::from_le_bytes(self.array(key)?) as f32),
            _ => return Err(format!("{key} has the unknown value type {kind}").into()),
        })
    }

    fn list(&mut self, key: &str, depth: usize) -> Result<Value, Fault> {
        let kind = self.u32(key)?;
        let len = self.u64(key)?;
        let least_bytes = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            // Each has at least a kind and a length.
            9 => 12,
            _ => return Err(format!("{key} has the unknown element type {kind}").into()),
        };
        self.claim(key, len.saturating_mul(least_bytes))?;
        // Not more than 64 Mi elements now: the claim holds. Memory still grows as they are read.
        match kind {
            8 => {
                let mut texts = Vec::new();
                for _ in 0..len {
                    texts.push(self.text(key, MAX_HEADER_BYTES)?);
                }
                Ok(Value::Texts(texts))
            }
            9 => {
                if depth == LIST_DEPTH_MAX {
                    return Err(format!("{key} has lists in lists, over {depth} deep").into());
                }
                for _ in 0..len {
                    self.list(key, depth + 1)?;
                }
                Ok(Value::Nested)
            }
            6 => {
                let bytes = self.bytes(key, len * 4)?;
                let (floats, _) = bytes.as_chunks::<4>();
                Ok(Value::Floats(floats.iter().map(|b| f32::from_le_bytes(*b)).collect()))
            }
            _ => {
                let mut ints = Vec::new();
                for _ in 0..len {
                    match self.scalar(key, kind)? {
                        Value::Int(n) => ints.push(i64::try_from(n).unwrap_or(i64::MAX)),
                        Value::Bool(b) => ints.push(i64::from(b)),
                        _ => ints.push(0),
                    }
                }
                Ok(Value::Ints(ints))
            }
        }
    }

    fn tensors(&mut self, count: u64, alignment: u64) -> Result<Vec<Tensor>, Fault> {
        let mut tensors: Vec<Tensor> = Vec::new();
        let mut names = std::collections::BTreeSet::new();
        for _ in 0..count {
            let tensor = self.tensor()?;
            if !names.insert(tensor.name.clone()) {
                return Err(format!("tensor {} comes twice", tensor.name).into());
            }
            tensors.push(tensor);
        }
        // Data follows the table, each tensor at the next aligned place: ggml writes and demands
        // it so, and it leaves no room for overlaps.
        let data_start = self.at.next_multiple_of(alignment);
        let mut expected = 0u64;
        for tensor in &mut tensors {
            if tensor.offset != expected {
                return Err(format!(
                    "tensor {} begins at {}, the one before it ends at {expected}",
                    tensor.name, tensor.offset
                )
                .into());
            }
            // Columns and rows are below 2^32 each and a value takes at most 4 bytes: with `as
            // u128` the product is exact, and the bound by the file's size makes the rest safe.
            let bytes = tensor.row_bytes() as u128 * tensor.rows as u128;
            let end = u128::from(data_start) + u128::from(expected) + bytes;
            if end > u128::from(self.file_bytes) {
                return Err(format!(
                    "is truncated: tensor {} ends at {end}, the file at {}",
                    tensor.name, self.file_bytes
                )
                .into());
            }
            tensor.offset += data_start;
            expected = (expected + bytes as u64).next_multiple_of(alignment);
        }
        Ok(tensors)
    }

    fn tensor(&mut self) -> Result<Tensor, Fault> {
        let name = self.text("a tensor's name", MAX_NAME_BYTES)?;
        let axes = self.u32(&name)?;
        if !(1..=2).contains(&axes) {
            return Err(format!("tensor {name} has {axes} axes; 1 and 2 are supported").into());
        }
        let mut sizes = [1usize; 2];
        for size in sizes.iter_mut().take(axes as usize) {
            *size = match self.u64(&name)? {
                n @ 1..=0xFFFF_FFFF => n as usize,
                n => return Err(format!("tensor {name} has an axis of length {n}").into()),
            };
        }
        let kind = TensorType::from_ggml(self.u32(&name)?)
            .map_err(|reason| format!("tensor {name} {reason}"))?;
        let offset = self.u64(&name)?;
        let [columns, rows] = sizes;
        if !columns.is_multiple_of(kind.block_values()) {
            return Err(format!(
                "tensor {name} has rows of {columns} values, no multiple of {kind:?}'s block of {}",
                kind.block_values()
            )
            .into());
        }
        Ok(Tensor { name, kind, columns, rows, vector: axes == 1, offset })
    }
}
