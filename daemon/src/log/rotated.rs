//! A log file that never grows over its limit, and the older ones beside it: `tandem.log`, `tandem.log.1`,
//! `tandem.log.2` … with the newest first.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Name of the newest file.
pub(super) const NAME: &str = "tandem.log";

/// Mode of the files: for the supervisor's user and the folder's group.
const FILE_MODE: u32 = 0o640;
/// Mode of the folder, where it has to be made.
const FOLDER_MODE: u32 = 0o750;

/// A file and the older ones.
pub(super) struct Rotated {
    path: PathBuf,
    bytes_max: u64,
    files_max: u32,
    open: Option<Open>,
    /// Whether the last line was written in part.
    is_torn: bool,
}

struct Open {
    file: File,
    /// Device and inode.
    id: (u64, u64),
    size_bytes: u64,
}

impl Rotated {
    /// So many files of at most so many bytes each, in this folder, which need not exist yet.
    pub(super) fn new(folder: &Path, bytes_max: u64, files_max: u32) -> Self {
        let path = folder.join(NAME);
        Self { path, bytes_max, files_max, open: None, is_torn: false }
    }

    /// The newest file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes older files that a larger number of them has left.
    pub(super) fn trim(&self, files_max_ever: u32) {
        for number in self.files_max..=files_max_ever {
            let _ = fs::remove_file(self.older(number));
        }
    }

    /// Appends a line, which has its end. The limit holds whatever fails: what can't be rotated is not
    /// written.
    ///
    /// # Errors
    /// The system's reason; the line is lost. The next one is tried anew.
    pub(super) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let mut open = self.current()?;
        let has_room = open.size_bytes.saturating_add(line.len() as u64 + 1) <= self.bytes_max;
        if open.size_bytes > 0 && !has_room {
            drop(open);
            self.rotate()?;
            open = self.current()?;
        }
        let is_torn = std::mem::replace(&mut self.is_torn, true) && open.size_bytes > 0;
        if is_torn {
            open.file.write_all(b"\n")?;
        }
        open.file.write_all(line)?;
        open.size_bytes += line.len() as u64 + u64::from(is_torn);
        self.open = Some(open);
        self.is_torn = false;
        Ok(())
    }

    /// The file that has the name now: it may have been removed or renamed since the last line, with its
    /// folder.
    fn current(&mut self) -> io::Result<Open> {
        let named = fs::symlink_metadata(&self.path).map(|metadata| id(&metadata));
        match (self.open.take(), named) {
            (Some(open), Ok(named)) if open.id == named => Ok(open),
            _ => self.open_anew(),
        }
    }

    fn open_anew(&self) -> io::Result<Open> {
        if let Some(folder) = self.path.parent() {
            DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
        }
        // A link could lead anywhere, and a FIFO would wait for a reader.
        let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC;
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(FILE_MODE).custom_flags(flags);
        let file = options.open(&self.path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        if metadata.mode() & 0o777 != FILE_MODE {
            file.set_permissions(Permissions::from_mode(FILE_MODE))?;
        }
        Ok(Open { id: id(&metadata), size_bytes: metadata.len(), file })
    }

    /// Makes each file one older; the oldest goes.
    fn rotate(&self) -> io::Result<()> {
        if self.files_max < 2 {
            return fs::remove_file(&self.path);
        }
        for number in (1..self.files_max).rev() {
            match fs::rename(self.older(number - 1), self.older(number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn older(&self, number: u32) -> PathBuf {
        match number {
            0 => self.path.clone(),
            number => self.path.with_file_name(format!("{NAME}.{number}")),
        }
    }
}

fn id(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}
