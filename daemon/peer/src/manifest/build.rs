//! Reads a model's files.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::num::NonZero;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::libc::O_NONBLOCK;

use super::{Cache, Listing, Manifest, ManifestError, Stamp, list};

/// Most files that are read at once. A core hashes 1.5 GB/s and more, so four keep up with the
/// fastest disks; and half the cores, at most, leave the others to whoever serves meanwhile.
const READERS_MAX: usize = 4;

/// Bytes read at once: large enough that system calls cost nothing.
const BUFFER_BYTES: usize = 1 << 20;

/// How long a file must have been left alone before it is read. Two changes within one tick of the
/// file system's clock have the same stamp, and the coarsest clocks (exFAT's) tick every 2 s.
const SETTLE: Duration = Duration::from_secs(2);

/// What reading a folder gave.
#[derive(Debug)]
pub struct Built {
    /// All files.
    pub manifest: Manifest,
    /// Bytes that were read: none of files that the cache knew.
    pub bytes_read: u64,
}

/// Reads what the cache does not know of a model's folder. Whatever was learned is in the cache
/// afterwards, also after an error; `progress` is shown it after each file that was read.
///
/// # Errors
/// Those of [`list`], and [`ManifestError::Changed`] for a folder or file that was changed meanwhile.
pub fn build(
    dir: &Path,
    cache: &mut Cache,
    progress: impl FnMut(&Cache),
) -> Result<Built, ManifestError> {
    build_settled(dir, SETTLE, cache, progress)
}

/// [`build`], of files that were last changed at least `settle` ago; waits until they were.
pub(super) fn build_settled(
    dir: &Path,
    settle: Duration,
    cache: &mut Cache,
    mut progress: impl FnMut(&Cache),
) -> Result<Built, ManifestError> {
    let listing = list(dir)?;
    cache.keep_only(&listing);
    let is_new = |(path, stamp): &(&String, &Stamp)| cache.get(path, stamp).is_none();
    let new: Vec<(String, Stamp)> =
        listing.0.iter().filter(is_new).map(|(path, stamp)| (path.clone(), *stamp)).collect();
    thread::sleep(unsettled(&new, settle, now_ns()));
    let mut bytes_read = 0;
    let mut failure = None;
    read_all(dir, new, |path, stamp, outcome| match outcome {
        Ok(blake3) => {
            bytes_read += stamp.size_bytes;
            cache.insert(path, stamp, blake3);
            progress(cache);
        }
        Err(error) => failure = failure.take().or(Some(error)),
    });
    if let Some(error) = failure {
        return Err(error);
    }
    // Also a file that came, went or was replaced after it was read.
    let again: Listing = list(dir)?;
    match cache.manifest(&again) {
        Some(manifest) if again == listing => Ok(Built { manifest, bytes_read }),
        _ => Err(ManifestError::Changed(dir.display().to_string())),
    }
}

/// How long to wait until the last change of each file is `settle` ago. A change in the future is
/// one from before the clock was set back: waiting for it would have no bound.
fn unsettled(files: &[(String, Stamp)], settle: Duration, now_ns: i64) -> Duration {
    let age = |stamp: &Stamp| u64::try_from(now_ns.saturating_sub(stamp.ctime_ns)).ok();
    let youngest = files.iter().filter_map(|(_, stamp)| age(stamp)).min();
    youngest.map_or(Duration::ZERO, |age_ns| settle.saturating_sub(Duration::from_nanos(age_ns)))
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Hashes files on a few threads, the largest first, so that none is left to one thread at the end.
/// After the first failure no other file is begun.
fn read_all(
    dir: &Path,
    mut files: Vec<(String, Stamp)>,
    mut found: impl FnMut(String, Stamp, Result<String, ManifestError>),
) {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let readers = cores.div_ceil(2).min(READERS_MAX).min(files.len());
    files.sort_by_key(|(_, stamp)| stamp.size_bytes);
    let queue = Mutex::new(files);
    let take = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let stop = || queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
    let (sender, results) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..readers {
            let sender = sender.clone();
            scope.spawn(move || {
                while let Some((path, stamp)) = take() {
                    let outcome = read_file(dir, &path, &stamp);
                    if outcome.is_err() {
                        stop();
                    }
                    if sender.send((path, stamp, outcome)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (path, stamp, outcome) in results {
            found(path, stamp, outcome);
        }
    });
}

/// BLAKE3 of the file that was listed, in hex, if it is that file from beginning to end.
fn read_file(dir: &Path, name: &str, listed: &Stamp) -> Result<String, ManifestError> {
    let path = dir.join(name);
    // Without waiting: a pipe may have taken the file's place since it was listed.
    let opened = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(&path);
    let mut file = opened.map_err(ManifestError::io(&path))?;
    let is_listed = |file: &File| {
        let metadata = file.metadata().map_err(ManifestError::io(&path))?;
        let same = metadata.is_file() && Stamp::of(&metadata) == *listed;
        if same { Ok(()) } else { Err(ManifestError::Changed(path.display().to_string())) }
    };
    is_listed(&file)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut left = listed.size_bytes;
    while left > 0 {
        let count = file.read(&mut buffer).map_err(ManifestError::io(&path))?;
        if count == 0 {
            break;
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
        left = left.saturating_sub(count as u64);
    }
    is_listed(&file)?;
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_just_changed_is_waited_for_and_one_from_the_future_is_not() {
        let settle = Duration::from_secs(2);
        let at = |seconds: i64| {
            let ctime_ns = seconds * 1_000_000_000;
            ("a".to_owned(), Stamp { size_bytes: 0, mtime_ns: 0, ctime_ns, inode: 0 })
        };
        let now_ns = 100_000_000_000;
        for (files, seconds) in [
            (vec![], 0),
            (vec![at(98)], 0),
            (vec![at(100)], 2),
            (vec![at(50), at(99), at(98)], 1),
            (vec![at(500)], 0),
            (vec![at(500), at(99)], 1),
        ] {
            assert_eq!(unsettled(&files, settle, now_ns), Duration::from_secs(seconds));
        }
    }
}
