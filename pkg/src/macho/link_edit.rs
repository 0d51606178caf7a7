//! What dyld binds and what a library offers: the parts of `__LINKEDIT` that dyld itself reads.
//!
//! The symbol table beside them is for debuggers; a program runs without it. Formats:
//! `mach-o/loader.h` (binding opcodes, exports) and `mach-o/fixup-chains.h` (chained fixups).

use std::collections::BTreeSet;

/// One symbol that dyld finds for an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    /// With the underscore of C.
    pub name: String,
    /// Where dyld looks: from 1, the n-th library that the image names; else [`SELF`] or a special place.
    pub ordinal: i64,
    /// It may be absent; its address is then null.
    pub weak: bool,
}

/// [`Import::ordinal`]: the image itself.
pub const SELF: i64 = 0;
/// [`Import::ordinal`]: whichever image defines it, by C++'s rule that one of many copies is used.
pub const WEAK_LOOKUP: i64 = -3;

const OPCODE_MASK: u8 = 0xf0;
const SET_DYLIB_ORDINAL_IMM: u8 = 0x10;
const SET_DYLIB_ORDINAL_ULEB: u8 = 0x20;
const SET_DYLIB_SPECIAL_IMM: u8 = 0x30;
const SET_SYMBOL_TRAILING_FLAGS_IMM: u8 = 0x40;
const SET_TYPE_IMM: u8 = 0x50;
const SET_ADDEND_SLEB: u8 = 0x60;
const SET_SEGMENT_AND_OFFSET_ULEB: u8 = 0x70;
const ADD_ADDR_ULEB: u8 = 0x80;
const DO_BIND: u8 = 0x90;
const DO_BIND_ADD_ADDR_ULEB: u8 = 0xa0;
const DO_BIND_ADD_ADDR_IMM_SCALED: u8 = 0xb0;
const DO_BIND_ULEB_TIMES_SKIPPING_ULEB: u8 = 0xc0;
const SYMBOL_FLAG_WEAK_IMPORT: u8 = 0x1;

/// Imports of a stream of binding opcodes, eager or lazy. `None` if it is damaged.
pub(super) fn bind_opcodes(bytes: &[u8]) -> Option<BTreeSet<Import>> {
    let mut imports = BTreeSet::new();
    let mut reader = Reader { bytes };
    let mut current = Import { name: String::new(), ordinal: SELF, weak: false };
    while let Some(byte) = reader.byte() {
        let immediate = byte & !OPCODE_MASK;
        match byte & OPCODE_MASK {
            // 0: the end of one lazy binding, or padding.
            0 | SET_TYPE_IMM => {}
            SET_DYLIB_ORDINAL_IMM => current.ordinal = i64::from(immediate),
            SET_DYLIB_ORDINAL_ULEB => current.ordinal = i64::try_from(reader.uleb()?).ok()?,
            SET_DYLIB_SPECIAL_IMM if immediate == 0 => current.ordinal = SELF,
            // A negative number of four bits.
            SET_DYLIB_SPECIAL_IMM => current.ordinal = i64::from(immediate) - 16,
            SET_SYMBOL_TRAILING_FLAGS_IMM => {
                current.name = reader.text()?;
                current.weak = immediate & SYMBOL_FLAG_WEAK_IMPORT != 0;
            }
            // A signed number has the same form.
            SET_ADDEND_SLEB | SET_SEGMENT_AND_OFFSET_ULEB | ADD_ADDR_ULEB => {
                reader.uleb()?;
            }
            DO_BIND | DO_BIND_ADD_ADDR_IMM_SCALED => {
                imports.insert(current.clone());
            }
            DO_BIND_ADD_ADDR_ULEB => {
                reader.uleb()?;
                imports.insert(current.clone());
            }
            DO_BIND_ULEB_TIMES_SKIPPING_ULEB => {
                reader.uleb()?;
                reader.uleb()?;
                imports.insert(current.clone());
            }
            _ => return None,
        }
    }
    Some(imports)
}

/// Imports of `LC_DYLD_CHAINED_FIXUPS`. `None` if damaged or of a form that macOS does not use.
pub(super) fn chained_imports(bytes: &[u8]) -> Option<BTreeSet<Import>> {
    let number = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let size = |at: usize| usize::try_from(number(at)?).ok();
    let (table, symbols, count) = (size(8)?, size(12)?, size(16)?);
    let (format, symbols_format) = (number(20)?, number(24)?);
    let entry_bytes = match format {
        1 => 4,
        2 => 8,
        3 => 16,
        _ => return None,
    };
    // 0: not compressed.
    if symbols_format != 0 {
        return None;
    }
    let symbols = bytes.get(symbols..)?;
    (0..count)
        .map(|index| {
            let entry = table.checked_add(index.checked_mul(entry_bytes)?)?;
            let low = number(entry)?;
            let (ordinal, weak, name) = if format == 3 {
                // 16 bits, the weak bit, 15 bits of nothing, 32 bits.
                let [first, second, ..] = low.to_le_bytes();
                let ordinal = i64::from(i16::from_le_bytes([first, second]));
                (ordinal, low & 0x1_0000 != 0, size(entry + 4)?)
            } else {
                let [first, ..] = low.to_le_bytes();
                (
                    i64::from(i8::from_le_bytes([first])),
                    low & 0x100 != 0,
                    usize::try_from(low >> 9).ok()?,
                )
            };
            let name = Reader { bytes: symbols.get(name..)? }.text()?;
            Some(Import { name, ordinal, weak })
        })
        .collect()
}

/// Names in an exports trie. `None` if it is damaged.
pub(super) fn exports(trie: &[u8]) -> Option<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    if trie.is_empty() {
        return Some(names);
    }
    let mut open = vec![(0_usize, String::new())];
    // Each node takes two bytes at least; more visits than bytes means a loop.
    for _ in 0..trie.len() {
        let Some((at, name)) = open.pop() else {
            return Some(names);
        };
        let mut reader = Reader { bytes: trie.get(at..)? };
        let terminal = usize::try_from(reader.uleb()?).ok()?;
        if terminal > 0 {
            names.insert(name.clone());
        }
        reader.bytes = reader.bytes.get(terminal..)?;
        for _ in 0..reader.byte()? {
            let edge = reader.text()?;
            let child = usize::try_from(reader.uleb()?).ok()?;
            open.push((child, format!("{name}{edge}")));
        }
    }
    open.is_empty().then_some(names)
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    /// An unsigned number in groups of seven bits, low first.
    fn uleb(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// Up to the next zero byte.
    fn text(&mut self) -> Option<String> {
        let end = self.bytes.iter().position(|it| *it == 0)?;
        let (text, rest) = self.bytes.split_at_checked(end)?;
        self.bytes = rest.get(1..)?;
        String::from_utf8(text.to_vec()).ok()
    }
}
