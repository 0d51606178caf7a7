//! Whether a folder may be the run directory: root gives what is in it new owners and modes, so it has to be a folder
//! that is this program's alone, on a way that nobody else can turn elsewhere.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

use nix::unistd::Uid;

/// Made in every run directory, so that it is known again.
pub(super) const MARK: &str = ".tandem-run-dir";

/// What versions without a mark have in it instead.
const LOCK: &str = super::lock::LOCK;

/// Most links on the way to a folder; the system's own limit is 32 or 40.
const LINKS_MAX: u32 = 16;

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing: it can be made.
    Nothing,
    /// An empty folder of this process's user.
    Empty,
    /// A run directory.
    Ours,
}

/// Looks at a path and changes nothing.
///
/// # Errors
/// Why it can't be a run directory, as the end of a sentence that begins with its name.
pub(super) fn look(path: &Path) -> Result<Found, String> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(format!("can't be looked at: {error}")),
    };
    if found.is_symlink() {
        return Err("is a link, which could lead anywhere; name the folder itself".into());
    }
    if !found.is_dir() {
        return Err("is no folder; name one that only Tandem uses".into());
    }
    let own = Uid::effective().as_raw();
    if found.uid() != own {
        return Err(format!(
            "belongs to user {}, not to user {own} as who Tandem runs; remove it or name another folder",
            found.uid()
        ));
    }
    let unread = |error: io::Error| format!("can't be read: {error}");
    if is_marked(path, &found) {
        return Ok(Found::Ours);
    }
    match fs::read_dir(path).map_err(unread)?.next() {
        None => Ok(Found::Empty),
        Some(_) => Err("has files in it that are not Tandem's, and it would be closed to others; \
                        name a folder of its own, or one that is not there yet"
            .into()),
    }
}

fn is_marked(path: &Path, folder: &Metadata) -> bool {
    let has_own = |name: &str| {
        let own = Uid::effective().as_raw();
        fs::symlink_metadata(path.join(name)).is_ok_and(|f| f.is_file() && f.uid() == own)
    };
    // Such as earlier versions left it, and nobody else makes it.
    let is_earlier = matches!(folder.mode() & 0o7777, 0o750 | 0o1770) && has_own(LOCK);
    has_own(MARK) || is_earlier
}

/// Whether nobody but this process's user and root can change what this path leads to; what is not there yet is
/// theirs to make.
///
/// # Errors
/// Which folder or link on the way somebody else can change.
pub(super) fn is_safe_way(path: &Path) -> Result<(), String> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    walk(parent, &mut 0).map(drop)
}

/// Goes a way step by step; returns where it ends, without links.
fn walk(path: &Path, links: &mut u32) -> Result<PathBuf, String> {
    let mut at = PathBuf::from("/");
    for step in path.components() {
        match step {
            Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
            // Of a link's target; `at` has no links, so this is the folder above.
            Component::ParentDir => {
                at.pop();
                continue;
            }
            Component::Normal(name) => at.push(name),
        }
        let found = match fs::symlink_metadata(&at) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(format!("can't be looked at: {}: {error}", at.display())),
        };
        let is_trusted = found.uid() == 0 || found.uid() == Uid::effective().as_raw();
        if !is_trusted || (found.is_dir() && is_open(&found)) {
            return Err(format!(
                "is below {}, which other users can change; name a folder that only root can",
                at.display()
            ));
        }
        if found.is_symlink() {
            *links += 1;
            if *links > LINKS_MAX {
                return Err(format!("is behind too many links: {}", at.display()));
            }
            let target = fs::read_link(&at)
                .map_err(|error| format!("can't be looked at: {}: {error}", at.display()))?;
            at.pop();
            at = walk(&at.join(target), links)?;
        }
    }
    Ok(at)
}

/// Whether others may replace what is in a folder. Where it is sticky they may not, and the groups of the system
/// itself (0 and 1: a Mac's /var/run is writable for `daemon`) are nobody else.
fn is_open(folder: &Metadata) -> bool {
    let mode = folder.mode();
    let is_sticky = mode & 0o1000 != 0;
    let by_group = mode & 0o020 != 0 && folder.gid() > 1;
    !is_sticky && (by_group || mode & 0o002 != 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn only_what_is_new_empty_or_marked_is_a_run_directory() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["empty", "full", "marked", "earlier", "open", "planted"] {
            fs::create_dir(path(name)).unwrap();
            mode(&path(name), 0o755);
        }
        fs::write(path("full/file"), "").unwrap();
        fs::write(path("file"), "").unwrap();
        symlink(path("marked"), path("link")).unwrap();
        symlink(path("nothing"), path("loose")).unwrap();
        fs::write(path("marked").join(MARK), "").unwrap();
        // The lock alone could be that of another service.
        fs::write(path("open").join(LOCK), "1\n").unwrap();
        fs::write(path("earlier").join(LOCK), "1\n").unwrap();
        mode(&path("earlier"), 0o1770);
        fs::create_dir(path("planted").join(MARK)).unwrap();
        assert_eq!(look(&path("new")), Ok(Found::Nothing));
        assert_eq!(look(&path("empty")), Ok(Found::Empty));
        assert_eq!(look(&path("marked")), Ok(Found::Ours));
        assert_eq!(look(&path("earlier")), Ok(Found::Ours));
        for name in ["full", "file", "link", "loose", "open", "planted"] {
            look(&path(name)).expect_err(name);
        }
        for path in ["/", "/etc", "/tmp", "/dev/null"] {
            look(Path::new(path)).expect_err(path);
        }
    }

    #[test]
    fn a_way_is_safe_where_nobody_else_can_turn_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, bits) in [("own", 0o755), ("sticky", 0o1777), ("open", 0o777)] {
            fs::create_dir(path(name)).unwrap();
            mode(&path(name), bits);
        }
        symlink(path("own"), path("to-own")).unwrap();
        symlink(path("open"), path("to-open")).unwrap();
        symlink("own/../open", path("around")).unwrap();
        symlink(path("turn"), path("turn")).unwrap();
        for way in ["own/run", "own/a/b/run", "sticky/run", "to-own/run", "run"] {
            assert_eq!(is_safe_way(&path(way)), Ok(()), "{way}");
        }
        for way in ["open/run", "open/a/run", "to-open/run", "around/run", "turn/run"] {
            let why = is_safe_way(&path(way)).unwrap_err();
            assert!(why.contains("other users") || why.contains("links"), "{way}: {why}");
        }
        if Uid::effective().is_root() {
            // Whoever owns a link can turn it, and whoever owns a folder what is in it.
            let theirs = Some(Uid::from_raw(65_534));
            symlink(path("own"), path("theirs")).unwrap();
            nix::unistd::fchownat(
                nix::fcntl::AT_FDCWD,
                &path("theirs"),
                theirs,
                None,
                nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
            )
            .unwrap();
            is_safe_way(&path("theirs/run")).unwrap_err();
            nix::unistd::chown(&path("own"), theirs, None).unwrap();
            is_safe_way(&path("own/run")).unwrap_err();
        }
    }
}
