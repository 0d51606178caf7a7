//! Files that the supervisor keeps in its run directory: written whole or not at all, and read only as
//! what they are. Nothing here follows a link or waits for what somebody else put in a file's place.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use nix::{
    libc::{O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK},
    unistd::{Gid, Uid, fchown},
};

use super::launch::random_hex;

/// Who may use a file that is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    /// Permission bits, whatever the umask.
    pub(super) mode: u32,
    /// Its owner, if that is not this process's user.
    pub(super) owner: Option<Uid>,
    /// Its group, if that is not this process's.
    pub(super) group: Option<Gid>,
}

impl Access {
    /// For this process's user alone.
    pub(super) const OWN: Self = Self { mode: 0o600, owner: None, group: None };
}

/// Puts a file in the place of what was there, at once: a reader finds the old content or the new, whole,
/// and so does whoever comes after a power cut.
pub(super) fn atomic_write(path: &Path, content: &[u8], access: Access) -> io::Result<()> {
    let fresh = beside(path, ".new");
    set_aside(&fresh)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    let written = write_all(&mut file, content, access).and_then(|()| replace(&fresh, path));
    if written.is_err() {
        // Nobody reads it, and the next one is made anew.
        let _ = fs::remove_file(&fresh);
    }
    written
}

fn write_all(file: &mut File, content: &[u8], access: Access) -> io::Result<()> {
    file.write_all(content)?;
    if access.owner.is_some() || access.group.is_some() {
        fchown(&*file, access.owner, access.group)?;
    }
    file.set_permissions(fs::Permissions::from_mode(access.mode))?;
    file.sync_all()
}

/// Renames a file over what is there, even a folder.
pub(super) fn replace(fresh: &Path, path: &Path) -> io::Result<()> {
    match fs::rename(fresh, path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            set_aside(path)?;
            fs::rename(fresh, path)
        }
        renamed => renamed,
    }
}

/// Clears a path, whatever stands there: a file, link, pipe, socket or empty folder is removed; a folder
/// that somebody filled is renamed, because emptying it takes as long as he likes.
pub(super) fn set_aside(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let gone = if found.is_dir() {
        fs::remove_dir(path).or_else(|_| {
            let name: String = random_hex()?.chars().take(16).collect();
            fs::rename(path, beside(path, &format!(".aside-{name}")))
        })
    } else {
        fs::remove_file(path)
    };
    match gone {
        // Somebody else was quicker.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        gone => gone,
    }
}

/// The content of a file that this process's user wrote, of at most this many bytes.
pub(super) fn read_own(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = open_own(path, OpenOptions::new().read(true))?;
    let mut content = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut content)?;
    if content.len() as u64 > bytes_max {
        return Err(odd("it is too large"));
    }
    Ok(content)
}

/// Opens a regular file of this process's user.
pub(super) fn open_own(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    // Opening a pipe or a device would wait without the second flag; it means nothing for a file.
    let file = options.custom_flags(O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(odd("it is no regular file"));
    }
    if found.uid() != Uid::effective().as_raw() {
        return Err(odd("it is another user's"));
    }
    Ok(file)
}

fn odd(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// A path with a longer name in the same folder.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::net::UnixListener;

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    /// Puts something odd at a path, and its name.
    pub(in crate::world) type Plant = (&'static str, fn(&Path));

    /// What somebody else may put where the supervisor wants to read or write a file.
    pub(in crate::world) const PLANTS: [Plant; 9] = [
        ("pipe", |path| mkfifo(path, Mode::S_IRWXU).unwrap()),
        ("link to a device that never ends", |path| link("/dev/zero", path)),
        ("link to a terminal", |path| link("/dev/ptmx", path)),
        ("link to nothing", |path| link("/nonexistent/x", path)),
        ("link to itself", |path| link(path, path)),
        ("folder", |path| fs::create_dir(path).unwrap()),
        ("full folder", |path| fs::create_dir_all(path.join("deep/er")).unwrap()),
        ("socket", |path| drop(UnixListener::bind(path).unwrap())),
        ("another user's file", |path| {
            fs::write(path, "1 1 1\n").unwrap();
            // Where this is allowed; else it is just a file with nonsense in it.
            let _ = nix::unistd::chown(path, Some(Uid::from_raw(65_534)), None);
        }),
    ];

    fn link(target: impl AsRef<Path>, path: &Path) {
        std::os::unix::fs::symlink(target, path).unwrap();
    }

    #[test]
    fn a_file_takes_the_place_of_whatever_was_planted_there_or_beside_it() {
        for (name, plant) in PLANTS {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("config.toml");
            plant(&path);
            plant(&beside(&path, ".new"));
            atomic_write(&path, b"whole", Access::OWN).unwrap_or_else(|e| panic!("{name}: {e}"));
            let found = fs::symlink_metadata(&path).unwrap();
            assert!(found.is_file() && found.permissions().mode() & 0o777 == 0o600, "{name}");
            assert_eq!(read_own(&path, 5).unwrap(), b"whole", "{name}");
        }
    }

    #[test]
    fn what_is_no_own_regular_file_is_not_read_and_not_waited_for() {
        for (name, plant) in PLANTS {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("rank-5.pid");
            plant(&path);
            let is_file_of_ours = name.starts_with("another") && !Uid::effective().is_root();
            assert!(read_own(&path, 64).is_err() || is_file_of_ours, "{name}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read_own(&path, 4).unwrap_err().to_string(), "it is too large");
    }

    #[test]
    fn a_reader_finds_the_old_file_or_the_new_one_and_never_a_part_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let content = |n: u8| vec![n; 100_000];
        atomic_write(&path, &content(0), Access::OWN).unwrap();
        let reader = {
            let path = path.clone();
            std::thread::spawn(move || {
                let mut last = 0;
                while last < 60 {
                    let read = fs::read(&path).unwrap();
                    last = read[0];
                    assert!(read.len() == 100_000 && read.iter().all(|byte| *byte == last));
                }
            })
        };
        for n in 1..=60 {
            atomic_write(&path, &content(n), Access::OWN).unwrap();
        }
        reader.join().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}
