//! The run directory: one supervisor each, its notes, its control socket, the children's output, and a folder of
//! the children's own.
//!
//! ```text
//!   run_dir            0750 root, the children's group: they read, only the supervisor writes
//!   run_dir/children   0700 the children's user: their sockets, and whatever else they write
//! ```
//!
//! The supervisor trusts what is in the first, and nothing that is in the second.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::{
    fcntl::Flock,
    libc::{O_CLOEXEC, O_DIRECTORY, O_NOFOLLOW},
    unistd::{Gid, Uid, User, fchown},
};

use tracing::warn;

use super::{
    launch::random_hex,
    own_file::{Access, atomic_write, read_own, set_aside},
};
use crate::config::Config;

mod lock;
mod place;

/// Most entries that are looked at of what other users left in an earlier version's folder, which they could
/// write to.
const LEFT_MAX: usize = 10_000;

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
    /// The folder is not one that may be changed.
    #[error("node.run_dir {} {why}", path.display())]
    Unfit {
        /// The directory.
        path: PathBuf,
        /// What is wrong and what to do.
        why: String,
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

/// Why the folder that a config names can't be the run directory, as far as this user can see; `None` if nothing
/// speaks against it. Changes nothing.
pub fn refusal(config: &Config) -> Option<RunDirError> {
    let path = &config.node.run_dir;
    // Of another user's folder little can be seen, and the supervisor may be that user.
    let is_hidden = !Uid::effective().is_root()
        && match fs::symlink_metadata(path) {
            Ok(found) => found.is_dir() && found.uid() != Uid::effective().as_raw(),
            Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
        };
    let why = if is_hidden { None } else { place::look(path).err() };
    why.map(|why| RunDirError::Unfit { path: path.clone(), why })
}

impl RunDir {
    /// Makes the directory and takes it. Only a folder that is this program's own is changed: one that is not there
    /// yet, that is empty, or that was a run directory before.
    pub fn take(config: &Config) -> Result<Self, RunDirError> {
        let path = config.node.run_dir.clone();
        let failed = |what| {
            let path = path.clone();
            move |source: io::Error| RunDirError::Io { what, path, source }
        };
        let unfit = |why| RunDirError::Unfit { path: path.clone(), why };
        let user = children_user(&config.node.user)?;
        if user.is_some() {
            place::is_safe_way(&path).map_err(unfit)?;
        }
        if place::look(&path).map_err(unfit)? == place::Found::Nothing {
            let parent = path.parent().unwrap_or(Path::new("/"));
            fs::create_dir_all(parent).map_err(failed("make the folder for"))?;
            match DirBuilder::new().mode(0o700).create(&path) {
                // Another supervisor was quicker, or somebody who should not be able to.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    place::look(&path).map_err(unfit)?;
                }
                made => made.map_err(failed("make"))?,
            }
            if user.is_some() {
                place::is_safe_way(&path).map_err(unfit)?;
            }
        }
        let was_open = close(&path, user.as_ref().map(|user| user.gid)).map_err(failed("close"))?;
        let lock = lock::take(&path)?;
        if was_open {
            clear_of_others(&path).map_err(failed("clear"))?;
        }
        atomic_write(&path.join(place::MARK), b"", Access::OWN).map_err(failed("mark"))?;
        let children = crate::config::children_dir(&path);
        open_for_children(&children, user.as_ref())
            .map_err(failed("make the children's folder in"))?;
        Ok(Self { path, user, _lock: lock })
    }

    /// Where a socket is made: what stands there and is none is put aside.
    pub fn place_for_socket(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        let is_socket = |found: fs::Metadata| found.file_type().is_socket();
        if !fs::symlink_metadata(&path).is_ok_and(is_socket)
            && let Err(error) = set_aside(&path)
        {
            warn!("{} can't be cleared: {error}", path.display());
        }
        path
    }

    /// A key that a gateway knows somebody by, the supervisor or other nodes' gateways: the one that a
    /// running gateway was started with, or a new one. Only the supervisor's user can read it.
    pub fn key(&self, name: &str) -> io::Result<String> {
        let path = self.path.join(name);
        if let Ok(key) = read_own(&path, 64)
            && key.len() == 64
            && key.iter().all(u8::is_ascii_hexdigit)
            && let Ok(key) = String::from_utf8(key)
        {
            return Ok(key);
        }
        let key = random_hex()?;
        atomic_write(&path, key.as_bytes(), Access::OWN)?;
        Ok(key)
    }
}

/// Opens a folder, which it must be, and no link to one.
fn open_folder(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC).open(path)
}

/// Has only the supervisor write to a folder, and this group read it. Whether others could write to it before.
fn close(path: &Path, group: Option<Gid>) -> io::Result<bool> {
    let folder = open_folder(path)?;
    let was_open = folder.metadata()?.mode() & 0o022 != 0;
    // The mode first: from here on nobody else changes what is in it.
    folder.set_permissions(Permissions::from_mode(0o750))?;
    if group.is_some() {
        fchown(&folder, None, group)?;
    }
    Ok(was_open)
}

/// Removes what other users left in an earlier version's folder.
fn clear_of_others(path: &Path) -> io::Result<()> {
    let own = Uid::effective().as_raw();
    for entry in fs::read_dir(path)?.take(LEFT_MAX) {
        let entry = entry?.path();
        if fs::symlink_metadata(&entry).is_ok_and(|found| found.uid() != own) {
            set_aside(&entry)?;
        }
    }
    Ok(())
}

/// The children's folder, which nobody but they and root can use. What stands there in its place can only be ours,
/// so it is a mistake, and put aside.
fn open_for_children(path: &Path, user: Option<&User>) -> io::Result<()> {
    let made = DirBuilder::new().mode(0o700).create(path);
    let is_folder = || fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !is_folder() => {
            set_aside(path)?;
            DirBuilder::new().mode(0o700).create(path)?;
        }
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let folder = open_folder(path)?;
    if let Some(user) = user {
        fchown(&folder, Some(user.uid), Some(user.gid))?;
    }
    folder.set_permissions(Permissions::from_mode(0o700))
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

#[cfg(test)]
mod tests {
    use super::{lock::LOCK, *};
    use crate::world::own_file::tests::PLANTS;

    /// A config whose children have this user.
    fn config(run_dir: &Path, user: &str) -> Config {
        let mut config = Config::default();
        config.node.run_dir = run_dir.into();
        config.node.user = user.into();
        config
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_run_directory_has_one_supervisor_and_the_second_learns_who() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder.path().join("run"), "");
        let first = RunDir::take(&config).unwrap();
        assert_eq!(mode(&first.path), 0o750);
        assert_eq!(mode(&first.path.join(LOCK)), 0o600, "who can read it can hold it");
        assert_eq!(mode(&config.children_dir()), 0o700);
        let Err(refusal) = RunDir::take(&config) else { panic!("taken twice") };
        let expected = format!("process {}", std::process::id());
        assert!(refusal.to_string().contains(&expected), "{refusal}");
        drop(first);
        RunDir::take(&config).unwrap();
    }

    #[test]
    fn a_lock_that_outlives_its_supervisor_for_a_moment_keeps_no_other_from_starting() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder.path().join("run"), "");
        let first = RunDir::take(&config).unwrap();
        let child = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(200));
            drop(first);
        });
        RunDir::take(&config).unwrap();
        child.join().unwrap();
    }

    #[test]
    fn a_folder_that_is_not_ours_is_refused_and_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (full, link) = (folder.path().join("full"), folder.path().join("link"));
        fs::create_dir(&full).unwrap();
        fs::write(full.join("precious"), "").unwrap();
        fs::set_permissions(&full, Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink(&full, &link).unwrap();
        let precious = full.join("precious");
        // With a user for the children, where this process may have one, and without.
        for user in ["", if Uid::effective().is_root() { "nobody" } else { "" }] {
            for path in [&full, &link, &precious, Path::new("/")] {
                let config = config(path, user);
                let Err(RunDirError::Unfit { .. }) = RunDir::take(&config) else {
                    panic!("{} was taken", path.display())
                };
                assert!(super::refusal(&config).is_some(), "{}", path.display());
            }
        }
        assert_eq!(mode(&full), 0o755);
        let left: Vec<_> = fs::read_dir(&full).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["precious"]);
        let new = config(&folder.path().join("a/b/run"), "");
        assert!(super::refusal(&new).is_none());
        drop(RunDir::take(&new).unwrap());
        assert!(super::refusal(&new).is_none(), "its own is known again");
    }

    #[test]
    fn whatever_stands_in_a_files_place_does_not_keep_a_supervisor_from_starting() {
        for (name, plant) in PLANTS {
            let folder = tempfile::tempdir().unwrap();
            let config = config(&folder.path().join("run"), "");
            drop(RunDir::take(&config).unwrap());
            let run_dir = &config.node.run_dir;
            let places = [LOCK, "canary.key", "children", "gateway.pid"];
            for place in places {
                let path = run_dir.join(place);
                set_aside(&path).unwrap();
                plant(&path);
            }
            let taken = RunDir::take(&config).unwrap_or_else(|error| panic!("{name}: {error}"));
            let key = taken.key("canary.key").unwrap();
            assert_eq!(key, taken.key("canary.key").unwrap(), "{name}: it is kept");
            assert!(fs::symlink_metadata(run_dir.join("children")).unwrap().is_dir(), "{name}");
        }
    }

    #[test]
    fn an_earlier_versions_folder_is_closed_and_cleared_of_what_others_left() {
        if !Uid::effective().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder.path().join("run"), "nobody");
        let run_dir = &config.node.run_dir;
        fs::create_dir(run_dir).unwrap();
        fs::write(run_dir.join(LOCK), "1\n").unwrap();
        fs::write(run_dir.join("gateway.log"), "ours").unwrap();
        for name in ["rank-0.sock", "rank-5.pid", "rank-0.old.log"] {
            let path = run_dir.join(name);
            if name.ends_with("log") { fs::create_dir(&path) } else { fs::write(&path, "") }
                .unwrap();
            nix::unistd::chown(&path, Some(Uid::from_raw(65_534)), None).unwrap();
        }
        fs::set_permissions(run_dir, Permissions::from_mode(0o1770)).unwrap();
        let taken = RunDir::take(&config).unwrap();
        let user = taken.user.as_ref().unwrap();
        let mut left: Vec<_> =
            fs::read_dir(run_dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [place::MARK, "children", "gateway.log", LOCK]);
        let found = fs::metadata(run_dir).unwrap();
        assert_eq!(
            (found.mode() & 0o7777, found.uid(), found.gid()),
            (0o750, 0, user.gid.as_raw())
        );
        let found = fs::metadata(config.children_dir()).unwrap();
        assert_eq!((found.mode() & 0o7777, found.uid()), (0o700, user.uid.as_raw()));
    }
}
