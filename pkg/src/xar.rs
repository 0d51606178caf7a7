//! The archive itself: XAR, as `xar.h` and `archive.c` of Apple's libxar have it.
//!
//! ```text
//!   header, 28 bytes ─ table of contents, zlib'd XML ─ heap: its checksum, then the members
//! ```
//!
//! Checksums are SHA-1, libxar's default and what `productbuild` writes: every Installer reads it. They
//! guard against damage. Against malice stand the signature, which `productsign` and `rcodesign` make anew
//! over a table of contents of their own, and the notary's ticket.

use std::io::Write;

use anyhow::{Context, Result, ensure};
use apple_xar::table_of_contents::ChecksumType;
use flate2::{Compression, write::ZlibEncoder};

use crate::{
    payload::{GID, MODE_READ, MODE_RUN, UID},
    xml::Element,
};

/// Bytes of the header.
pub const HEADER_BYTES: u16 = 28;
/// The format's only version.
pub const VERSION: u16 = 1;
/// SHA-1 in the header's field of the algorithm (`XAR_CKSUM_SHA1`).
pub const SHA1: u32 = 1;
/// Bytes of a SHA-1.
pub const SHA1_BYTES: usize = 20;

/// A folder or a file in the archive.
#[derive(Clone, Debug)]
pub enum Member {
    /// A folder with these members.
    Folder {
        /// Its name, without those of the folders above.
        name: String,
        /// What is in it, in this order.
        members: Vec<Member>,
    },
    /// A file with these contents.
    File {
        /// Its name, without those of the folders above.
        name: String,
        /// Its contents.
        contents: Vec<u8>,
        /// How the heap holds it.
        encoding: Encoding,
    },
}

/// How the heap holds a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Encoding {
    /// As it is: for what is compressed already.
    Stored,
    /// As a zlib stream, which XAR calls `application/x-gzip`.
    Deflated,
}

/// The archive of these members, all with the same time, in seconds since 1970.
///
/// # Errors
/// When a name is not plain.
pub fn archive(members: &[Member], time_s: u32) -> Result<Vec<u8>> {
    let time = timestamp(time_s);
    // The checksum of the table of contents is not known before the table is: its place is kept.
    let mut writer = Writer { heap: vec![0; SHA1_BYTES], last_id: 0, time: time.clone() };
    let mut files = Vec::new();
    for member in members {
        files.push(writer.member(member)?);
    }
    let checksum = Element::new("checksum")
        .with("style", "sha1")
        .child(Element::new("offset").text(0))
        .child(Element::new("size").text(SHA1_BYTES));
    let table = Element::new("toc")
        .child(Element::new("creation-time").text(time))
        .child(checksum)
        .children(files);
    let table = Element::new("xar").child(table).document()?;
    let packed = deflated(table.as_bytes())?;

    let mut archive = b"xar!".to_vec();
    archive.extend(HEADER_BYTES.to_be_bytes());
    archive.extend(VERSION.to_be_bytes());
    archive.extend((packed.len() as u64).to_be_bytes());
    archive.extend((table.len() as u64).to_be_bytes());
    archive.extend(SHA1.to_be_bytes());
    archive.extend(&packed);
    archive.extend(sha1(&packed)?);
    archive.extend(writer.heap.get(SHA1_BYTES..).unwrap_or_default());
    Ok(archive)
}

/// The SHA-1 of these bytes.
///
/// # Errors
/// Never; the crate's signature has it.
pub fn sha1(bytes: &[u8]) -> Result<Vec<u8>> {
    ChecksumType::Sha1.digest_data(bytes).context("SHA-1 can't be had")
}

struct Writer {
    heap: Vec<u8>,
    last_id: u64,
    time: String,
}

impl Writer {
    /// A member's element in the table of contents; what it holds goes to the heap.
    fn member(&mut self, member: &Member) -> Result<Element> {
        self.last_id += 1;
        let element = Element::new("file").with("id", self.last_id);
        Ok(match member {
            Member::Folder { name, members } => {
                let mut element = self.described(element, name, "directory", MODE_RUN)?;
                for member in members {
                    element = element.child(self.member(member)?);
                }
                element
            }
            Member::File { name, contents, encoding } => {
                let data = self.data(contents, *encoding)?;
                self.described(element.child(data), name, "file", MODE_READ)?
            }
        })
    }

    fn described(&self, element: Element, name: &str, kind: &str, mode: u16) -> Result<Element> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let inside = !matches!(name, "" | "." | "..") && name.chars().all(plain);
        ensure!(inside, "{name:?} is no name for a member of the package");
        Ok(element
            .child(Element::new("ctime").text(&self.time))
            .child(Element::new("mtime").text(&self.time))
            .child(Element::new("atime").text(&self.time))
            .child(Element::new("group").text("wheel"))
            .child(Element::new("gid").text(GID))
            .child(Element::new("user").text("root"))
            .child(Element::new("uid").text(UID))
            .child(Element::new("mode").text(format!("{mode:04o}")))
            .child(Element::new("type").text(kind))
            .child(Element::new("name").text(name)))
    }

    fn data(&mut self, contents: &[u8], encoding: Encoding) -> Result<Element> {
        let (stored, style) = match encoding {
            Encoding::Stored => (contents.to_vec(), "application/octet-stream"),
            Encoding::Deflated => (deflated(contents)?, "application/x-gzip"),
        };
        let offset = self.heap.len();
        let element = Element::new("data")
            .child(Element::new("length").text(stored.len()))
            .child(Element::new("offset").text(offset))
            .child(Element::new("size").text(contents.len()))
            .child(Element::new("encoding").with("style", style))
            .child(checksum("extracted-checksum", contents)?)
            .child(checksum("archived-checksum", &stored)?);
        self.heap.extend(stored);
        Ok(element)
    }
}

fn checksum(name: &'static str, bytes: &[u8]) -> Result<Element> {
    let sum: String = sha1(bytes)?.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Element::new(name).with("style", "sha1").text(sum))
}

fn deflated(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
    zlib.write_all(bytes)?;
    zlib.finish().context("can't be compressed")
}

/// Seconds since 1970 as `2026-01-31T12:00:00`, in UTC. Days to a date as in the proleptic Gregorian
/// calendar: eras of 400 years that begin on a 1 March, so that a leap day ends one.
fn timestamp(time_s: u32) -> String {
    let (days, second) = (time_s / 86_400, time_s % 86_400);
    // 1970-01-01 is day 719 468 from 0000-03-01.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        // As GNU date prints them: date -u -d @N +%FT%T.
        for (time_s, text) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_800, "2000-03-01T00:00:00"),
            (1_767_225_599, "2025-12-31T23:59:59"),
            (1_767_225_600, "2026-01-01T00:00:00"),
            (4_107_542_400, "2100-03-01T00:00:00"),
            (u32::MAX, "2106-02-07T06:28:15"),
        ] {
            assert_eq!(timestamp(time_s), text);
        }
    }

    #[test]
    fn a_member_with_a_hostile_name_is_refused() {
        for name in ["", ".", "..", "a/b", "../x", "a\0", "<x/>", "a\n", "caf\u{e9}"] {
            let file = Member::File {
                name: name.to_owned(),
                contents: vec![1],
                encoding: Encoding::Stored,
            };
            let folder = Member::Folder { name: name.to_owned(), members: vec![] };
            assert!(archive(&[file], 0).is_err(), "{name:?}");
            assert!(archive(&[folder], 0).is_err(), "{name:?}");
        }
    }
}
