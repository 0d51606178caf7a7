//! Reading one part of one tensor: planned as equal runs of bytes, done by `pread`.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::{CheckpointError, TensorInfo, open_regular};

/// Parts below this size are read by the calling thread alone: starting threads costs more.
const PARALLEL_FROM_BYTES: usize = 4 << 20;

/// Threads reading one tensor. A column part is thousands of small reads; one at a time they wait
/// for the disk's latency (0.1 ms) each, eight at a time an SSD answers side by side.
const THREADS: usize = 8;

/// Longest single read. macOS refuses reads of 2 GiB and more.
const MAX_READ_BYTES: usize = 64 << 20;

/// Which elements of a tensor to read, in *stored* elements (a packed `U32` word counts as one).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The whole tensor.
    All,
    /// These ranges along axis 0, one after the other.
    Rows(Vec<Range<usize>>),
    /// This range along the last axis of a two-axis tensor.
    Columns(Range<usize>),
}

/// A part as byte runs in the file.
#[derive(Debug)]
pub(super) struct Plan {
    runs: Runs,
    pub(super) total_bytes: usize,
}

#[derive(Debug)]
enum Runs {
    /// (offset in the file, length), one after the other.
    Listed(Vec<(u64, usize)>),
    /// `count` runs of `len` bytes, `stride` apart.
    Strided { first: u64, stride: u64, len: usize, count: usize },
}

/// Works out which bytes a part is. All sizes were checked when the header was read, so a part
/// inside the shape can't overflow.
pub(super) fn plan(name: &str, info: &TensorInfo, part: &Part) -> Result<Plan, CheckpointError> {
    let outside = |range: &Range<usize>| {
        let reason = format!("part {range:?} is not inside its shape {:?}", info.shape);
        CheckpointError::tensor(name, reason)
    };
    let inside = |range: &Range<usize>, axis: usize| range.start <= range.end && range.end <= axis;
    let whole = info.len as usize;
    let plan = match part {
        Part::All => Plan { runs: Runs::Listed(vec![(info.offset, whole)]), total_bytes: whole },
        Part::Rows(ranges) => {
            let rows = info.shape.first().copied().unwrap_or(0);
            let row_bytes = whole.checked_div(rows).unwrap_or(0);
            let mut runs = Vec::with_capacity(ranges.len());
            let mut total_bytes = 0usize;
            for range in ranges {
                if !inside(range, rows) {
                    return Err(outside(range));
                }
                let offset = info.offset + (range.start * row_bytes) as u64;
                runs.push((offset, range.len() * row_bytes));
                // Ranges may repeat, so their sum is not bounded by the tensor.
                total_bytes = total_bytes
                    .checked_add(range.len() * row_bytes)
                    .ok_or_else(|| outside(range))?;
            }
            Plan { runs: Runs::Listed(runs), total_bytes }
        }
        Part::Columns(range) => {
            let &[rows, columns] = info.shape.as_slice() else {
                return Err(CheckpointError::tensor(
                    name,
                    format!("columns of shape {:?}: it has not two axes", info.shape),
                ));
            };
            if !inside(range, columns) {
                return Err(outside(range));
            }
            let item = info.dtype.bytes();
            let len = range.len() * item;
            let first = info.offset + (range.start * item) as u64;
            let stride = (columns * item) as u64;
            Plan {
                runs: Runs::Strided { first, stride, len, count: rows },
                total_bytes: rows * len,
            }
        }
    };
    Ok(plan)
}

/// Reads the planned bytes into `out`, which has exactly `plan.total_bytes`.
pub(super) fn run(file: &File, plan: &Plan, out: &mut [u8]) -> io::Result<()> {
    match &plan.runs {
        Runs::Listed(runs) => {
            let mut rest = out;
            for &(offset, len) in runs {
                let (now, later) = rest.split_at_mut(len);
                read_split(file, Span { first: offset, stride: 1, len: 1 }, now)?;
                rest = later;
            }
            Ok(())
        }
        &Runs::Strided { first, stride, len, count } => {
            if len as u64 == stride {
                return read_split(file, Span { first, stride: 1, len: 1 }, out);
            }
            debug_assert_eq!(len * count, out.len());
            read_split(file, Span { first, stride, len }, out)
        }
    }
}

/// Runs of `len` bytes, `stride` apart, from `first` on. Contiguous bytes are runs of one byte.
#[derive(Clone, Copy)]
struct Span {
    first: u64,
    stride: u64,
    len: usize,
}

impl Span {
    fn read(self, file: &File, out: &mut [u8]) -> io::Result<()> {
        if self.len as u64 == self.stride {
            let mut at = self.first;
            for piece in out.chunks_mut(MAX_READ_BYTES) {
                file.read_exact_at(piece, at)?;
                at += piece.len() as u64;
            }
            return Ok(());
        }
        let mut at = self.first;
        for piece in out.chunks_exact_mut(self.len.max(1)) {
            file.read_exact_at(piece, at)?;
            at += self.stride;
        }
        Ok(())
    }
}

/// Reads a span, big ones by several threads, each a consecutive share of the runs.
fn read_split(file: &File, span: Span, out: &mut [u8]) -> io::Result<()> {
    if out.len() < PARALLEL_FROM_BYTES {
        return span.read(file, out);
    }
    let runs = out.len() / span.len;
    let runs_each = runs.div_ceil(THREADS);
    thread::scope(|scope| {
        let mut readers = Vec::with_capacity(THREADS);
        for (i, share) in out.chunks_mut(runs_each * span.len).enumerate() {
            let first = span.first + (i * runs_each) as u64 * span.stride;
            let mine = Span { first, ..span };
            readers.push(scope.spawn(move || mine.read(file, share)));
        }
        readers.into_iter().try_for_each(|reader| match reader.join() {
            Ok(result) => result,
            Err(_) => Err(io::Error::other("a reading thread panicked")),
        })
    })
}

/// The checkpoint's files. Opened when needed, the last one kept open: a folder of hundreds of
/// files must not use up the process's descriptors (256 by default on macOS).
#[derive(Debug, Default)]
pub(super) struct Shelf {
    files: Vec<(PathBuf, Identity)>,
    last: Mutex<Option<(usize, Arc<File>)>>,
}

/// What tells whether a path still holds the file whose header was validated.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Identity {
    fn of(file: &File) -> io::Result<Self> {
        let meta = file.metadata()?;
        Ok(Self {
            device: meta.dev(),
            inode: meta.ino(),
            bytes: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        })
    }
}

impl Shelf {
    pub(super) fn add(&mut self, path: PathBuf, file: &File) -> Result<(), CheckpointError> {
        let identity = Identity::of(file).map_err(|e| CheckpointError::io(&path, e))?;
        self.files.push((path, identity));
        Ok(())
    }

    pub(super) fn file(&self, number: usize) -> Result<(&Path, Arc<File>), CheckpointError> {
        // `number` comes from our own validated table.
        let (path, identity) = &self.files[number];
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((n, file)) = &*last
            && *n == number
        {
            return Ok((path, Arc::clone(file)));
        }
        let file = open_regular(path)?;
        if Identity::of(&file).map_err(|e| CheckpointError::io(path, e))? != *identity {
            let reason = "was changed after it was opened; load the model again";
            return Err(CheckpointError::malformed(path, reason));
        }
        let file = Arc::new(file);
        *last = Some((number, Arc::clone(&file)));
        Ok((path, file))
    }
}
