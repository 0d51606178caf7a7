//! Free disk space.

use std::path::{Path, PathBuf};

use nix::{errno::Errno, sys::statvfs::statvfs};
use tandem_policy::invariant::{Found, Unknown};

/// The least free space of the file systems that these folders are, or will be, on, in bytes, and
/// where that is.
pub(crate) fn least_free(folders: &[PathBuf]) -> Result<(Found, String), Unknown> {
    let mut least: Option<(u64, &Path)> = None;
    for folder in folders {
        let (bytes, at) = free_bytes(folder)?;
        if least.is_none_or(|(fewest, _)| bytes < fewest) {
            least = Some((bytes, at));
        }
    }
    let (bytes, at) = least.ok_or_else(|| Unknown::Failed("no folder was named".into()))?;
    Ok((Found::Count(bytes), format!("statvfs {}", at.display())))
}

/// What a process without privileges may still write there. A folder that is yet to be made will
/// be made on the file system of its nearest parent that there is.
fn free_bytes(folder: &Path) -> Result<(u64, &Path), Unknown> {
    for at in folder.ancestors() {
        let at = if at.as_os_str().is_empty() { Path::new(".") } else { at };
        match statvfs(at) {
            Ok(disk) => {
                // Both are 64 bits wide on Linux, and narrower on a Mac.
                #[allow(clippy::useless_conversion)]
                let (blocks, block_bytes) =
                    (u64::from(disk.blocks_available()), u64::from(disk.fragment_size()));
                return Ok((blocks.saturating_mul(block_bytes), at));
            }
            Err(Errno::ENOENT) => {}
            Err(error) => {
                return Err(Unknown::Failed(format!("statvfs {}: {error}", at.display())));
            }
        }
    }
    Err(Unknown::Failed(format!("no parent of {} exists", folder.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_yet_to_be_made_has_the_space_of_its_nearest_parent() {
        let folder = tempfile::tempdir().unwrap();
        let (found, source) = least_free(&[folder.path().join("models/not/yet")]).unwrap();
        assert!(matches!(found, Found::Count(bytes) if bytes > 0), "{found:?}");
        assert_eq!(source, format!("statvfs {}", folder.path().display()));
        assert_eq!(least_free(&["nowhere".into()]).unwrap().1, "statvfs .");
    }

    #[test]
    fn what_can_not_be_read_is_unknown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(least_free(&[]), Err(Unknown::Failed(_))));
        assert!(matches!(least_free(&[file.path().join("below a file")]), Err(Unknown::Failed(_))));
    }

    // Its file system is without room whatever the disk holds.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_fullest_disk_counts() {
        let (found, source) = least_free(&["/".into(), "/proc".into(), "/tmp".into()]).unwrap();
        assert_eq!((found, source.as_str()), (Found::Count(0), "statvfs /proc"));
    }
}
