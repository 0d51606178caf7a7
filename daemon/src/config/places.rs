//! Which folders a supervisor may take for its own: it runs as root, gives them an owner and a mode,
//! and keeps others out of them. Nothing here looks at the machine.

use std::path::{Component, Path, PathBuf};

use super::{Config, folder};

/// Longest path that every platform takes, in bytes (`PATH_MAX` is 1,024 with its zero on macOS).
const PATH_BYTES_MAX: usize = 1_023;

impl Config {
    /// What is wrong with the paths by themselves.
    pub(super) fn check_folders(&self, problems: &mut Vec<String>) {
        for (key, path, is_own) in self.paths() {
            let text = path.as_os_str().as_encoded_bytes();
            if text.iter().any(u8::is_ascii_control) {
                problems.push(format!("{key} has a control character in it; remove it"));
            } else if text.len() > PATH_BYTES_MAX {
                problems.push(format!(
                    "{key} is {} bytes long; the system takes {PATH_BYTES_MAX}",
                    text.len()
                ));
            } else if is_own && let Some(why) = folder::refusal(path) {
                problems.push(format!("{key} {why}"));
            }
        }
    }

    /// What is wrong with where the folders are, seen from the config file's own place.
    pub(super) fn check_places(&self, file: &Path, problems: &mut Vec<String>) {
        let run_dir = plain(&self.node.run_dir);
        let model = (!self.model.path.as_os_str().is_empty()).then_some(self.model.path.as_path());
        let fallback = self.fallback.is_set().then_some(self.fallback.path.as_path());
        for (what, path) in
            [("this config", Some(file)), ("model.path", model), ("fallback.path", fallback)]
        {
            if path.is_some_and(|path| plain(path).starts_with(&run_dir)) {
                problems.push(format!(
                    "node.run_dir is {}, which {what} is in; gateway and ranks may write there and it \
                     may be emptied, so it must be a folder of its own",
                    self.node.run_dir.display()
                ));
            }
        }
        if plain(file).parent() == Some(&plain(&self.node.state_dir)) {
            problems.push(format!(
                "node.state_dir is {}, the folder of this config; it must be a folder of its own",
                self.node.state_dir.display()
            ));
        }
    }

    /// Every path with its key, and whether the supervisor makes it its own. Folders that may be left
    /// out are only there if they are set.
    pub(super) fn paths(&self) -> Vec<(&'static str, &Path, bool)> {
        let mut paths = vec![
            ("node.run_dir", self.node.run_dir.as_path(), true),
            ("node.state_dir", self.node.state_dir.as_path(), true),
            ("model.path", self.model.path.as_path(), false),
            ("host.signatures", self.host.signatures.as_path(), false),
            ("fallback.path", self.fallback.path.as_path(), false),
        ];
        if !self.node.log_dir.as_os_str().is_empty() {
            paths.push(("node.log_dir", self.node.log_dir.as_path(), true));
        }
        paths.extend(
            self.host.report_dirs.iter().map(|path| ("host.report_dirs", path.as_path(), false)),
        );
        paths
    }
}

/// A path without `.`, `..` and double slashes.
fn plain(path: &Path) -> PathBuf {
    let mut found = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(found.pop()),
            Component::CurDir => {}
            part => found.push(part),
        }
    }
    found
}
