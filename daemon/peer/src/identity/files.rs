//! The folder that only the supervisor's user may look into.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{Flock, FlockArg},
    libc,
    unistd::Uid,
};

use super::IdentityError;

/// Largest file that is read, in bytes: far over a key or [`super::PINS_MAX`] pins.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// A folder that was found to be ours alone.
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Makes the folder where it is missing, and checks it.
    pub(super) fn make(path: &Path) -> Result<Self, IdentityError> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        // What it is in is not secret.
        fs::create_dir_all(parent).map_err(failed("make", parent))?;
        match DirBuilder::new().mode(0o700).create(path) {
            // A key must not be lost with its folder after the others pinned it.
            Ok(()) => File::open(parent)
                .and_then(|parent| parent.sync_all())
                .map_err(failed("sync", parent))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed("make", path)(error)),
        }
        let folder = Self { path: path.to_owned() };
        folder.open_itself()?;
        Ok(folder)
    }

    /// The folder, if it is there.
    pub(super) fn find(path: &Path) -> Result<Option<Self>, IdentityError> {
        let folder = Self { path: path.to_owned() };
        match folder.open_itself() {
            Ok(_) => Ok(Some(folder)),
            Err(IdentityError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps other processes of ours from writing until it is dropped: reading, changing and writing
    /// a file has to be one thing. All that holds it does only that, so waiting is short.
    pub(super) fn lock(&self) -> Result<Flock<File>, IdentityError> {
        let file = self.open_itself()?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| failed("lock", &self.path)(errno.into()))
    }

    /// A file's content, if there is the file.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, IdentityError> {
        let path = self.path.join(name);
        // O_NONBLOCK: opening a FIFO would wait for a writer.
        let file = match open(&path, libc::O_NOFOLLOW | libc::O_NONBLOCK) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(failed("open", &path))?,
        };
        let metadata = file.metadata().map_err(failed("look at", &path))?;
        check(&path, &metadata, metadata.is_file(), "chmod 600 it, or remove it and pair again")?;
        let mut content = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content).map_err(failed("read", &path))?;
        if content.len() as u64 > FILE_BYTES_MAX {
            return Err(IdentityError::Damaged {
                path,
                problem: format!("over {FILE_BYTES_MAX} bytes"),
                remedy: "remove it and pair the nodes again",
            });
        }
        Ok(Some(content))
    }

    /// Writes a file so that a crash leaves the old content or the new. The lock must be held.
    pub(super) fn write(&self, name: &str, content: &[u8]) -> Result<(), IdentityError> {
        let path = self.path.join(name);
        let aside = self.path.join(format!("{name}.new"));
        // What a crash may have left.
        match fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &aside)(error));
            }
            _ => {}
        }
        let write = || -> io::Result<()> {
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
            // Whatever the umask left of the mode.
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&aside, &path)
        };
        write().map_err(failed("write", &path))?;
        self.open_itself()?.sync_all().map_err(failed("sync", &self.path))
    }

    fn open_itself(&self) -> Result<File, IdentityError> {
        let file = open(&self.path, libc::O_NOFOLLOW | libc::O_DIRECTORY)
            .map_err(failed("open", &self.path))?;
        let metadata = file.metadata().map_err(failed("look at", &self.path))?;
        check(
            &self.path,
            &metadata,
            metadata.is_dir(),
            "chown it to the supervisor and chmod 700",
        )?;
        Ok(file)
    }
}

fn open(path: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Whether only our own user can read or change it.
fn check(
    path: &Path,
    metadata: &fs::Metadata,
    is_its_kind: bool,
    remedy: &'static str,
) -> Result<(), IdentityError> {
    let own = Uid::effective().as_raw();
    let problem = if !is_its_kind {
        "is no regular file".to_owned()
    } else if metadata.uid() != own {
        format!("belongs to user {}, not to {own}", metadata.uid())
    } else if metadata.mode() & 0o077 != 0 {
        format!("has mode {:04o}, so that others can use it", metadata.mode() & 0o7777)
    } else {
        return Ok(());
    };
    Err(IdentityError::Unsafe { path: path.to_owned(), problem, remedy })
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IdentityError {
    let path = path.to_owned();
    move |source| IdentityError::Io { doing, path, source }
}
