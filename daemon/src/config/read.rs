//! Reading the config file, which may be anything that somebody put there.

use std::{
    fs::OpenOptions,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Largest config file, in bytes: many times the one that has every key.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The whole file, if it is a regular one of a sensible size. Never waits, since the supervisor reads
/// it while it supervises.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a FIFO would wait for a writer without this flag; it means nothing for a file.
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut bytes = Vec::new();
    // One more than the limit tells that there is more.
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let why = format!("it is larger than {FILE_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_a_regular_file_of_a_sensible_size_is_read_and_nothing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        nix::unistd::mkfifo(&path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::write(path("largest"), vec![b'#'; 1 << 20]).unwrap();
        fs::write(path("larger"), vec![b'#'; (1 << 20) + 1]).unwrap();
        let why = |path: &Path| read(path).map(|bytes| bytes.len()).map_err(|e| e.to_string());
        assert_eq!(why(&path("largest")), Ok(1 << 20));
        assert_eq!(why(&path("larger")), Err("it is larger than 1048576 bytes".into()));
        for odd in [path("fifo"), folder.path().to_owned(), "/dev/zero".into()] {
            assert_eq!(why(&odd), Err("it is no regular file".into()), "{}", odd.display());
        }
    }
}
