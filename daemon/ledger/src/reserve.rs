//! Room on the disk that is kept for what must be written when nothing else has room: a file beside the
//! ledger, given back piece by piece. A rank that dies on a full disk can so be started again, since a
//! start has to be saved first.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use nix::sys::statvfs::statvfs;
use tracing::{info, warn};

/// What is given back at once, in bytes: room for some hundred saves, and for the small files that a
/// start of the ranks writes on the same disk.
const PIECE_BYTES: u64 = 1 << 20;

/// Pieces of the whole: whatever fills a disk takes the first ones too before it ends or is ended.
const PIECES: u64 = 8;

/// Least room on the disk to make it, in bytes: it must not be what fills a disk.
const FREE_BYTES_MIN: u64 = 4 * PIECES * PIECE_BYTES;

/// How often it is tried to make it whole again.
const PERIOD: Duration = Duration::from_secs(60);

/// The reserve of one ledger's folder.
pub(crate) struct Reserve {
    path: PathBuf,
    /// When it may be made whole again; `None` for at once.
    next: Option<Instant>,
}

impl Reserve {
    /// That of this file, whether it is there or not.
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self { path, next: None }
    }

    /// Makes it whole, at most once in a while, if it is not and the disk has much room.
    pub(crate) fn keep(&mut self) {
        if self.next.is_some_and(|next| Instant::now() < next) {
            return;
        }
        self.next = Some(Instant::now() + PERIOD);
        if self.length() == PIECES * PIECE_BYTES || self.free() < FREE_BYTES_MIN {
            return;
        }
        if let Err(error) = self.make() {
            warn!("no room can be reserved in {}: {error}", self.path.display());
            self.remove();
        }
    }

    /// Gives a piece back; whether there was one.
    pub(crate) fn release(&mut self) -> bool {
        let left = match self.length() {
            0 => return false,
            length => length.saturating_sub(PIECE_BYTES) / PIECE_BYTES * PIECE_BYTES,
        };
        // Not made whole again before what filled the disk had time to end.
        self.next = Some(Instant::now() + PERIOD);
        let cut = OpenOptions::new()
            .write(true)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
            .open(&self.path)
            .and_then(|file| file.set_len(left));
        match cut {
            Ok(()) => info!(
                "the disk is full: {} MiB of {} MiB that were reserved are left",
                left / PIECE_BYTES,
                PIECES
            ),
            // A disk that can't cut a file may still let go of it.
            Err(error) => {
                warn!("{} can't be cut: {error}", self.path.display());
                self.remove();
            }
        }
        true
    }

    /// Its length in bytes; none for what is not ours.
    fn length(&self) -> u64 {
        let metadata = fs::symlink_metadata(&self.path);
        metadata.ok().filter(fs::Metadata::is_file).map_or(0, |metadata| metadata.len())
    }

    /// Room on its disk, in bytes; none if that can't be told.
    // Both are 64 bits wide on Linux, and narrower on a Mac.
    #[allow(clippy::useless_conversion)]
    fn free(&self) -> u64 {
        let folder = self.path.parent().unwrap_or(&self.path);
        statvfs(folder).map_or(0, |disk| {
            u64::from(disk.blocks_available()).saturating_mul(u64::from(disk.fragment_size()))
        })
    }

    fn make(&self) -> io::Result<()> {
        self.remove();
        let mut file: File =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path)?;
        // Not zeros, of which a disk may keep none.
        let piece: Vec<u8> = (0..PIECE_BYTES).map(|index| (index % 251) as u8).collect();
        for _ in 0..PIECES {
            file.write_all(&piece)?;
        }
        file.sync_all()
    }

    fn remove(&self) {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!("{} can't be removed: {error}", self.path.display());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn it_is_given_back_piece_by_piece_and_made_again_later() {
        let folder = tempfile::tempdir().unwrap();
        let mut reserve = Reserve::new(folder.path().join("reserve"));
        assert!(!reserve.release(), "there is none yet");
        reserve.keep();
        for left in (0..PIECES).rev() {
            assert!(reserve.release());
            assert_eq!(reserve.length(), left * PIECE_BYTES);
        }
        assert!(!reserve.release());
        reserve.keep();
        assert_eq!(reserve.length(), 0, "what filled the disk may still be at it");
        reserve.next = None;
        reserve.keep();
        assert_eq!(reserve.length(), PIECES * PIECE_BYTES);
    }

    #[test]
    fn what_lies_in_its_place_is_neither_followed_nor_counted() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("other");
        fs::write(&other, vec![1; 4 << 20]).unwrap();
        let mut reserve = Reserve::new(folder.path().join("reserve"));
        symlink(&other, &reserve.path).unwrap();
        assert!(!reserve.release());
        reserve.keep();
        assert_eq!(reserve.length(), PIECES * PIECE_BYTES);
        assert_eq!(fs::metadata(&other).unwrap().len(), 4 << 20);
    }
}
