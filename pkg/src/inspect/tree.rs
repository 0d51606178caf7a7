//! The trees inside: cpio archives, and the Bom of one.

use std::{collections::BTreeMap, io::Read};

use apple_bom::{BomPathType, ParsedBom};

use super::{Context, CpioReader, Result, Serialize, ensure, sha256};
use crate::{
    bom::cksum,
    payload::{ENTRIES_MAX, GID, UID},
};

/// Most bytes of one file. As in `payload.rs`, where it is argued.
const FILE_MAX_BYTES: u64 = 1 << 30;

/// A path in an archive.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Row {
    /// As the archive has it: `.`, or with `./` before it.
    pub path: String,
    /// `folder`, `file` or `link`.
    pub kind: &'static str,
    /// Permission bits in octal, such as `0755`.
    pub mode: String,
    /// Owner's number.
    pub uid: u32,
    /// Group's number.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime_s: u32,
    /// Bytes of a file or of a link's target.
    pub size_bytes: u64,
    /// SHA-256 of a file, in hex.
    pub sha256: Option<String>,
    /// Where a link leads.
    pub target: Option<String>,
    /// What the Bom should have.
    #[serde(skip)]
    cksum: u32,
    #[serde(skip)]
    st_mode: u32,
}

impl Row {
    /// Whether it is a regular file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.kind == "file"
    }

    /// One line for people.
    #[must_use]
    pub fn text(&self) -> String {
        let owner = format!("{}:{}", self.uid, self.gid);
        let what = match (&self.sha256, &self.target) {
            (Some(sha256), _) => format!("  {sha256}"),
            (None, Some(target)) => format!("  -> {target}"),
            (None, None) => String::new(),
        };
        let Row { kind, mode, size_bytes, path, .. } = self;
        format!("{kind:<6} {mode} {owner} {size_bytes:>11}  {path}{what}")
    }
}

/// What an archive holds: a folder before what is in it, all root's, nothing that others may write.
pub(super) fn rows(mut archive: CpioReader) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    while let Some(header) = archive.read_next().context("can't be read")? {
        let path = header.name().to_owned();
        let size_bytes = header.file_size();
        ensure!(size_bytes <= FILE_MAX_BYTES, "{path} has {size_bytes} bytes");
        let (uid, gid, mtime_s, st_mode) =
            (header.uid(), header.gid(), header.mtime(), header.mode());
        let mut stored = Vec::new();
        archive.read_to_end(&mut stored).with_context(|| path.clone())?;
        ensure!(stored.len() as u64 == size_bytes, "{path} is cut off");
        let (kind, mode) = (kind(st_mode).context(path.clone())?, st_mode & 0o7777);
        ensure!((uid, gid) == (UID, GID), "{path} belongs to {uid}:{gid}, not to root:wheel");
        ensure!(mode & !0o755 == 0, "{path} has mode {mode:o}");
        check_place(&path, &rows)?;
        let target = (kind == "link").then(|| String::from_utf8_lossy(&stored).into_owned());
        rows.push(Row {
            kind,
            mode: format!("{mode:04o}"),
            uid,
            gid,
            mtime_s,
            size_bytes,
            sha256: (kind == "file").then(|| sha256(&stored)),
            target,
            cksum: cksum(&stored),
            st_mode,
            path,
        });
        ensure!(rows.len() <= ENTRIES_MAX, "there are more than {ENTRIES_MAX} entries");
    }
    // A damaged archive may end early and still be read without an error.
    ensure!(!rows.is_empty(), "it is empty");
    Ok(rows)
}

/// A path belongs into a folder that came before, has no name that leads elsewhere, and is new.
fn check_place(path: &str, before: &[Row]) -> Result<()> {
    ensure!(before.iter().all(|row| row.path != path), "{path} is there twice");
    let Some((folder, name)) = path.rsplit_once('/') else {
        ensure!(path == "." && before.is_empty(), "{path:?} is no path below the root");
        return Ok(());
    };
    ensure!(!matches!(name, "" | "." | ".."), "{path:?} leads elsewhere");
    let found = before.iter().any(|row| row.kind == "folder" && row.path == folder);
    ensure!(found, "{path} is in no folder of the archive");
    Ok(())
}

fn kind(st_mode: u32) -> Result<&'static str> {
    match st_mode & 0o170_000 {
        0o040_000 => Ok("folder"),
        0o100_000 => Ok("file"),
        0o120_000 => Ok("link"),
        _ => anyhow::bail!("its type is neither folder, file nor link: {st_mode:o}"),
    }
}

/// The Bom lists what the archive holds, field by field, and nothing else.
pub(super) fn check_bom(bytes: &[u8], rows: &[Row]) -> Result<()> {
    let bom = ParsedBom::parse(bytes).context("can't be read")?;
    let paths = bom.paths().context("its paths can't be read")?;
    let info = bom.bom_info().context("it has no BomInfo")?;
    ensure!(
        paths.len() == rows.len() && info.number_of_paths as usize == rows.len() + 1,
        "it lists {} paths and counts {}, the archive has {}",
        paths.len(),
        info.number_of_paths,
        rows.len()
    );
    let listed: BTreeMap<&str, _> = paths.iter().map(|path| (path.path(), path)).collect();
    for row in rows {
        let path = listed.get(row.path.as_str());
        let path = path.with_context(|| format!("{} is not listed", row.path))?;
        let kind = match path.path_type() {
            BomPathType::File => "file",
            BomPathType::Directory => "folder",
            BomPathType::Link => "link",
            BomPathType::Dev | BomPathType::Other(_) => "device",
        };
        let listed = (
            kind,
            u32::from(path.file_mode()),
            (path.user_id(), path.group_id()),
            path.modified_time().timestamp(),
            path.size() as u64,
            path.crc32().unwrap_or(row.cksum),
            path.link_name(),
        );
        let archived = (
            row.kind,
            row.st_mode,
            (row.uid, row.gid),
            i64::from(row.mtime_s),
            row.size_bytes,
            row.cksum,
            row.target.as_deref(),
        );
        ensure!(listed == archived, "{}: {listed:?}, archived {archived:?}", row.path);
    }
    for variable in ["HLIndex", "VIndex", "Size64"] {
        bom.find_variable(variable).with_context(|| format!("{variable} is missing"))?;
    }
    Ok(())
}
