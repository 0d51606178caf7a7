//! Whether a file is root's alone: what root's launchd starts must not be another's to change.
//!
//! Whoever may write to a folder may put another file in the place of one in it, so every folder down
//! to the file counts. Access control lists are not looked at: only the owner can have set one.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

use nix::unistd::Uid;

/// Write permission of group and others.
const OTHERS_WRITE: u32 = 0o022;

/// What a path is, itself: a link is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Facts {
    kind: Kind,
    owner: u32,
    mode: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
    Link,
    Other,
}

/// Why a path is not trusted.
#[derive(Debug, thiserror::Error)]
pub(super) enum Distrust {
    #[error("{} must be an absolute path without \"..\"", .0.display())]
    Relative(PathBuf),
    #[error("can't look at {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is missing; install the package again", .0.display())]
    Missing(PathBuf),
    #[error("{} is {found}, not {wanted}; put it right and install the package again", path.display())]
    Kind { path: PathBuf, found: &'static str, wanted: &'static str },
    #[error(
        "{} belongs to user {owner}, who could change what root starts: sudo chown root {}",
        path.display(), path.display()
    )]
    Owner { path: PathBuf, owner: u32 },
    #[error(
        "{} can be changed by others than its owner (mode {mode:04o}), and so can what root starts: \
         sudo chmod go-w {}",
        path.display(), path.display()
    )]
    Mode { path: PathBuf, mode: u32 },
}

/// Refuses a path if anybody but root, or the user that runs this, could change the file there.
pub(super) fn check(path: &Path) -> Result<(), Distrust> {
    check_as(path, Uid::effective().as_raw(), &look)
}

fn check_as(
    path: &Path,
    own: u32,
    look: &dyn Fn(&Path) -> io::Result<Facts>,
) -> Result<(), Distrust> {
    let is_plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
    if !path.is_absolute() || !path.components().all(is_plain) {
        return Err(Distrust::Relative(path.into()));
    }
    let mut parts: Vec<&Path> = path.ancestors().collect();
    // From the root down: nothing is judged through a folder that is not trusted.
    parts.reverse();
    for part in parts {
        let wanted = if part == path { Kind::File } else { Kind::Folder };
        let facts = look(part).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Distrust::Missing(part.into()),
            _ => Distrust::Io { path: part.into(), source },
        })?;
        let path = part.to_path_buf();
        if facts.kind != wanted {
            return Err(Distrust::Kind { path, found: facts.kind.word(), wanted: wanted.word() });
        }
        if facts.owner != 0 && facts.owner != own {
            return Err(Distrust::Owner { path, owner: facts.owner });
        }
        if facts.mode & OTHERS_WRITE != 0 {
            return Err(Distrust::Mode { path, mode: facts.mode });
        }
    }
    Ok(())
}

fn look(path: &Path) -> io::Result<Facts> {
    let found = fs::symlink_metadata(path)?;
    let kind = found.file_type();
    let kind = match () {
        () if kind.is_file() => Kind::File,
        () if kind.is_dir() => Kind::Folder,
        () if kind.is_symlink() => Kind::Link,
        () => Kind::Other,
    };
    Ok(Facts { kind, owner: found.uid(), mode: found.mode() & 0o7777 })
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::File => "a file",
            Self::Folder => "a folder",
            Self::Link => "a symbolic link",
            Self::Other => "neither file nor folder",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Facts = Facts { kind: Kind::Folder, owner: 0, mode: 0o755 };
    const FILE: Facts = Facts { kind: Kind::File, owner: 0, mode: 0o644 };

    fn judged(folder: Facts, file: Facts) -> Result<(), Distrust> {
        check_as(Path::new("/a/b/c"), 0, &|path: &Path| match path.to_str() {
            Some("/" | "/a") => Ok(ROOT),
            Some("/a/b") => Ok(folder),
            Some("/a/b/c") => Ok(file),
            _ => Err(io::Error::other("nobody asks for this")),
        })
    }

    #[test]
    fn only_what_root_alone_can_change_is_trusted() {
        judged(ROOT, FILE).unwrap();
        for (folder, file, part) in [
            (Facts { owner: 501, ..ROOT }, FILE, "/a/b belongs to user 501"),
            (Facts { mode: 0o775, ..ROOT }, FILE, "/a/b can be changed"),
            (Facts { mode: 0o1777, ..ROOT }, FILE, "mode 1777"),
            (Facts { kind: Kind::Link, ..ROOT }, FILE, "/a/b is a symbolic link"),
            (FILE, FILE, "/a/b is a file, not a folder"),
            (ROOT, Facts { owner: 501, ..FILE }, "/a/b/c belongs to user 501"),
            (ROOT, Facts { mode: 0o664, ..FILE }, "/a/b/c can be changed"),
            (ROOT, Facts { kind: Kind::Link, ..FILE }, "/a/b/c is a symbolic link"),
            (ROOT, ROOT, "/a/b/c is a folder, not a file"),
            (ROOT, Facts { kind: Kind::Other, ..FILE }, "neither file nor folder"),
        ] {
            let why = judged(folder, file).unwrap_err().to_string();
            assert!(why.contains(part), "{why}");
        }
    }

    #[test]
    fn a_path_that_could_lead_elsewhere_is_refused() {
        for path in ["a/b", "/a/../b", "", "./a"] {
            let why = check_as(Path::new(path), 0, &|_| Ok(FILE)).unwrap_err();
            assert!(matches!(why, Distrust::Relative(_)), "{path}: {why}");
        }
    }

    #[test]
    fn a_link_on_the_disk_is_seen_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(look(&file).unwrap().kind, Kind::File);
        assert_eq!(look(&link).unwrap().kind, Kind::Link);
        assert_eq!(look(folder.path()).unwrap().kind, Kind::Folder);
        assert_eq!(look(Path::new("/dev/null")).unwrap().kind, Kind::Other);
        assert_eq!(look(&file).unwrap().owner, Uid::effective().as_raw());
    }
}
