//! The file that launchd opened for what this process writes, once newsyslog has renamed it.
//!
//! launchd opens `StandardErrorPath` when it starts the job, and never again, so after a rotation all
//! would go on into the renamed file, which nobody looks at or limits. Somebody must open the new one;
//! by a signal it would take a process id that newsyslog finds by a path that the config may change.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::unistd::{dup, dup2_stderr, dup2_stdout};

/// Where standard error was open when this process began.
#[derive(Debug)]
pub(crate) struct Output {
    path: PathBuf,
}

impl Output {
    /// Of standard error, if that is a file.
    pub(crate) fn of_standard_error() -> Option<Self> {
        let file = File::from(dup(io::stderr()).ok()?);
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        path_of(&file).ok().map(|path| Self { path })
    }

    /// Opens the new file if there was a rotation, for standard error, and for standard output if
    /// both were the same. Whether it did.
    ///
    /// # Errors
    /// The system's; then all is as it was.
    pub(crate) fn follow(&self) -> io::Result<bool> {
        let err = File::from(dup(io::stderr())?);
        let Some(new) = renewed(&self.path, &err)? else { return Ok(false) };
        let out = File::from(dup(io::stdout())?);
        if is_same(&out.metadata()?, &err.metadata()?) {
            dup2_stdout(&new)?;
        }
        dup2_stderr(&new)?;
        Ok(true)
    }
}

/// The file that is at a path now, if it is another than the open one. It is made if there is none: who
/// renamed it may leave that to us.
fn renewed(path: &Path, open: &File) -> io::Result<Option<File>> {
    match fs::symlink_metadata(path) {
        Ok(found) if is_same(&found, &open.metadata()?) => return Ok(None),
        Ok(found) if !found.is_file() => {
            return Err(io::Error::other(format!("{} is no file any more", path.display())));
        }
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
        .map(Some)
}

fn is_same(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(target_os = "macos")]
fn path_of(file: &File) -> io::Result<PathBuf> {
    let mut path = PathBuf::new();
    nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_GETPATH(&mut path))?;
    Ok(path)
}

#[cfg(not(target_os = "macos"))]
fn path_of(file: &File) -> io::Result<PathBuf> {
    use std::os::fd::AsRawFd;
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_goes_on_in_the_new_file_after_a_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let (path, old) = (folder.join("log"), folder.join("log.0"));
        let kept = dup(io::stderr()).unwrap();
        let file = File::create(&path).unwrap();
        let say = |text: &str| nix::unistd::write(io::stderr(), text.as_bytes()).unwrap();
        dup2_stderr(&file).unwrap();
        let followed = (|| {
            let output = Output::of_standard_error()?;
            say("one ");
            let first = output.follow().ok()?;
            fs::rename(&path, &old).ok()?;
            say("two ");
            let second = output.follow().ok()?;
            say("three ");
            let third = output.follow().ok()?;
            Some((output.path, first, second, third))
        })();
        // The test's own output is its own again, whatever came.
        dup2_stderr(&kept).unwrap();
        assert_eq!(followed, Some((path.clone(), false, true, false)));
        // Other tests of this process may have written between: nothing of ours is lost or doubled.
        let text = |path| fs::read_to_string(path).unwrap();
        assert!(text(&old).contains("one ") && text(&old).contains("two "));
        assert!(text(&path).contains("three ") && !text(&path).contains("two "));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777 & !0o640, 0);
    }

    #[test]
    fn what_took_the_place_of_the_file_is_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let open = File::create(&path).unwrap();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert!(renewed(&path, &open).is_err());
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(renewed(&path, &open).is_err());
    }
}
