//! `Bom`: the bill of materials, by which the Installer sets owners and modes and `pkgutil` lists.
//!
//! Apple documents nothing of it. The layout below was read off a Bom that Apple's `mkbom` wrote (test
//! data of the crate apple-bom) and agrees with bomutils. Apple-bom's own builder can't be used: version
//! 0.3 ends every name with a NUL before `CString::new`, which refuses that, so it panics on any input.
//!
//! All numbers are big-endian. Blocks are found by their number; block 0 is none:
//!
//! ```text
//!   header ─▶ variables: BomInfo ─▶ version, paths + 1, bytes of all files and links
//!          │             Paths   ─▶ tree ─▶ leaf: (id, record) and (parent's id, name) of each path
//!          │             HLIndex, VIndex, Size64 ─▶ trees without entries
//!          └▶ index: offset and length of each block; no free ones
//! ```

use anyhow::{Context, Result, ensure};

use crate::payload::{Entry, GID, Kind, Payload, UID};

/// Bytes of a tree's leaf, padded with zeros.
const LEAF_BYTES: usize = 4096;
/// The same in the tree of `VIndex`.
const VINDEX_LEAF_BYTES: usize = 128;
/// Bytes before the first block. The header takes 32 of them; Apple's tool leaves the rest zero.
const HEADER_BYTES: usize = 512;
/// Of a path that is no Mach-O with architectures of its own. A Mach-O may be listed so too: the field
/// tells what a slice of it weighs, which only matters to tools that cut slices off.
const ARCHITECTURE_NONE: u16 = 0x000f;

/// The Bom of a tree, every path with the same time, in seconds since 1970.
///
/// # Errors
/// When the tree has more than one leaf's paths, or a file more bytes than its field counts.
pub fn bom(payload: &Payload, mtime_s: u32) -> Result<Vec<u8>> {
    let entries = payload.entries();
    let mut store = Store::default();
    let info = store.add(bom_info(entries)?);
    store.variable("BomInfo", info);
    let paths = paths(&mut store, entries, mtime_s)?;
    store.variable("Paths", paths);
    let hard_links = tree(&mut store, leaf(&[]), LEAF_BYTES, 0)?;
    store.variable("HLIndex", hard_links);
    let vtree = tree(&mut store, leaf(&[]), VINDEX_LEAF_BYTES, 0)?;
    let mut vindex = Vec::new();
    for number in [1, vtree, 0] {
        put(&mut vindex, number);
    }
    vindex.push(0);
    let vindex = store.add(vindex);
    store.variable("VIndex", vindex);
    let sizes = tree(&mut store, leaf(&[]), LEAF_BYTES, 0)?;
    store.variable("Size64", sizes);
    store.file()
}

/// `cksum` of POSIX: a CRC-32 over the bytes and then over their number, least byte first.
#[must_use]
pub fn cksum(bytes: &[u8]) -> u32 {
    let mut length = Vec::new();
    let mut rest = bytes.len();
    while rest > 0 {
        length.push((rest & 0xff) as u8);
        rest >>= 8;
    }
    let step = |crc: u32, byte: &u8| {
        let index = (crc >> 24) as u8 ^ byte;
        (crc << 8) ^ CRC.get(usize::from(index)).copied().unwrap_or_default()
    };
    let crc = bytes.iter().fold(0, step);
    !length.iter().fold(crc, step)
}

/// Remainders of each byte for the generator 0x04C11DB7, most significant bit first (POSIX `cksum`).
const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000_0000 == 0 { crc << 1 } else { (crc << 1) ^ 0x04c1_1db7 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// Blocks and variables, in the order in which they were added.
#[derive(Default)]
struct Store {
    blocks: Vec<Vec<u8>>,
    variables: Vec<(&'static str, u32)>,
}

impl Store {
    /// Adds a block; its number.
    fn add(&mut self, block: Vec<u8>) -> u32 {
        self.blocks.push(block);
        // A few thousand at most: three for each path.
        u32::try_from(self.blocks.len()).unwrap_or(u32::MAX)
    }

    fn variable(&mut self, name: &'static str, block: u32) {
        self.variables.push((name, block));
    }

    fn file(&self) -> Result<Vec<u8>> {
        let mut variables = Vec::new();
        put(&mut variables, number(self.variables.len())?);
        for (name, block) in &self.variables {
            put(&mut variables, *block);
            variables.push(u8::try_from(name.len()).context("a variable's name is too long")?);
            variables.extend(name.as_bytes());
        }
        let mut index = Vec::new();
        put(&mut index, number(self.blocks.len() + 1)?);
        index.extend([0; 8]);
        let mut body = variables.clone();
        for block in &self.blocks {
            put(&mut index, number(HEADER_BYTES + body.len())?);
            put(&mut index, number(block.len())?);
            body.extend(block);
        }
        // The free blocks: none, and two empty places, which Apple's tool leaves as well.
        index.extend([0; 4 + 2 * 8]);

        let mut file = b"BOMStore".to_vec();
        for field in [
            1,
            number(self.blocks.len())?,
            number(HEADER_BYTES + body.len())?,
            number(index.len())?,
            number(HEADER_BYTES)?,
            number(variables.len())?,
        ] {
            put(&mut file, field);
        }
        file.resize(HEADER_BYTES, 0);
        file.extend(body);
        file.extend(index);
        Ok(file)
    }
}

/// The number of paths and one more, and one sum of bytes: that of what is no Mach-O with
/// architectures of its own, links by the length of their targets.
fn bom_info(entries: &[Entry]) -> Result<Vec<u8>> {
    let mut block = Vec::new();
    let stored: usize = entries.iter().map(|entry| entry.stored().len()).sum();
    for field in [1, number(entries.len() + 1)?, 1, 0, 0, number(stored)?, 0] {
        put(&mut block, field);
    }
    Ok(block)
}

/// The tree of paths: one leaf, sorted by the parent's id and then by name. As ids are given in the
/// order of the tree, parents come before their children in it.
fn paths(store: &mut Store, entries: &[Entry], mtime_s: u32) -> Result<u32> {
    let mut listed = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let (above, name) = match entry.path.rsplit_once('/') {
            Some((above, name)) => (Some(above), name),
            None if entry.path.is_empty() => (None, "."),
            None => (Some(""), entry.path.as_str()),
        };
        let parent = match above {
            None => 0,
            Some(above) => {
                let found = entries.iter().position(|folder| folder.path == above);
                number(found.with_context(|| format!("/{above} is not listed"))? + 1)?
            }
        };
        listed.push((parent, name, number(index + 1)?, entry));
    }
    listed.sort_by_key(|(parent, name, ..)| (*parent, name.as_bytes()));
    let mut pairs = Vec::new();
    for (parent, name, id, entry) in listed {
        let record = store.add(record(entry, mtime_s)?);
        let mut info = Vec::new();
        put(&mut info, id);
        put(&mut info, record);
        let mut file = Vec::new();
        put(&mut file, parent);
        file.extend(name.as_bytes());
        file.push(0);
        pairs.push((store.add(info), store.add(file)));
    }
    tree(store, leaf(&pairs), LEAF_BYTES, number(entries.len())?)
}

/// What is known of a path.
fn record(entry: &Entry, mtime_s: u32) -> Result<Vec<u8>> {
    let stored = entry.stored();
    let kind = match entry.kind {
        Kind::File(_) => 1,
        Kind::Folder => 2,
        Kind::Link(_) => 3,
    };
    let mut block = vec![kind, 1];
    block.extend(ARCHITECTURE_NONE.to_be_bytes());
    block.extend(entry.st_mode().to_be_bytes());
    // A folder's size says nothing of what is in it.
    for field in [UID, GID, mtime_s, number(stored.len())?] {
        put(&mut block, field);
    }
    block.push(1);
    put(&mut block, if entry.kind == Kind::Folder { 0 } else { cksum(stored) });
    if let Kind::Link(target) = &entry.kind {
        put(&mut block, number(target.len() + 1)?);
        block.extend(target.as_bytes());
        block.push(0);
    } else {
        put(&mut block, 0);
    }
    // Files and links have four and eight bytes more in Apple's; no reader looks at them.
    block.extend(match entry.kind {
        Kind::Folder => vec![],
        Kind::File(_) => vec![0; 4],
        Kind::Link(_) => vec![0; 8],
    });
    Ok(block)
}

/// A leaf of these pairs of blocks, value and key.
fn leaf(pairs: &[(u32, u32)]) -> Vec<u8> {
    let mut block = 1u16.to_be_bytes().to_vec();
    block.extend(u16::try_from(pairs.len()).unwrap_or(u16::MAX).to_be_bytes());
    // The leaves after and before it: none.
    block.extend([0; 8]);
    for (value, key) in pairs {
        put(&mut block, *value);
        put(&mut block, *key);
    }
    block
}

/// A tree with one leaf; the number of its block.
fn tree(store: &mut Store, mut leaf: Vec<u8>, leaf_bytes: usize, entries: u32) -> Result<u32> {
    ensure!(leaf.len() <= leaf_bytes, "{entries} paths are more than one leaf of a Bom holds");
    leaf.resize(leaf_bytes, 0);
    let leaf = store.add(leaf);
    let mut block = b"tree".to_vec();
    for field in [1, leaf, number(leaf_bytes)?, entries] {
        put(&mut block, field);
    }
    block.push(0);
    Ok(store.add(block))
}

fn put(block: &mut Vec<u8>, number: u32) {
    block.extend(number.to_be_bytes());
}

fn number(value: usize) -> Result<u32> {
    u32::try_from(value).with_context(|| format!("{value} is too large for a Bom"))
}

#[cfg(test)]
mod tests;
