//! `Payload` and `Scripts`: a cpio archive of the old character format ("odc", SUSv2), gzipped.

use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result};
use cpio_archive::odc::OdcBuilder;
use flate2::{Compression, GzBuilder, write::GzEncoder};

use crate::payload::{GID, Kind, Payload, UID};

/// What `st_dev` is said to be; all files lie on one file system.
const DEVICE: u32 = 0;
/// The header's field for the system that compressed, Unix (RFC 1952, 2.3.1): said here because it
/// must not depend on where this runs.
const GZIP_SYSTEM: u8 = 3;

/// The archive of a tree, every entry with the same time, in seconds since 1970.
///
/// # Errors
/// When a number does not fit its field.
pub fn archive(payload: &Payload, mtime_s: u32) -> Result<Vec<u8>> {
    let gzip: GzEncoder<Vec<u8>> = GzBuilder::new()
        .mtime(0)
        .operating_system(GZIP_SYSTEM)
        .write(Vec::new(), Compression::default());
    let mut builder = OdcBuilder::new(gzip);
    // The trailer takes the default, which is now.
    builder.default_mtime((UNIX_EPOCH + Duration::from_secs(u64::from(mtime_s))).into());
    for (index, entry) in payload.entries().iter().enumerate() {
        let mut header = builder.next_header();
        header.dev = DEVICE;
        header.inode = u32::try_from(index + 1).context("too many entries for cpio")?;
        header.mode = u32::from(entry.st_mode());
        header.uid = UID;
        header.gid = GID;
        // No hard links; a reader that finds more than one waits for the others.
        header.nlink = if entry.kind == Kind::Folder { 2 } else { 1 };
        header.mtime = mtime_s;
        header.file_size = entry.stored().len() as u64;
        header.name = entry.archive_name();
        builder
            .append_header_with_data(header, entry.stored())
            .with_context(|| format!("{} can't be archived", entry.archive_name()))?;
    }
    let gzip = builder.into_inner().context("the cpio archive can't be ended")?;
    gzip.finish().context("the cpio archive can't be compressed")
}
