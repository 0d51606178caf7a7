//! The ledger's files: their names, how one appears whole, and how a damaged one goes out of the
//! way.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tracing::warn;

use crate::{FILE_NAME, LedgerError};

/// Read by the owner's group, so that operators need not be root; written by the owner. SQLite gives
/// the files beside it the same mode and owner.
const MODE: u32 = 0o640;

/// Most ledgers set aside that are kept. Each may be as large as a full ledger, and the last few
/// tell whether the same thing goes wrong again.
const ASIDES_MAX: usize = 3;

/// Files that belong to one database, as suffixes: the database, its write-ahead log, the log's
/// index. The database goes first: without it, the log alone shows that there was one.
const SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];

/// A file as the system knows it, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// Of what stands at this path; `None` if nothing can be seen there.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::symlink_metadata(path).ok()?;
        Some(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

/// The folder of one ledger.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Where the ledger is.
    pub(crate) fn ledger(&self) -> PathBuf {
        self.path.join(FILE_NAME)
    }

    /// Where a new one is made before it is whole.
    pub(crate) fn unfinished(&self) -> PathBuf {
        self.path.join("ledger.new.db")
    }

    /// Where room is reserved for it.
    pub(crate) fn reserve(&self) -> PathBuf {
        self.path.join("ledger.reserve")
    }

    /// Whether the ledger's log is there.
    pub(crate) fn has_log(&self) -> bool {
        fs::symlink_metadata(beside(&self.ledger(), "-wal")).is_ok()
    }

    /// Makes an empty file to build a ledger in, whatever an interrupted start left there.
    pub(crate) fn create_unfinished(&self) -> Result<PathBuf, LedgerError> {
        let path = self.unfinished();
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let leftover = beside(&path, suffix);
            match fs::remove_file(&leftover) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(LedgerError::Io { doing: "remove", path: leftover, source });
                }
                _ => {}
            }
        }
        let created = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&path);
        created.map_err(failed("create", &path))?;
        Ok(path)
    }

    /// Puts the whole file in its place, so that it survives a power cut.
    pub(crate) fn finish(&self) -> Result<(), LedgerError> {
        let path = self.unfinished();
        let synced = File::open(&path).and_then(|file| file.sync_all());
        synced.map_err(failed("sync", &path))?;
        fs::rename(&path, self.ledger()).map_err(failed("rename", &path))?;
        self.sync()
    }

    /// Gives the ledger its mode, in case it was copied here with another.
    pub(crate) fn set_mode(&self) -> Result<(), LedgerError> {
        let path = self.ledger();
        let metadata = fs::metadata(&path).map_err(failed("look at", &path))?;
        if metadata.permissions().mode() & 0o7777 == MODE {
            return Ok(());
        }
        fs::set_permissions(&path, Permissions::from_mode(MODE))
            .map_err(failed("set the mode of", &path))
    }

    /// Moves the ledger and its log to a name that nothing has, and forgets the oldest such.
    pub(crate) fn set_aside(&self) -> Result<PathBuf, LedgerError> {
        let mut numbers = self.asides()?;
        let number = numbers.last().map_or(1, |last| last.saturating_add(1));
        let to = self.aside(number);
        for suffix in SUFFIXES {
            let from = beside(&self.ledger(), suffix);
            match fs::rename(&from, beside(&to, suffix)) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(LedgerError::Io { doing: "set aside", path: from, source });
                }
                _ => {}
            }
        }
        self.sync()?;
        numbers.push(number);
        let surplus = numbers.len().saturating_sub(ASIDES_MAX);
        for number in numbers.into_iter().take(surplus) {
            for suffix in SUFFIXES {
                let path = beside(&self.aside(number), suffix);
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        warn!("can't remove {}, which is of no use: {error}", path.display());
                    }
                    _ => {}
                }
            }
        }
        Ok(to)
    }

    /// The ledger that was last set aside.
    pub(crate) fn last_aside(&self) -> Result<Option<PathBuf>, LedgerError> {
        Ok(self.asides()?.last().map(|number| self.aside(*number)))
    }

    fn aside(&self, number: u64) -> PathBuf {
        self.path.join(format!("ledger.corrupt-{number}.db"))
    }

    /// Numbers of what was set aside, rising.
    fn asides(&self) -> Result<Vec<u64>, LedgerError> {
        let entries = fs::read_dir(&self.path).map_err(failed("list", &self.path))?;
        let mut numbers = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed("list", &self.path))?.file_name();
            // The log counts too: it may be all that was left to set aside.
            let number = name.to_str().and_then(|name| {
                let rest = name.strip_prefix("ledger.corrupt-")?;
                let (number, suffix) = rest.split_once(".db")?;
                SUFFIXES.contains(&suffix).then_some(number)
            });
            numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }

    fn sync(&self) -> Result<(), LedgerError> {
        let synced = File::open(&self.path).and_then(|folder| folder.sync_all());
        synced.map_err(failed("sync", &self.path))
    }
}

/// The path of one of a database's files.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// An error of the system for this path.
pub(crate) fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LedgerError {
    let path = path.to_owned();
    move |source| LedgerError::Io { doing, path, source }
}
