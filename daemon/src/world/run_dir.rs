//! The run directory: one supervisor each, its sockets, process ids and state.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    unistd::{Uid, User, chown},
};

use super::launch::random_hex;
use crate::config::Config;

/// Why the run directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// Another supervisor has it.
    #[error(
        "another supervisor{holder} already runs in {}; stop it first, or give this one another \
         node.run_dir",
        path.display()
    )]
    Taken {
        /// The directory.
        path: PathBuf,
        /// `" (process 12)"`, or empty if it is not known.
        holder: String,
    },
    /// The user for the children does not exist.
    #[error(
        "node.user is \"{0}\", but there is no such user; make it, or set node.user = \"\" to run \
         all as root (development only)"
    )]
    NoUser(String),
    /// The system refused.
    #[error("can't {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

/// A run directory that is ours until dropped.
pub struct RunDir {
    /// The directory.
    pub path: PathBuf,
    /// User that the children run as, if it is another one.
    pub user: Option<User>,
    _lock: Flock<File>,
}

impl RunDir {
    /// Makes the directory and takes it. Where the children have a user of their own, they may add
    /// sockets to it, but (by the sticky bit) not replace what the supervisor keeps in it.
    pub fn take(config: &Config) -> Result<Self, RunDirError> {
        let path = config.node.run_dir.clone();
        let failed = |what| {
            let path = path.clone();
            move |source: io::Error| RunDirError::Io { what, path, source }
        };
        let user = children_user(&config.node.user)?;
        fs::create_dir_all(&path).map_err(failed("make"))?;
        if let Some(user) = &user {
            chown(&path, Some(Uid::effective()), Some(user.gid))
                .map_err(|errno| failed("change the owner of")(errno.into()))?;
        }
        let mode = if user.is_some() { 0o1770 } else { 0o750 };
        fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(failed("set mode of"))?;
        let lock = lock(&path)?;
        Ok(Self { path, user, _lock: lock })
    }
}

impl RunDir {
    /// A key that a gateway knows somebody by, the supervisor or other nodes' gateways: the one that a
    /// running gateway was started with, or a new one. Only the supervisor's user can read it.
    pub fn key(&self, name: &str) -> io::Result<String> {
        let path = self.path.join(name);
        if let Ok(file) =
            OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(&path)
        {
            let is_ours = file.metadata()?.uid() == Uid::effective().as_raw();
            let mut key = String::new();
            let size = file.take(128).read_to_string(&mut key)?;
            if is_ours && size == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Ok(key);
            }
        }
        let key = random_hex()?;
        let mut file = create_anew(&path)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(key.as_bytes())?;
        Ok(key)
    }
}

/// Makes a file anew, whatever stood at its path: a child may have put a file or a link of its own
/// there, and must not own or redirect what the supervisor writes.
pub(super) fn create_anew(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)
}

/// `None` if the children keep the supervisor's user.
fn children_user(name: &str) -> Result<Option<User>, RunDirError> {
    if name.is_empty() || !Uid::effective().is_root() {
        return Ok(None);
    }
    match User::from_name(name) {
        Ok(Some(user)) => Ok(Some(user)),
        _ => Err(RunDirError::NoUser(name.to_owned())),
    }
}

fn lock(run_dir: &Path) -> Result<Flock<File>, RunDirError> {
    let path = run_dir.join("supervise.pid");
    let failed = |source| RunDirError::Io { what: "open", path: path.clone(), source };
    // The file belongs to the supervisor and the directory to its children: never follow a link
    // that one of them may have put here.
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC)
        .open(&path)
        .map_err(failed)?;
    let mut holder = String::new();
    // A process id is a few digits; whatever else stands there is not read.
    let _ = (&mut file).take(20).read_to_string(&mut holder);
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            let written = lock
                .set_len(0)
                .and_then(|()| lock.seek(SeekFrom::Start(0)))
                .and_then(|_| writeln!(lock, "{}", std::process::id()));
            written.map_err(failed)?;
            Ok(lock)
        }
        Err((_, Errno::EWOULDBLOCK)) => Err(RunDirError::Taken {
            path: run_dir.into(),
            holder: match holder.trim().parse::<u32>() {
                Ok(pid) => format!(" (process {pid})"),
                Err(_) => String::new(),
            },
        }),
        Err((_, errno)) => Err(failed(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_directory_has_one_supervisor_and_the_second_learns_who() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.node.run_dir = folder.path().join("run");
        config.node.user = String::new();
        let first = RunDir::take(&config).unwrap();
        let mode = fs::metadata(&first.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o750);
        let Err(refusal) = RunDir::take(&config) else { panic!("taken twice") };
        let expected = format!("process {}", std::process::id());
        assert!(refusal.to_string().contains(&expected), "{refusal}");
        drop(first);
        RunDir::take(&config).unwrap();
    }
}
