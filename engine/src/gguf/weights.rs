//! Writing `model.safetensors` tensor by tensor, in bounded memory.
//!
//! The header stands before the data but says where each tensor lies, and whether a tensor's scales
//! fit f16 is only known once it was read. So room for the longest possible header is left, the
//! data appended, and the header written last, padded with spaces as the format allows.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use half::{bf16, f16};

use super::architecture::{Output, Plan};
use super::blocks::{Affine, TensorType, repack};
use super::error::{Fault, ImportError};
use super::reader::Tensor;
use crate::checkpoint::Dtype;

/// Bytes of the source read at a time, at least one row (or one head, where rows are reordered).
const CHUNK_BYTES: usize = 4 << 20;

/// A written tensor: its entry in the header.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    pub(super) bytes: u64,
}

/// Writes all tensors of `plan` from `source` to a new file at `path`; gives their names.
pub(super) fn write(
    source: &File,
    source_path: &Path,
    plan: &Plan,
    path: &Path,
) -> Result<Vec<Entry>, ImportError> {
    let to = |e| ImportError::write(path, e);
    let room = longest_header(&plan.outputs);
    let file = File::create_new(path).map_err(to)?;
    let mut writer = BufWriter::with_capacity(1 << 20, &file);
    io::copy(&mut io::Read::take(io::repeat(b' '), 8 + room as u64), &mut writer).map_err(to)?;
    let mut entries = Vec::new();
    for output in &plan.outputs {
        let mut sink = Sink { out: &mut writer, written: 0, failed: None };
        let result = convert(source, output, plan.float, &mut sink, &mut entries);
        if let Some(error) = sink.failed {
            return Err(to(error));
        }
        result.map_err(|fault| match fault {
            Fault::Bad(reason) => {
                Fault::Bad(format!("tensor {} {reason}", output.tensor.name)).at(source_path)
            }
            io => io.at(source_path),
        })?;
    }
    writer.flush().map_err(to)?;
    drop(writer);
    let header = header(&entries);
    debug_assert!(header.len() <= room);
    file.write_all_at(&(room as u64).to_le_bytes(), 0).map_err(to)?;
    file.write_all_at(header.as_bytes(), 8).map_err(to)?;
    file.sync_all().map_err(to)?;
    Ok(entries)
}

/// Reads a small tensor of floats whole, e.g. RoPE factors.
pub(super) fn read_floats(source: &File, tensor: &Tensor) -> Result<Vec<f32>, Fault> {
    if tensor.kind != TensorType::F32 || tensor.rows != 1 {
        return Err(Fault::Bad(format!("tensor {} is not a vector of F32", tensor.name)));
    }
    let mut bytes = vec![0; tensor.row_bytes()];
    source.read_exact_at(&mut bytes, tensor.offset)?;
    let (floats, _) = bytes.as_chunks::<4>();
    Ok(floats.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

/// The output with its errors kept apart from those of reading.
struct Sink<'a, W> {
    out: &'a mut W,
    written: u64,
    failed: Option<io::Error>,
}

impl<W: Write> Sink<'_, W> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.written += bytes.len() as u64;
        self.out.write_all(bytes).map_err(|error| {
            self.failed = Some(error);
            Fault::Bad("could not be written".to_owned())
        })
    }

    fn entry(&mut self, name: String, dtype: Dtype, shape: Vec<usize>) -> Entry {
        Entry { name, dtype, shape, bytes: std::mem::take(&mut self.written) }
    }
}

fn convert<W: Write>(
    source: &File,
    output: &Output,
    float: Dtype,
    sink: &mut Sink<'_, W>,
    entries: &mut Vec<Entry>,
) -> Result<(), Fault> {
    let Output { tensor, module, kind, .. } = output;
    let name = format!("{module}.{kind}");
    let shape = |columns: usize| {
        if tensor.vector { vec![columns] } else { vec![tensor.rows, columns] }
    };
    let Some(group) = tensor.kind.group() else {
        let dtype = copy_floats(source, output, float, sink)?;
        entries.push(sink.entry(name, dtype, shape(tensor.columns)));
        return Ok(());
    };
    let mut affine = Affine::default();
    let mut packed = Vec::new();
    for_chunks(source, output, |blocks| {
        packed.clear();
        repack(tensor.kind, blocks, &mut packed, &mut affine)?;
        sink.put(&packed)
    })?;
    entries.push(sink.entry(name, Dtype::U32, shape(group.words(tensor.columns))));
    let groups = shape(tensor.columns / group.group_size);
    if affine.fits_f16() {
        put_all(sink, &affine.scales, |s| s.to_le_bytes())?;
        entries.push(sink.entry(format!("{module}.scales"), Dtype::F16, groups.clone()));
        put_all(sink, &affine.biases, |b| f16::from_f32(*b).to_le_bytes())?;
        entries.push(sink.entry(format!("{module}.biases"), Dtype::F16, groups));
    } else {
        put_all(sink, &affine.scales, |s| s.to_f32().to_le_bytes())?;
        entries.push(sink.entry(format!("{module}.scales"), Dtype::F32, groups.clone()));
        put_all(sink, &affine.biases, |b| b.to_le_bytes())?;
        entries.push(sink.entry(format!("{module}.biases"), Dtype::F32, groups));
    }
    Ok(())
}

fn put_all<W: Write, T, const N: usize>(
    sink: &mut Sink<'_, W>,
    values: &[T],
    bytes: impl Fn(&T) -> [u8; N],
) -> Result<(), Fault> {
    let mut buffer = Vec::new();
    values.chunks(1 << 16).try_for_each(|chunk| {
        buffer.clear();
        buffer.extend(chunk.iter().flat_map(&bytes));
        sink.put(&buffer)
    })
}

/// Unquantised tensors keep their type. Vectors, which llama.cpp widens to F32, go back to the
/// model's own `float` type if that loses nothing.
fn copy_floats<W: Write>(
    source: &File,
    output: &Output,
    float: Dtype,
    sink: &mut Sink<'_, W>,
) -> Result<Dtype, Fault> {
    let tensor = &output.tensor;
    if tensor.kind == TensorType::F32 && tensor.vector {
        let mut values = Vec::with_capacity(tensor.columns);
        for_chunks(source, output, |bytes| {
            let (floats, _) = bytes.as_chunks::<4>();
            values.extend(floats.iter().map(|b| f32::from_le_bytes(*b)));
            Ok(())
        })?;
        if values.iter().any(|v| !v.is_finite()) {
            return Err(not_a_number());
        }
        let exact = |narrow: fn(f32) -> f32| values.iter().all(|v| narrow(*v) == *v);
        if float == Dtype::F16 && exact(|v| f16::from_f32(v).to_f32()) {
            put_all(sink, &values, |v| f16::from_f32(*v).to_le_bytes())?;
            return Ok(Dtype::F16);
        }
        if float == Dtype::BF16 && exact(|v| bf16::from_f32(v).to_f32()) {
            put_all(sink, &values, |v| bf16::from_f32(*v).to_le_bytes())?;
            return Ok(Dtype::BF16);
        }
        put_all(sink, &values, |v| v.to_le_bytes())?;
        return Ok(Dtype::F32);
    }
    for_chunks(source, output, |bytes| {
        let (wide, _) = bytes.as_chunks::<4>();
        let (narrow, _) = bytes.as_chunks::<2>();
        let finite = match tensor.kind {
            TensorType::F16 => narrow.iter().all(|b| f16::from_le_bytes(*b).is_finite()),
            TensorType::BF16 => narrow.iter().all(|b| bf16::from_le_bytes(*b).is_finite()),
            _ => wide.iter().all(|b| f32::from_le_bytes(*b).is_finite()),
        };
        if finite { sink.put(bytes) } else { Err(not_a_number()) }
    })?;
    Ok(match tensor.kind {
        TensorType::F16 => Dtype::F16,
        TensorType::BF16 => Dtype::BF16,
        _ => Dtype::F32,
    })
}

fn not_a_number() -> Fault {
    Fault::Bad("holds a value that is not a number; the file is damaged".to_owned())
}

/// Gives the tensor's bytes in whole rows and in Hugging Face's row order.
///
/// llama.cpp rotates neighbouring rows of q and k, Hugging Face the halves of a head: row
/// `half · head_dim/2 + i` of a head is llama.cpp's row `2·i + half`.
fn for_chunks(
    source: &File,
    output: &Output,
    mut each: impl FnMut(&[u8]) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let tensor = &output.tensor;
    // A vector has one row; where its values are to be reordered they are its rows.
    let (rows, row_bytes) = match (tensor.vector, output.unpermute) {
        (true, Some(_)) => (tensor.columns, tensor.kind.block_bytes()),
        _ => (tensor.rows, tensor.row_bytes()),
    };
    let unit = output.unpermute.unwrap_or(1);
    let chunk_rows = (CHUNK_BYTES / row_bytes / unit * unit).max(unit);
    let mut chunk = Vec::new();
    let mut ordered = Vec::new();
    let mut at = 0;
    while at < rows {
        let now = chunk_rows.min(rows - at);
        chunk.resize(now * row_bytes, 0);
        source.read_exact_at(&mut chunk, tensor.offset + (at * row_bytes) as u64)?;
        at += now;
        let Some(head_dim) = output.unpermute else {
            each(&chunk)?;
            continue;
        };
        ordered.clear();
        for head in chunk.chunks_exact(head_dim * row_bytes) {
            for half in 0..2 {
                for row in (half..head_dim).step_by(2) {
                    ordered.extend_from_slice(&head[row * row_bytes..(row + 1) * row_bytes]);
                }
            }
        }
        each(&ordered)?;
    }
    Ok(())
}

/// The header of tensors that lie one after the other.
fn header(entries: &[Entry]) -> String {
    let mut text = String::from(r#"{"__metadata__":{"format":"mlx"}"#);
    let mut at = 0;
    for Entry { name, dtype, shape, bytes } in entries {
        let end = at + bytes;
        // Names are ours: letters, digits, dots and underscores. Writing to a String can't fail.
        let _ = write!(
            text,
            r#","{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{at},{end}]}}"#
        );
        at = end;
    }
    text.push('}');
    text
}

/// Bytes no header of these outputs can exceed: every type as wide as can be, so every offset too.
fn longest_header(outputs: &[Output]) -> usize {
    let mut entries = Vec::new();
    for output in outputs {
        let Tensor { rows, columns, .. } = output.tensor;
        for kind in [output.kind, "scales", "biases"] {
            entries.push(Entry {
                name: format!("{}.{kind}", output.module),
                dtype: Dtype::BF16,
                shape: vec![rows, columns],
                bytes: rows as u64 * columns as u64 * 4,
            });
        }
    }
    // A multiple of 8 keeps the data aligned for readers that map the file.
    header(&entries).len().next_multiple_of(8)
}
