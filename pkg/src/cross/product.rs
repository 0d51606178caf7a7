//! Lays the product's files into one folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::{Built, Options};

/// MLX's libraries: what `libmlx.dylib` loads lies beside it.
const LIBRARIES: [&str; 2] = ["libjaccl.dylib", "libmlx.dylib"];

/// Copies `executable`, and from MLX's wheel what it needs, into the folder `product`.
///
/// # Errors
/// A file can't be read or written.
pub(super) fn assemble(
    options: &Options,
    executable: &Path,
    licenses: PathBuf,
) -> anyhow::Result<Built> {
    let folder = options.out.join("product");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let lib = options.mlx().join("lib");
    let mut libraries = Vec::new();
    for name in LIBRARIES {
        libraries.push(copy(&lib.join(name), &folder.join(name))?);
    }
    Ok(Built {
        executable: copy(executable, &folder.join("tandem"))?,
        libraries,
        metallib: link(&lib.join("mlx.metallib"), &folder.join("mlx.metallib"))?,
        licenses,
    })
}

/// A copy of its own, which a signature may change.
fn copy(from: &Path, to: &Path) -> anyhow::Result<PathBuf> {
    remove(to)?;
    fs::copy(from, to)
        .with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
    Ok(to.to_owned())
}

/// The same file under a second name where the file system has that: 180 MB that nothing changes.
fn link(from: &Path, to: &Path) -> anyhow::Result<PathBuf> {
    remove(to)?;
    if fs::hard_link(from, to).is_ok() {
        return Ok(to.to_owned());
    }
    copy(from, to)
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("replacing {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cross::{MIN_OS, Sign};

    #[test]
    fn what_lies_there_is_replaced_and_the_wheels_own_libraries_stay_untouched() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            root: folder.path().to_owned(),
            tools: folder.path().join("tools"),
            out: folder.path().join("out"),
            min_os: MIN_OS,
            sign: Sign::AdHoc,
        };
        let lib = options.mlx().join("lib");
        fs::create_dir_all(&lib).unwrap();
        for name in ["libmlx.dylib", "libjaccl.dylib", "mlx.metallib"] {
            fs::write(lib.join(name), format!("wheel's {name}")).unwrap();
        }
        let executable = folder.path().join("linked");
        for content in ["first", "second"] {
            fs::write(&executable, content).unwrap();
            let built = assemble(&options, &executable, "licenses.txt".into()).unwrap();
            assert_eq!(fs::read_to_string(&built.executable).unwrap(), content);
            assert_eq!(fs::read_to_string(&built.metallib).unwrap(), "wheel's mlx.metallib");
            for library in &built.libraries {
                assert_eq!(library.parent(), built.executable.parent());
                fs::write(library, "signed").unwrap();
            }
        }
        assert_eq!(fs::read_to_string(lib.join("libmlx.dylib")).unwrap(), "wheel's libmlx.dylib");
    }
}
