//! The safetensors header: `u64` length, a JSON object `name → {dtype, shape, data_offsets}`, data.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::CheckpointError;

/// Longest header accepted: the format's own bound.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Most axes of a tensor; models of this kind use at most three.
const MAX_AXES: usize = 8;

/// Element type of a stored tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the format's own and say it all")]
pub enum Dtype {
    Bool,
    U8,
    I8,
    U16,
    I16,
    F16,
    BF16,
    U32,
    I32,
    F32,
    U64,
    I64,
    F64,
}

impl Dtype {
    const ALL: [(Dtype, &str); 13] = [
        (Dtype::Bool, "BOOL"),
        (Dtype::U8, "U8"),
        (Dtype::I8, "I8"),
        (Dtype::U16, "U16"),
        (Dtype::I16, "I16"),
        (Dtype::F16, "F16"),
        (Dtype::BF16, "BF16"),
        (Dtype::U32, "U32"),
        (Dtype::I32, "I32"),
        (Dtype::F32, "F32"),
        (Dtype::U64, "U64"),
        (Dtype::I64, "I64"),
        (Dtype::F64, "F64"),
    ];

    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 | Self::F16 | Self::BF16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    /// The safetensors name, e.g. `BF16`.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(dtype, _)| *dtype == self).map_or("", |(_, name)| name)
    }

    /// F32, F16 or BF16: what weights, scales and biases may be stored in.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16)
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, n)| *n == name).map(|(dtype, _)| *dtype)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A tensor as its file's header describes it, validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Element type.
    pub dtype: Dtype,
    /// Axis lengths, outermost first; row-major.
    pub shape: Vec<usize>,
    /// Which file of the checkpoint, from 0.
    pub file: usize,
    /// Where the data begins in that file, in bytes from its start.
    pub offset: u64,
    /// Length of the data in bytes.
    pub len: u64,
}

/// Reads and validates the header of one file; gives its tensors.
pub(super) fn read(
    file: &File,
    path: &Path,
    number: usize,
) -> Result<BTreeMap<String, TensorInfo>, CheckpointError> {
    let bad = |reason: String| CheckpointError::malformed(path, reason);
    let io = |e| CheckpointError::io(path, e);
    let file_bytes = file.metadata().map_err(io)?.len();
    if file_bytes < 8 {
        return Err(bad(format!("is truncated: {file_bytes} bytes, no header")));
    }
    let mut length = [0; 8];
    file.read_exact_at(&mut length, 0).map_err(io)?;
    let header_bytes = u64::from_le_bytes(length);
    if header_bytes > MAX_HEADER_BYTES {
        return Err(bad(format!(
            "is not a safetensors file: header of {header_bytes} bytes, at most {MAX_HEADER_BYTES}"
        )));
    }
    if header_bytes > file_bytes - 8 {
        return Err(bad(format!(
            "is truncated: the header has {header_bytes} bytes, the file {file_bytes}"
        )));
    }
    let mut header = vec![0; header_bytes as usize];
    file.read_exact_at(&mut header, 8).map_err(io)?;
    let header: RawHeader = serde_json::from_slice(&header)
        .map_err(|e| bad(format!("has a malformed safetensors header: {e}")))?;
    place(header.0, file_bytes - 8 - header_bytes, number, 8 + header_bytes).map_err(bad)
}

/// Checks every tensor's bytes against its shape and its neighbours; `data_bytes` follow.
fn place(
    raw: BTreeMap<String, RawTensor>,
    data_bytes: u64,
    file: usize,
    data_start: u64,
) -> Result<BTreeMap<String, TensorInfo>, String> {
    let mut tensors = BTreeMap::new();
    let mut spans = Vec::with_capacity(raw.len());
    for (name, tensor) in raw {
        let info = tensor.check(&name, data_bytes, file, data_start)?;
        spans.push((info.offset, info.len, name.clone()));
        tensors.insert(name, info);
    }
    spans.sort();
    let mut end = data_start;
    for (offset, len, name) in spans {
        if offset < end {
            return Err(format!("tensor {name} overlaps the one before it"));
        }
        if offset > end {
            return Err(format!("{} unused bytes lie before tensor {name}", offset - end));
        }
        end = offset + len;
    }
    let unused = data_start + data_bytes - end;
    if unused > 0 {
        return Err(format!("{unused} bytes after the last tensor belong to none"));
    }
    Ok(tensors)
}

#[derive(Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl RawTensor {
    fn check(
        self,
        name: &str,
        data_bytes: u64,
        file: usize,
        data_start: u64,
    ) -> Result<TensorInfo, String> {
        let Some(dtype) = Dtype::from_name(&self.dtype) else {
            return Err(format!("tensor {name} has the unsupported type {:?}", self.dtype));
        };
        if self.shape.len() > MAX_AXES {
            return Err(format!("tensor {name} has {} axes", self.shape.len()));
        }
        let (begin, end) = self.data_offsets;
        if begin > end {
            return Err(format!("tensor {name} ends at {end}, before its begin at {begin}"));
        }
        if end > data_bytes {
            return Err(format!(
                "is truncated: tensor {name} ends at byte {end} of the data, which has {data_bytes}"
            ));
        }
        let needed = self
            .shape
            .iter()
            .try_fold(dtype.bytes() as u64, |product, &axis| product.checked_mul(axis));
        if needed != Some(end - begin) {
            return Err(format!(
                "tensor {name} of type {dtype} and shape {:?} has {} bytes",
                self.shape,
                end - begin
            ));
        }
        // A product with a zero factor fits, but its other axes may not: check each.
        let shape = self.shape.iter().map(|&axis| usize::try_from(axis)).collect::<Result<_, _>>();
        let shape = shape.map_err(|_| format!("tensor {name} has an axis too long"))?;
        Ok(TensorInfo { dtype, shape, file, offset: data_start + begin, len: end - begin })
    }
}

/// The header's entries but `__metadata__`; unlike a plain map it refuses a name that comes twice.
struct RawHeader(BTreeMap<String, RawTensor>);

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawHeader;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut tensors = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<de::IgnoredAny>()?;
                        continue;
                    }
                    let tensor = map.next_value()?;
                    if tensors.insert(name.clone(), tensor).is_some() {
                        return Err(de::Error::custom(format!("tensor {name} comes twice")));
                    }
                }
                Ok(RawHeader(tensors))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}
