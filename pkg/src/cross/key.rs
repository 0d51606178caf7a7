//! Tells whether what was made is still up to date: a hash over everything that it was made from.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use sha2::{Digest, Sha256};

use super::Options;
use super::command::Invocation;

/// Changes when the command, a source, MLX or the compiler does.
pub(super) fn key(
    options: &Options,
    invocation: &Invocation,
    inputs: &[PathBuf],
) -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    for arg in &invocation.argv {
        hash.update(arg.as_encoded_bytes());
        hash.update([0]);
    }
    hash_files(&mut hash, inputs)?;
    // install.sh writes what it unpacked, by hash.
    let pins = options.tools.join("cross/pins");
    hash.update(fs::read(&pins).with_context(|| {
        let pins = pins.display();
        format!("reading {pins}: ./install.sh package writes it")
    })?);
    Ok(hex(hash))
}

/// Changes when a stub or `made_from` does: what the linker reads, but cargo does not know of.
pub(super) fn link_key(options: &Options, made_from: &str) -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    hash.update(made_from);
    let mut folders = vec![options.stubs()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder);
        let entries = entries.with_context(|| format!("reading {}", folder.display()))?;
        let mut paths = entries.map(|it| Ok(it?.path())).collect::<std::io::Result<Vec<_>>>()?;
        paths.sort();
        let (below, files) = paths.into_iter().partition::<Vec<_>, _>(|it| it.is_dir());
        folders.extend(below);
        hash_files(&mut hash, &files)?;
    }
    Ok(hex(hash))
}

fn hash_files(hash: &mut Sha256, paths: &[PathBuf]) -> anyhow::Result<()> {
    for path in paths {
        let content = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        hash.update(Sha256::digest(content));
    }
    Ok(())
}

fn hex(hash: Sha256) -> String {
    let bytes = hash.finalize();
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

fn key_file(made: &Path) -> PathBuf {
    made.with_extension("key")
}

pub(super) fn is_made(made: &Path, key: &str) -> bool {
    made.exists() && fs::read_to_string(key_file(made)).is_ok_and(|it| it == key)
}

pub(super) fn forget(made: &Path) -> anyhow::Result<()> {
    match fs::remove_file(key_file(made)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("replacing {}", made.display()))
        }
        _ => Ok(()),
    }
}

pub(super) fn remember(made: &Path, key: &str) -> anyhow::Result<()> {
    let file = key_file(made);
    fs::write(&file, key).with_context(|| format!("writing {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cross::{MIN_OS, Sign};

    fn options(folder: &Path) -> Options {
        let tools = folder.join("tools");
        fs::create_dir_all(tools.join("cross")).unwrap();
        fs::write(tools.join("cross/pins"), "zig 1").unwrap();
        Options {
            root: folder.to_owned(),
            tools,
            out: folder.join("out"),
            min_os: MIN_OS,
            sign: Sign::AdHoc,
        }
    }

    #[test]
    fn what_was_made_is_made_again_when_a_source_the_command_or_a_pin_changes() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path());
        let (source, made) = (folder.path().join("a.cpp"), folder.path().join("lib.a"));
        let command = Invocation::new(["c++", "-O2"]);
        let now =
            |command: &Invocation| key(&options, command, std::slice::from_ref(&source)).unwrap();
        fs::write(&source, "int a;").unwrap();
        fs::write(&made, "").unwrap();

        let first = now(&command);
        assert!(!is_made(&made, &first), "nothing was remembered yet");
        remember(&made, &first).unwrap();
        assert!(is_made(&made, &now(&command)));
        assert!(!is_made(&made, &now(&command.clone().arg("-g"))));
        fs::write(&source, "int b;").unwrap();
        assert!(!is_made(&made, &now(&command)));
        fs::write(&source, "int a;").unwrap();
        fs::write(options.tools.join("cross/pins"), "zig 2").unwrap();
        assert!(!is_made(&made, &now(&command)));
        fs::write(options.tools.join("cross/pins"), "zig 1").unwrap();
        fs::remove_file(&made).unwrap();
        assert!(!is_made(&made, &first), "the library itself is gone");
    }

    #[test]
    fn a_changed_stub_or_library_links_again() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path());
        let stub = options.stubs().join("lib/libA.tbd");
        fs::create_dir_all(stub.parent().unwrap()).unwrap();
        fs::write(&stub, "_a").unwrap();
        let first = link_key(&options, "library 1").unwrap();
        assert_eq!(link_key(&options, "library 1").unwrap(), first);
        assert_ne!(link_key(&options, "library 2").unwrap(), first);
        fs::write(&stub, "_a, _b").unwrap();
        assert_ne!(link_key(&options, "library 1").unwrap(), first);
    }
}
