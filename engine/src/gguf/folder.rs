//! The new model folder: filled under a name nobody takes for a model, then moved in one step.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process;

use super::error::ImportError;

/// Prefix of folders being filled. Model names can't begin with a dot.
const PREFIX: &str = ".import-";

/// A folder being filled. Dropped without [`publish`](Staging::publish), it removes itself; after a
/// kill the next import removes it, which it may because the lock went with the process.
#[derive(Debug)]
pub(super) struct Staging {
    path: PathBuf,
    /// Held as long as this import lives.
    _lock: File,
    published: bool,
}

/// How an import ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Published {
    /// The folder was moved to its name.
    New,
    /// The very same model was there already.
    Same,
}

impl Staging {
    /// Makes the folder inside `models`, after removing those of dead imports.
    pub(super) fn create(models: &Path) -> Result<Self, ImportError> {
        fs::create_dir_all(models).map_err(|e| ImportError::write(models, e))?;
        remove_stale(models)?;
        // A handful of names: only a concurrent import in this very process can take one.
        for n in 0..64 {
            let path = models.join(format!("{PREFIX}{}-{n}", process::id()));
            match fs::create_dir(&path) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(ImportError::write(&path, e)),
            }
            let lock = File::open(&path).map_err(|e| ImportError::write(&path, e))?;
            lock.try_lock().map_err(|e| ImportError::write(&path, e.into()))?;
            return Ok(Self { path, _lock: lock, published: false });
        }
        let busy = io::Error::from(io::ErrorKind::AlreadyExists);
        Err(ImportError::write(&models.join(PREFIX), busy))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one small file and sees it on disk.
    pub(super) fn write(&self, name: &str, content: &[u8]) -> Result<(), ImportError> {
        let path = self.path.join(name);
        let write = || -> io::Result<()> {
            let mut file = File::create_new(&path)?;
            file.write_all(content)?;
            file.sync_all()
        };
        write().map_err(|e| ImportError::write(&path, e))
    }

    /// Gives the folder its name, unless a model has it: then it is refused, or dropped if equal.
    pub(super) fn publish(mut self, target: &Path) -> Result<Published, ImportError> {
        let sync = |dir: &Path| {
            File::open(dir).and_then(|d| d.sync_all()).map_err(|e| ImportError::write(dir, e))
        };
        if fs::symlink_metadata(target).is_ok() {
            return if same_folder(&self.path, target)? {
                Ok(Published::Same)
            } else {
                Err(ImportError::Exists { dir: target.to_owned() })
            };
        }
        sync(&self.path)?;
        fs::rename(&self.path, target).map_err(|e| ImportError::write(target, e))?;
        self.published = true;
        if let Some(models) = target.parent() {
            sync(models)?;
        }
        Ok(Published::New)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            // Whatever can't be removed now is removed by the next import.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Removes what killed imports left. A living one holds a lock on its folder.
fn remove_stale(models: &Path) -> Result<(), ImportError> {
    for entry in fs::read_dir(models).map_err(|e| ImportError::read(models, e))? {
        let entry = entry.map_err(|e| ImportError::read(models, e))?;
        let is_folder = entry.file_type().is_ok_and(|t| t.is_dir());
        if !is_folder || !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        // Gone or not ours to open: then it is not ours to remove either.
        let Ok(lock) = File::open(entry.path()) else {
            continue;
        };
        match lock.try_lock() {
            Ok(()) => drop(fs::remove_dir_all(entry.path())),
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
    Ok(())
}

/// Whether two folders hold the same files with the same bytes.
fn same_folder(a: &Path, b: &Path) -> Result<bool, ImportError> {
    let names = |dir: &Path| -> Result<Vec<_>, ImportError> {
        let entries = fs::read_dir(dir).and_then(|all| all.collect::<io::Result<Vec<_>>>());
        let mut names: Vec<_> = match entries {
            Ok(entries) => entries.iter().map(fs::DirEntry::file_name).collect(),
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => Vec::new(),
            Err(e) => return Err(ImportError::read(dir, e)),
        };
        names.sort();
        Ok(names)
    };
    let ours = names(a)?;
    if ours != names(b)? {
        return Ok(false);
    }
    for name in ours {
        let (a, b) = (a.join(&name), b.join(&name));
        if !same_file(&a, &b).map_err(|e| ImportError::read(&b, e))? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn same_file(a: &Path, b: &Path) -> io::Result<bool> {
    let (metadata_a, metadata_b) = (fs::metadata(a)?, fs::metadata(b)?);
    if !metadata_b.is_file() || metadata_a.len() != metadata_b.len() {
        return Ok(false);
    }
    let (mut a, mut b) = (File::open(a)?, File::open(b)?);
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let len = a.read(&mut left)?;
        if len == 0 {
            return Ok(true);
        }
        match b.read_exact(&mut right[..len]) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(e) => return Err(e),
        }
        if left[..len] != right[..len] {
            return Ok(false);
        }
    }
}
