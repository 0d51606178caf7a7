//! What the package puts on a Mac: every path with its mode and contents, all of it root:wheel.

use std::{collections::BTreeMap, fs::File, io::Read, path::Path};

use anyhow::{Context, Result, bail, ensure};

use crate::{cross::Built, layout, sources::Sources};

/// Owner of everything, `root`: who can write the executable that launchd runs as root is root.
pub const UID: u32 = 0;
/// Group of everything, `wheel`.
pub const GID: u32 = 0;

/// Folders, and files that are run.
pub const MODE_RUN: u16 = 0o755;
/// Files that are read.
pub const MODE_READ: u16 = 0o644;

/// MLX's libraries, which must lie beside the executable under these names.
const LIBRARIES: [&str; 2] = ["libmlx.dylib", "libjaccl.dylib"];
/// MLX's GPU kernels, looked for beside `libmlx.dylib` under this name.
const METALLIB: &str = "mlx.metallib";

/// Most bytes of one file: the Bom and the cpio header count in 32 and 33 bits, and all is held in
/// memory. The largest is `mlx.metallib` with 0.2 GB.
const FILE_MAX_BYTES: u64 = 1 << 30;
/// Most entries: what one leaf of the Bom's tree holds (see `bom.rs`).
pub const ENTRIES_MAX: usize = 510;

/// What an [`Entry`] is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A regular file with these contents.
    File(Vec<u8>),
    /// A symbolic link to this path, relative to the link's folder.
    Link(String),
}

/// One path on the Mac.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Below the volume's root, without a leading slash; empty for the root itself.
    pub path: String,
    /// Permission bits. The type's bits follow from `kind`: see [`Entry::st_mode`].
    pub mode: u16,
    /// What it is.
    pub kind: Kind,
}

impl Entry {
    /// Permission and type bits as in `st_mode` (POSIX `sys/stat.h`).
    #[must_use]
    pub fn st_mode(&self) -> u16 {
        self.mode
            | match self.kind {
                Kind::Folder => 0o040_000,
                Kind::File(_) => 0o100_000,
                Kind::Link(_) => 0o120_000,
            }
    }

    /// The bytes that an archive stores: a file's contents, a link's target, nothing for a folder.
    #[must_use]
    pub fn stored(&self) -> &[u8] {
        match &self.kind {
            Kind::Folder => &[],
            Kind::File(contents) => contents,
            Kind::Link(target) => target.as_bytes(),
        }
    }

    /// The path as archives name it: `.` for the root, else with `./` before it.
    #[must_use]
    pub fn archive_name(&self) -> String {
        if self.path.is_empty() { ".".to_owned() } else { format!("./{}", self.path) }
    }
}

/// A tree of entries, checked and in order: each folder before what is in it, names by their bytes.
#[derive(Clone, Debug)]
pub struct Payload {
    entries: Vec<Entry>,
}

impl Payload {
    /// The tree of these files and links, absolute paths as an admin sees them, with the folders
    /// above them.
    ///
    /// # Errors
    /// When a name, a mode or a link is not one that belongs into a package: see the messages.
    pub fn new(leaves: impl IntoIterator<Item = Entry>) -> Result<Payload> {
        let mut tree: BTreeMap<Vec<String>, Entry> = BTreeMap::new();
        tree.insert(Vec::new(), folder(String::new()));
        for mut leaf in leaves {
            let names = checked_names(&leaf.path)?;
            ensure!(
                leaf.mode & !MODE_RUN == 0,
                "{}: mode {:o}: only root may write, and no bit beyond {MODE_RUN:o} is needed",
                leaf.path,
                leaf.mode
            );
            ensure!(leaf.kind != Kind::Folder, "{}: folders come with what is in them", leaf.path);
            for depth in 1..names.len() {
                let above: Vec<String> = names.iter().take(depth).cloned().collect();
                let path = above.join("/");
                tree.entry(above).or_insert_with(|| folder(path));
            }
            leaf.path = names.join("/");
            let path = leaf.path.clone();
            ensure!(tree.insert(names, leaf).is_none(), "/{path} is there twice");
        }
        ensure!(tree.len() <= ENTRIES_MAX, "{} entries; at most {ENTRIES_MAX}", tree.len());
        let payload = Payload { entries: tree.into_values().collect() };
        payload.check_tree()?;
        Ok(payload)
    }

    /// What Tandem's package holds, read from the disk once, so that all its parts agree.
    ///
    /// # Errors
    /// When a file can't be read, is too large or has a name that nothing would look for.
    pub fn of(built: &Built, sources: &Sources) -> Result<Payload> {
        let mut leaves = vec![
            file(layout::EXECUTABLE, MODE_RUN, contents(&built.executable)?),
            file(&beside(METALLIB), MODE_READ, contents(&built.metallib)?),
            file(layout::UNINSTALLER, MODE_RUN, sources.uninstall.clone()),
            link(layout::COMMAND, "../libexec/tandem/tandem"),
            file(layout::CONFIG_DEFAULT, MODE_READ, sources.config.clone()),
            file(&shared("LICENSE"), MODE_READ, sources.license.clone()),
            file(&shared("LICENSE-THIRD-PARTY"), MODE_READ, contents(&built.licenses)?),
            file(layout::JOB, MODE_READ, sources.job.clone()),
            file(layout::NEWSYSLOG, MODE_READ, sources.newsyslog.clone()),
        ];
        for name in LIBRARIES {
            let library = built.libraries.iter().find(|path| path.ends_with(name));
            let library = library.with_context(|| format!("{name} is not among the libraries"))?;
            leaves.push(file(&beside(name), MODE_RUN, contents(library)?));
        }
        ensure!(
            built.libraries.len() == LIBRARIES.len(),
            "the libraries must be {LIBRARIES:?}, not {:?}",
            built.libraries
        );
        Payload::new(leaves)
    }

    /// Every entry, the root first.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Bytes of all files.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        let size = |entry: &Entry| match &entry.kind {
            Kind::File(contents) => contents.len() as u64,
            Kind::Folder | Kind::Link(_) => 0,
        };
        self.entries.iter().map(size).sum()
    }

    fn check_tree(&self) -> Result<()> {
        let mut folded = BTreeMap::new();
        for entry in &self.entries {
            // APFS as Macs have it keeps the case of names and ignores it when it looks for one.
            if let Some(other) = folded.insert(entry.path.to_ascii_lowercase(), &entry.path) {
                bail!("/{other} and /{} are one path on a Mac", entry.path);
            }
        }
        for pair in self.entries.windows(2) {
            let [above, below] = pair else { continue };
            let inside = below.path.starts_with(&format!("{}/", above.path));
            ensure!(
                above.kind == Kind::Folder || !inside,
                "/{} is no folder, but /{} would lie in it",
                above.path,
                below.path
            );
        }
        for entry in &self.entries {
            if let Kind::Link(target) = &entry.kind {
                self.check_link(&entry.path, target)?;
            }
        }
        Ok(())
    }

    /// A link must lead to a file of this payload: not out of it, not to another link.
    fn check_link(&self, path: &str, target: &str) -> Result<()> {
        let mut names: Vec<&str> = path.split('/').collect();
        names.pop();
        for name in target.split('/') {
            if name == ".." {
                ensure!(names.pop().is_some(), "/{path} leads above the root: {target}");
            } else {
                names.push(name);
            }
        }
        let led = names.join("/");
        let found = self.entries.iter().find(|entry| entry.path == led);
        let file = found.is_some_and(|entry| matches!(entry.kind, Kind::File(_)));
        ensure!(file, "/{path} leads to {target}, which is no file of the package");
        Ok(())
    }
}

/// A file at an absolute path.
#[must_use]
pub fn file(path: &str, mode: u16, contents: Vec<u8>) -> Entry {
    Entry { path: path.to_owned(), mode, kind: Kind::File(contents) }
}

/// A symbolic link at an absolute path. macOS gives links a mode of their own; 0755 is what `ln -s`
/// of root leaves.
#[must_use]
pub fn link(path: &str, target: &str) -> Entry {
    Entry { path: path.to_owned(), mode: MODE_RUN, kind: Kind::Link(target.to_owned()) }
}

fn folder(path: String) -> Entry {
    Entry { path, mode: MODE_RUN, kind: Kind::Folder }
}

fn beside(name: &str) -> String {
    format!("{}/{name}", layout::LIBEXEC)
}

/// A path in the folder of [`layout::CONFIG_DEFAULT`].
fn shared(name: &str) -> String {
    let folder = layout::CONFIG_DEFAULT.rsplit_once('/').map_or("", |(folder, _)| folder);
    format!("{folder}/{name}")
}

/// The names of an absolute path below the volume's root.
///
/// `/etc`, `/var` and `/tmp` are links to folders in `/private` on every Mac; a package that has a
/// folder of such a name would replace the link by it.
fn checked_names(path: &str) -> Result<Vec<String>> {
    let below = path.strip_prefix('/').with_context(|| format!("{path:?} is not absolute"))?;
    let mut names: Vec<String> = below.split('/').map(str::to_owned).collect();
    for name in &names {
        // No more than our own names need: none of these characters means anything to a shell, to
        // an archive (cpio ends with a file TRAILER!!!) or to XML.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        ensure!(name.chars().all(plain), "{path:?}: only letters, digits and ._- in a name");
        ensure!(!matches!(name.as_str(), "" | "." | ".."), "{path:?} has a name that is no name");
        ensure!(name.len() <= 255, "{path:?}: a name has at most 255 bytes");
    }
    if matches!(names.first().map(String::as_str), Some("etc" | "var" | "tmp")) {
        names.insert(0, "private".to_owned());
    }
    Ok(names)
}

fn contents(path: &Path) -> Result<Vec<u8>> {
    read(path, FILE_MAX_BYTES)
}

/// The contents of a regular file of at most so many bytes.
pub(crate) fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("{shown} can't be opened"))?;
    let metadata = file.metadata().with_context(|| format!("{shown} can't be looked at"))?;
    ensure!(metadata.is_file(), "{shown} is no regular file");
    let mut contents = Vec::new();
    file.take(max_bytes + 1)
        .read_to_end(&mut contents)
        .with_context(|| format!("{shown} can't be read"))?;
    ensure!(contents.len() as u64 <= max_bytes, "{shown} has more than {max_bytes} bytes");
    ensure!(!contents.is_empty(), "{shown} is empty");
    Ok(contents)
}

#[cfg(test)]
mod tests;
