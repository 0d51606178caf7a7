//! A report's file, which may be anything: half written, huge, or put there to do harm.

use std::{
    fs::{File, OpenOptions},
    io::Read,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use serde_json::Value;

use super::{Report, ReportError, ReportId, body};
use crate::text;

/// Largest report that is read, in bytes. A crash of a process with some hundred threads is about
/// one MB; more is a stack dump of the whole machine.
pub const REPORT_BYTES_MAX: u64 = 10 << 20;
/// Largest header, in bytes; real ones have under one KiB.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// Longest name of a report, in bytes; an incident's UUID has 36, a file name at most 255.
const ID_BYTES_MAX: usize = 255;

/// Reads a report.
///
/// # Errors
/// See [`ReportError`]; only [`ReportError::Partial`] and [`ReportError::Io`] are worth another try.
pub fn read_report(path: &Path) -> Result<(ReportId, Report), ReportError> {
    let mut file = open(path)?;
    let size_bytes = file.metadata()?.len();
    let mut bytes = Vec::new();
    file.by_ref().take(HEADER_BYTES_MAX as u64).read_to_end(&mut bytes)?;
    let header = header(&bytes);
    if let Ok((header, _)) = &header {
        // Reports of other kinds can be large, and their bodies say nothing here.
        body::known(header)?;
    }
    if size_bytes > REPORT_BYTES_MAX {
        return Err(too_large(path, &bytes, size_bytes));
    }
    header?;
    // One more than the limit tells a file that grew since.
    let rest = (REPORT_BYTES_MAX + 1).saturating_sub(bytes.len() as u64);
    file.take(rest).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > REPORT_BYTES_MAX {
        return Err(too_large(path, &bytes, bytes.len() as u64));
    }
    parse(path, &bytes)
}

fn open(path: &Path) -> Result<File, ReportError> {
    // O_NOFOLLOW: a link could name any file of the system. O_NONBLOCK: opening a FIFO would wait
    // for a writer.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| {
        match error.raw_os_error() {
            Some(libc::ELOOP) => ReportError::not_a_report("it is a symbolic link"),
            // What opening a socket says.
            Some(libc::ENXIO | libc::EOPNOTSUPP) => {
                ReportError::not_a_report("it is no regular file")
            }
            _ => ReportError::Io(error),
        }
    })?;
    if !file.metadata()?.is_file() {
        return Err(ReportError::not_a_report("it is no regular file"));
    }
    Ok(file)
}

fn too_large(path: &Path, bytes: &[u8], size_bytes: u64) -> ReportError {
    let header = header(bytes).map_or(Value::Null, |(header, _)| header);
    ReportError::TooLarge { id: id(path, &header), size_bytes }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<(ReportId, Report), ReportError> {
    let (header, header_bytes) = header(bytes)?;
    let body = bytes.get(header_bytes..).unwrap_or_default();
    // Foreign names need not be UTF-8; what is damaged by that is never what is looked for.
    let body = String::from_utf8_lossy(body);
    let body = document(&body)?;
    Ok((id(path, &header), body::report(&header, &body)?))
}

/// The header, and the bytes it takes.
fn header(bytes: &[u8]) -> Result<(Value, usize), ReportError> {
    let beginning = bytes.get(..HEADER_BYTES_MAX).unwrap_or(bytes);
    // The line's end, so that replacing what is no UTF-8 can't move where the body begins.
    let Some(end) = beginning.iter().position(|byte| *byte == b'\n') else {
        return Err(match bytes.len() < HEADER_BYTES_MAX {
            true if could_be_json(bytes) => ReportError::Partial,
            true => ReportError::not_a_report("it does not begin with a JSON object"),
            false => ReportError::not_a_report("its first line is no header"),
        });
    };
    let line = String::from_utf8_lossy(beginning.get(..end).unwrap_or_default());
    match document(&line) {
        Ok(header @ Value::Object(_)) => Ok((header, end + 1)),
        Ok(_) => Err(ReportError::not_a_report("its first line is no JSON object")),
        // The line is whole, so what is missing in it never comes.
        Err(ReportError::Partial) if !line.contains('\0') && !line.trim().is_empty() => {
            Err(ReportError::not_a_report("its first line is no JSON object"))
        }
        Err(error) => Err(error),
    }
}

/// Whether more of it could make it a header: it is empty, or begins like one.
fn could_be_json(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .find(|byte| !byte.is_ascii_whitespace())
        .is_none_or(|byte| matches!(byte, b'{' | 0))
}

/// The first JSON document of a text. The parser refuses more than 128 levels of nesting, so a
/// hostile one can't exhaust the stack; of a repeated key the last value counts.
fn document(text: &str) -> Result<Value, ReportError> {
    let mut documents = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    match documents.next() {
        Some(Ok(document)) => Ok(document),
        // JSON has no NUL: those are blocks that were allocated and not written yet.
        Some(Err(error)) if error.is_eof() || text.contains('\0') => Err(ReportError::Partial),
        Some(Err(error)) => Err(ReportError::not_a_report(error.to_string())),
        None => Err(ReportError::Partial),
    }
}

fn id(path: &Path, header: &Value) -> ReportId {
    let incident = header.get("incident_id").and_then(Value::as_str).map(str::trim);
    let incident = incident.filter(|incident| !incident.is_empty()).map(str::to_owned);
    let name = || path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    ReportId(text::line(&incident.unwrap_or_else(name), ID_BYTES_MAX))
}
