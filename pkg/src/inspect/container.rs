//! The archive: header, table of contents, heap, and what is behind it.

use std::io::Read;

use super::{
    ChecksumType, Context, Cursor, File, FileChecksum, FileType, Result, TableOfContents,
    XarReader, ZlibDecoder, ensure, hex, xar,
};

/// Most bytes of a table of contents, unpacked. Ours has a few thousand, a signed one some
/// certificates more.
const TABLE_MAX_BYTES: u64 = 1 << 20;
/// Most bytes of a member, decoded: the payload, of which the metallib is most.
const MEMBER_MAX_BYTES: u64 = 2 << 30;

/// What was read.
pub(super) struct Archive {
    /// Path and decoded contents of each file.
    pub(super) files: Vec<(String, Vec<u8>)>,
    /// Whether there is a signature.
    pub(super) signed: bool,
    /// Whether there is a notary's ticket.
    pub(super) stapled: bool,
}

/// The fields of the header that say where the heap begins.
struct Header {
    packed_bytes: usize,
    table_bytes: u64,
}

/// Reads an archive and compares all its checksums.
pub(super) fn open(bytes: &[u8]) -> Result<Archive> {
    let header = header(bytes)?;
    let start = usize::from(xar::HEADER_BYTES);
    let packed = slice(bytes, start, header.packed_bytes).context("the table of contents")?;
    let heap = bytes.get(start + header.packed_bytes..).unwrap_or_default();
    // The checksum before the table: what is damaged is not parsed. It always lies at the heap's
    // begin, as the table must confirm below.
    let sum = slice(heap, 0, xar::SHA1_BYTES).context("the checksum")?;
    ensure!(
        ChecksumType::Sha1.digest_data(packed)? == sum,
        "the table of contents is damaged: its checksum is another"
    );
    check_unpacked(packed, header.table_bytes)?;
    let reader = XarReader::new(Cursor::new(bytes)).context("the table of contents")?;
    let table = reader.table_of_contents();
    let mut extents = extents_beside_files(table)?;
    let mut files = Vec::new();
    for (path, file) in reader.files().context("the table of contents")? {
        match file.file_type {
            FileType::Directory => continue,
            FileType::File => {}
            FileType::HardLink | FileType::Link => anyhow::bail!("{path} is a link"),
        }
        let contents = contents(heap, &file).with_context(|| path.clone())?;
        let data = file.data.as_ref().context("a file without data")?;
        extents.push((data.offset, data.length));
        files.push((path, contents));
    }
    let end = tiled(extents)?;
    let behind = heap.get(end..).context("the heap is too short")?;
    Ok(Archive {
        files,
        signed: !table.signatures().is_empty(),
        stapled: !behind.is_empty() && is_ticket(behind)?,
    })
}

fn header(bytes: &[u8]) -> Result<Header> {
    let field = |at: usize, length: usize| {
        let field = slice(bytes, at, length).context("the header")?;
        Ok::<u64, anyhow::Error>(field.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    ensure!(bytes.starts_with(b"xar!"), "this is no package: it does not begin with xar!");
    let (size, version, algorithm) = (field(4, 2)?, field(6, 2)?, field(24, 4)?);
    ensure!(size == u64::from(xar::HEADER_BYTES), "the header has {size} bytes");
    ensure!(version == u64::from(xar::VERSION), "the format's version is {version}");
    ensure!(algorithm == u64::from(xar::SHA1), "the checksums' algorithm is {algorithm}");
    let (packed_bytes, table_bytes) = (field(8, 8)?, field(16, 8)?);
    ensure!(
        packed_bytes <= TABLE_MAX_BYTES && table_bytes <= TABLE_MAX_BYTES,
        "the table of contents has {packed_bytes} bytes, {table_bytes} unpacked"
    );
    Ok(Header { packed_bytes: usize::try_from(packed_bytes)?, table_bytes })
}

/// The zlib stream is as long as the header says, packed and unpacked.
fn check_unpacked(packed: &[u8], table_bytes: u64) -> Result<()> {
    let mut decoder = ZlibDecoder::new(packed);
    let mut table = Vec::new();
    (&mut decoder).take(TABLE_MAX_BYTES + 1).read_to_end(&mut table)?;
    ensure!(
        table.len() as u64 == table_bytes && decoder.total_in() == packed.len() as u64,
        "the table of contents has other lengths than the header says"
    );
    Ok(())
}

/// Where the heap holds the checksum and signatures.
fn extents_beside_files(table: &TableOfContents) -> Result<Vec<(u64, u64)>> {
    let checksum = &table.checksum;
    ensure!(
        matches!(checksum.style, ChecksumType::Sha1)
            && (checksum.offset, checksum.size) == (0, xar::SHA1_BYTES as u64),
        "the checksum is not a SHA-1 at the heap's begin"
    );
    let mut extents = vec![(checksum.offset, checksum.size)];
    extents.extend(table.signatures().iter().map(|signature| (signature.offset, signature.size)));
    Ok(extents)
}

/// A member's contents, decoded and compared with both its checksums.
fn contents(heap: &[u8], file: &File) -> Result<Vec<u8>> {
    let data = file.data.as_ref().context("there is no data")?;
    let stored = slice(heap, usize::try_from(data.offset)?, usize::try_from(data.length)?)?;
    check_sum(&data.archived_checksum, stored).context("as archived")?;
    ensure!(data.size <= MEMBER_MAX_BYTES, "{} bytes are too many", data.size);
    let contents = match data.encoding.style.as_str() {
        "application/octet-stream" => stored.to_vec(),
        "application/x-gzip" => {
            let mut contents = Vec::new();
            ZlibDecoder::new(stored).take(data.size + 1).read_to_end(&mut contents)?;
            contents
        }
        other => anyhow::bail!("its encoding is {other}"),
    };
    ensure!(contents.len() as u64 == data.size, "it has not the {} bytes it should", data.size);
    check_sum(&data.extracted_checksum, &contents).context("as extracted")?;
    Ok(contents)
}

fn check_sum(sum: &FileChecksum, bytes: &[u8]) -> Result<()> {
    ensure!(matches!(sum.style, ChecksumType::Sha1), "its checksum is no SHA-1");
    ensure!(hex(&sum.style.digest_data(bytes)?) == sum.checksum, "it is damaged");
    Ok(())
}

/// The end of these extents, which must follow each other without a gap or an overlap.
fn tiled(mut extents: Vec<(u64, u64)>) -> Result<usize> {
    extents.sort_unstable();
    let mut end = 0;
    for (offset, length) in extents {
        ensure!(offset == end, "the heap has something at {end} that nothing names");
        end = offset.checked_add(length).context("a length is absurd")?;
    }
    Ok(usize::try_from(end)?)
}

/// Whether this is a notary's ticket between its two marks, as `stapler` leaves it behind the heap:
/// `t8lr`, version 1, kind (1 ends the archive, 2 follows a ticket), length, 0; little-endian.
fn is_ticket(behind: &[u8]) -> Result<bool> {
    const MARK_BYTES: usize = 16;
    let mark = |kind: u16, length: usize| {
        let mut mark = b"t8lr".to_vec();
        mark.extend(1u16.to_le_bytes());
        mark.extend(kind.to_le_bytes());
        mark.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        mark.extend([0; 4]);
        mark
    };
    let ticket = behind.len().checked_sub(2 * MARK_BYTES);
    let ticket = ticket
        .filter(|length| behind.starts_with(&mark(1, 0)) && behind.ends_with(&mark(2, *length)));
    ensure!(ticket.is_some(), "behind the archive are {} bytes that are no ticket", behind.len());
    Ok(true)
}

fn slice(bytes: &[u8], offset: usize, length: usize) -> Result<&[u8]> {
    let end = offset.checked_add(length);
    end.and_then(|end| bytes.get(offset..end)).context("the file is cut off")
}
