//! A folder of reports, scanned again and again for what is new.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{Report, ReportError, ReportId, read_report};

/// Most files read in one scan; what is left comes in the next ones.
pub const FILES_PER_SCAN_MAX: usize = 200;
/// Most files and most reports that are remembered. A folder's older files beyond that are never
/// looked at, so what is forgotten can't come back as new.
pub const REMEMBERED_MAX: usize = 4096;
/// How often a file that is not whole, or that the system does not let us read, is tried before it is
/// given up.
pub const TRIES_MAX: u32 = 8;

/// Wait before the second reading of a file that was not whole; doubles each time, so the last is
/// about two minutes after the first. Hints of the file system come in bursts, and would otherwise
/// use up the tries while the file is being written.
const FIRST_WAIT_MS: u64 = 1_000;
/// Most entries of a folder that are listed: a bound on time and memory in a folder that anybody's
/// crashes fill.
const LISTED_MAX: usize = 16_384;
/// Most refusals kept until they are taken.
const REFUSED_MAX: usize = 64;
/// Where the system moves reports that it has sent.
const RETIRED: &str = "Retired";

/// A file that can't be read as a report, though it looks like one.
#[derive(Debug)]
pub struct Refused {
    /// Which file, or the folder itself.
    pub path: PathBuf,
    /// Why.
    pub error: ReportError,
}

/// What a file is known by: moving it into the subfolder changes none of these.
type FileKey = (u64, u64, u64, i64, i64);

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It was read, or given up.
    Done,
    /// It was not whole, or the system did not let it be read.
    Unread { tries: u32, next_ms: u64 },
}

struct Candidate {
    path: PathBuf,
    key: FileKey,
    /// Seconds and nanoseconds since 1970, of the last change.
    changed: (i64, i64),
}

/// One folder of reports and what was seen in it.
#[derive(Debug)]
pub struct ReportFolder {
    path: PathBuf,
    files: HashMap<FileKey, Fate>,
    ids: HashSet<ReportId>,
    /// The same ids, oldest first.
    order: VecDeque<ReportId>,
    refused: VecDeque<Refused>,
    /// Folders whose fault was told and still is there, so that it is told once.
    faulty: HashSet<PathBuf>,
    /// Whether the last scan read as many files as one may.
    is_full: bool,
}

impl ReportFolder {
    /// A folder of which nothing was seen yet; it need not exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            files: HashMap::new(),
            ids: HashSet::new(),
            order: VecDeque::new(),
            refused: VecDeque::new(),
            faulty: HashSet::new(),
            is_full: false,
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole reports that were not there at earlier scans, newest first, from the folder and its
    /// subfolder `Retired`. `now_ms` is in milliseconds since boot, and only spaces out the readings
    /// of files that aren't whole. At most [`FILES_PER_SCAN_MAX`] files are read.
    pub fn scan(&mut self, now_ms: u64) -> Vec<(ReportId, Report)> {
        let candidates = self.candidates();
        let there: HashSet<FileKey> = candidates.iter().map(|candidate| candidate.key).collect();
        self.files.retain(|key, _| there.contains(key));
        let due: Vec<_> = candidates
            .into_iter()
            .filter(|candidate| match self.files.get(&candidate.key) {
                None => true,
                Some(Fate::Done) => false,
                Some(Fate::Unread { next_ms, .. }) => *next_ms <= now_ms,
            })
            .take(FILES_PER_SCAN_MAX)
            .collect();
        self.is_full = due.len() >= FILES_PER_SCAN_MAX;
        due.into_iter().filter_map(|candidate| self.read(candidate, now_ms)).collect()
    }

    /// Whether another scan may find more although nothing changes: the last one was full, or a file
    /// is to be tried again.
    pub fn has_more(&self) -> bool {
        self.is_full || self.files.values().any(|fate| matches!(fate, Fate::Unread { .. }))
    }

    /// The files that could not be read since this was last asked, oldest first; a bounded number.
    pub fn take_refused(&mut self) -> Vec<Refused> {
        self.refused.drain(..).collect()
    }

    fn read(&mut self, candidate: Candidate, now_ms: u64) -> Option<(ReportId, Report)> {
        let Candidate { path, key, .. } = candidate;
        let outcome = read_report(&path);
        let mut fate = Fate::Done;
        let mut new = None;
        match outcome {
            Ok((id, report)) => new = self.remember(&id).then_some((id, report)),
            Err(ReportError::OtherKind { .. }) => {}
            // It was moved or removed since it was listed; if moved, it is found there.
            Err(ReportError::Io(error)) if error.kind() == io::ErrorKind::NotFound => return None,
            // What the system refuses now, for want of descriptors say, it may grant later.
            Err(error @ (ReportError::Partial | ReportError::Io(_))) => {
                let tries = match self.files.get(&key) {
                    Some(Fate::Unread { tries, .. }) => tries.saturating_add(1),
                    _ => 1,
                };
                if tries < TRIES_MAX {
                    let wait_ms = FIRST_WAIT_MS << (tries - 1);
                    fate = Fate::Unread { tries, next_ms: now_ms.saturating_add(wait_ms) };
                } else {
                    self.refuse(path, error);
                }
            }
            Err(error) => self.refuse(path, error),
        }
        self.files.insert(key, fate);
        new
    }

    /// Whether the id is new.
    fn remember(&mut self, id: &ReportId) -> bool {
        if !self.ids.insert(id.clone()) {
            return false;
        }
        self.order.push_back(id.clone());
        if self.order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }

    fn refuse(&mut self, path: PathBuf, error: ReportError) {
        if self.refused.len() >= REFUSED_MAX {
            self.refused.pop_front();
        }
        self.refused.push_back(Refused { path, error });
    }

    /// The newest files that look like reports, newest first.
    fn candidates(&mut self) -> Vec<Candidate> {
        let mut found = BTreeMap::new();
        let mut left = LISTED_MAX;
        for folder in [self.path.clone(), self.path.join(RETIRED)] {
            match list(&folder, &mut left, &mut found) {
                Ok(()) => {
                    self.faulty.remove(&folder);
                }
                // The subfolder is made when it is first needed.
                Err(error) if error.kind() == io::ErrorKind::NotFound && folder != self.path => {}
                Err(error) => {
                    if self.faulty.insert(folder.clone()) {
                        self.refuse(folder, ReportError::Io(error));
                    }
                }
            }
        }
        let mut found: Vec<_> = found.into_values().collect();
        found.sort_by(|a: &Candidate, b| (b.changed, &b.path).cmp(&(a.changed, &a.path)));
        found.truncate(REMEMBERED_MAX);
        found
    }
}

/// Adds a folder's files that look like reports; by their key, since a file may be seen before and
/// after it is moved.
fn list(
    folder: &Path,
    left: &mut usize,
    found: &mut BTreeMap<FileKey, Candidate>,
) -> io::Result<()> {
    // Not a link: it could lead anywhere.
    if !fs::symlink_metadata(folder)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    for entry in fs::read_dir(folder)? {
        if *left == 0 {
            let what =
                format!("over {LISTED_MAX} entries: remove old ones, or new ones may be missed");
            return Err(io::Error::other(what));
        }
        *left -= 1;
        let entry = entry?;
        let path = entry.path();
        let extension = path.extension().unwrap_or_default();
        if extension != "ips" && extension != "panic" {
            continue;
        }
        // Of the entry itself, not of what a link leads to. One that is gone again is none.
        let Ok(meta) = entry.metadata() else {
            continue;
        };
        if meta.is_dir() {
            continue;
        }
        let changed = (meta.mtime(), meta.mtime_nsec());
        found.insert(key(&meta), Candidate { path, key: key(&meta), changed });
    }
    Ok(())
}

fn key(meta: &Metadata) -> FileKey {
    (meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec())
}
