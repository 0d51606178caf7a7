//! Folders that the config may name for the supervisor's own files. By their names alone: what is in them is looked at
//! where they are taken.

use std::path::{Component, Path, PathBuf};

/// Folders of Linux and macOS that are shared by the whole system, users' homes among them.
const SHARED: [&str; 53] = [
    "/",
    "/Applications",
    "/Library",
    "/Network",
    "/System",
    "/Users",
    "/Volumes",
    "/bin",
    "/boot",
    "/cores",
    "/dev",
    "/etc",
    "/home",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/lost+found",
    "/media",
    "/mnt",
    "/opt",
    "/opt/homebrew",
    "/private",
    "/private/tmp",
    "/private/var",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/local",
    "/usr/local/bin",
    "/usr/local/etc",
    "/usr/local/lib",
    "/usr/local/libexec",
    "/usr/local/sbin",
    "/usr/local/share",
    "/usr/local/var",
    "/var",
    "/var/cache",
    "/var/db",
    "/var/empty",
    "/var/lib",
    "/var/lock",
    "/var/log",
    "/var/mail",
    "/var/root",
    "/var/run",
    "/var/spool",
    "/var/tmp",
];

/// Folders below which all is the system's.
const SYSTEMS: [&str; 17] = [
    "/System",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/sbin",
    "/sys",
    "/usr/bin",
    "/usr/lib",
    "/usr/sbin",
    "/usr/share",
    "/usr/libexec",
];

/// Why a folder can't be the supervisor's own, as the end of a sentence that begins with the key; `None` if its name
/// says nothing against it. Relative paths are not known yet, so nothing is said of where they lead.
pub(crate) fn refusal(path: &Path) -> Option<String> {
    if path.as_os_str().is_empty() {
        return Some("is empty; name a folder that only Tandem uses".into());
    }
    if path.components().any(|part| part == Component::ParentDir) {
        let shown = path.display();
        return Some(format!("is \"{shown}\"; write the folder's whole path, without \"..\""));
    }
    // A Mac's /etc, /tmp and /var are links into this folder. Its names have no case.
    let whole: PathBuf = path.components().collect();
    let plain = whole
        .strip_prefix("/private")
        .map_or_else(|_| whole.clone(), |rest| Path::new("/").join(rest));
    let is_one = |folder: &Path, names: &[&str]| {
        names.iter().any(|name| folder.as_os_str().eq_ignore_ascii_case(name))
    };
    let is_shared = is_one(&whole, &SHARED) || is_one(&plain, &SHARED);
    let is_systems = plain.ancestors().any(|folder| is_one(folder, &SYSTEMS));
    let is_home = plain.parent().is_some_and(|parent| is_one(parent, &["/home", "/Users"]));
    (is_shared || is_systems || is_home).then(|| {
        let shown = path.display();
        format!("is \"{shown}\", which is not Tandem's alone; name a folder of its own, such as /var/run/tandem")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_the_system_and_of_users_are_refused_by_name() {
        for path in [
            "",
            "/",
            "//",
            "/.",
            "/etc",
            "/etc/",
            "/etc/tandem",
            "/ETC",
            "/private/etc",
            "/private/var/run",
            "/var",
            "/var/run",
            "/var/run/",
            "/tmp",
            "/private/tmp",
            "/home/me",
            "/Users/me/",
            "/usr/local",
            "/usr/bin/x",
            "/dev",
            "/dev/null",
            "/proc/self",
            "/sys/x/y",
            "/System/Volumes/Data",
            "/root",
            "..",
            "../..",
            "/a/../etc",
            "/srv/tandem/../../etc",
            "run/..",
        ] {
            assert!(refusal(Path::new(path)).is_some(), "{path}");
        }
    }

    #[test]
    fn folders_that_can_be_ones_own_are_taken() {
        for path in [
            "/var/run/tandem",
            "/usr/local/var/tandem/state",
            "/run/tandem",
            "/state/tandem",
            "/tandem",
            "/tmp/x/run",
            "/home/me/run",
            "/Users/me/tandem/run",
            "run",
            "./run",
            "/private/var/run/tandem",
            "/Library/Tandem",
            "/etcetera",
            "/opt/tandem",
            "/root/tandem",
        ] {
            assert_eq!(refusal(Path::new(path)), None, "{path}");
        }
    }
}
