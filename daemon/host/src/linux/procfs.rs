//! Files of `/proc`: read whole or not at all, so that a cut one is never taken for all there is.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// Reads a file of at most this many bytes; a longer one is an error. Bytes that are not UTF-8,
/// which a process's name may hold, are replaced.
pub(super) fn read(path: impl AsRef<Path>, bytes_max: u64) -> io::Result<String> {
    let path = path.as_ref();
    let mut bytes = Vec::with_capacity(4_096);
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        let text = format!("{} is longer than {bytes_max} bytes", path.display());
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}
