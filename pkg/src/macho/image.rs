//! Reads one Mach-O file: its load commands and what they point to.

use std::collections::BTreeSet;

use object::Endianness;
use object::macho::{self, MachHeader64};
use object::read::macho::{LoadCommandVariant, MachHeader, Nlist};

use super::link_edit::{self, Import};
use super::signature::{self, Signature};

/// A library that an image names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// Its path, perhaps with `@rpath`.
    pub name: String,
    /// The image runs without it too.
    pub weak: bool,
}

/// One Mach-O file.
#[derive(Clone, Debug)]
pub struct Image {
    /// For arm64, and not the arm64e of Apple's own programs.
    pub is_arm64: bool,
    /// `macho::MH_EXECUTE`, `macho::MH_DYLIB` or another.
    pub file_type: u32,
    /// Flags of the header.
    pub flags: u32,
    /// `macho::PLATFORM_MACOS` or another; `None` without `LC_BUILD_VERSION`.
    pub platform: Option<u32>,
    /// The oldest macOS, as (major, minor).
    pub min_os: (u16, u8),
    /// The SDK it was linked against, as (major, minor).
    pub sdk: (u16, u8),
    /// Its own name, if a library.
    pub id: Option<String>,
    /// Libraries it names, in the order that ordinals count.
    pub libraries: Vec<Library>,
    /// Where `@rpath` leads, in order.
    pub rpaths: Vec<String>,
    /// It says where to begin.
    pub has_entry: bool,
    /// Load commands that are not of one of the kinds above nor harmless ones; by number.
    pub unexpected_commands: Vec<u32>,
    /// What dyld binds.
    pub imports: BTreeSet<Import>,
    /// What the symbol table says is undefined: also what only code refers to that the linker left out.
    pub undefined: BTreeSet<Import>,
    /// What others may bind to.
    pub exports: BTreeSet<String>,
    /// The signature, or what is wrong with it.
    pub signature: Result<Signature, String>,
}

/// Commands that say nothing about what is loaded or run.
const HARMLESS: [u32; 9] = [
    macho::LC_UUID,
    macho::LC_DYSYMTAB,
    macho::LC_SOURCE_VERSION,
    macho::LC_FUNCTION_STARTS,
    macho::LC_DATA_IN_CODE,
    macho::LC_LOAD_DYLINKER,
    macho::LC_SEGMENT_SPLIT_INFO,
    macho::LC_LINKER_OPTIMIZATION_HINT,
    macho::LC_SEGMENT_64,
];

impl Image {
    /// Reads `file`.
    ///
    /// # Errors
    /// It is no 64-bit Mach-O of one architecture, or damaged.
    pub fn parse(file: &[u8]) -> anyhow::Result<Self> {
        let header = MachHeader64::<Endianness>::parse(file, 0)
            .map_err(|error| anyhow::anyhow!("no 64-bit Mach-O of one architecture: {error}"))?;
        let endian = header.endian()?;
        let subtype = header.cpusubtype(endian) & !macho::CPU_SUBTYPE_MASK;
        let mut image = Self {
            is_arm64: header.cputype(endian) == macho::CPU_TYPE_ARM64
                && subtype == macho::CPU_SUBTYPE_ARM64_ALL,
            file_type: header.filetype(endian),
            flags: header.flags(endian),
            platform: None,
            min_os: (0, 0),
            sdk: (0, 0),
            id: None,
            libraries: Vec::new(),
            rpaths: Vec::new(),
            has_entry: false,
            unexpected_commands: Vec::new(),
            imports: BTreeSet::new(),
            undefined: BTreeSet::new(),
            exports: BTreeSet::new(),
            signature: Err("there is no signature".to_owned()),
        };
        let mut commands = header.load_commands(endian, file, 0)?;
        while let Some(command) = commands.next()? {
            let text = |it| anyhow::Ok(String::from_utf8(command.string(endian, it)?.to_vec())?);
            match command.variant()? {
                LoadCommandVariant::Dylib(it) => image.libraries.push(Library {
                    name: text(it.dylib.name)?,
                    weak: command.cmd() == macho::LC_LOAD_WEAK_DYLIB,
                }),
                LoadCommandVariant::IdDylib(it) => image.id = Some(text(it.dylib.name)?),
                LoadCommandVariant::Rpath(it) => image.rpaths.push(text(it.path)?),
                LoadCommandVariant::EntryPoint(_) => image.has_entry = true,
                LoadCommandVariant::BuildVersion(it) => {
                    image.platform = Some(it.platform.get(endian));
                    image.min_os = version(it.minos.get(endian));
                    image.sdk = version(it.sdk.get(endian));
                }
                LoadCommandVariant::Symtab(it) => {
                    let symbols = it.symbols::<MachHeader64<_>, _>(endian, file)?;
                    for symbol in symbols.iter().filter(|it| !it.is_stab() && it.is_undefined()) {
                        let name = symbol.name(endian, symbols.strings())?;
                        image.undefined.insert(Import {
                            name: String::from_utf8(name.to_vec())?,
                            ordinal: match symbol.library_ordinal(endian) {
                                macho::EXECUTABLE_ORDINAL => -1,
                                macho::DYNAMIC_LOOKUP_ORDINAL => -2,
                                it => i64::from(it),
                            },
                            weak: symbol.n_desc(endian) & macho::N_WEAK_REF != 0,
                        });
                    }
                }
                LoadCommandVariant::DyldInfo(it) => image.read_dyld_info(file, it, endian)?,
                LoadCommandVariant::LinkeditData(it) => {
                    let at = it.dataoff.get(endian);
                    let data = range(file, at, it.datasize.get(endian))?;
                    image.read_link_edit(file, command.cmd(), at, data)?;
                }
                _ if HARMLESS.contains(&command.cmd()) => {}
                _ => image.unexpected_commands.push(command.cmd()),
            }
        }
        Ok(image)
    }

    fn read_dyld_info(
        &mut self,
        file: &[u8],
        info: &macho::DyldInfoCommand<Endianness>,
        endian: Endianness,
    ) -> anyhow::Result<()> {
        for (offset, size) in
            [(info.bind_off, info.bind_size), (info.lazy_bind_off, info.lazy_bind_size)]
        {
            let opcodes = range(file, offset.get(endian), size.get(endian))?;
            let imports = link_edit::bind_opcodes(opcodes);
            self.imports.extend(imports.ok_or_else(|| damaged("binding opcodes"))?);
        }
        let trie = range(file, info.export_off.get(endian), info.export_size.get(endian))?;
        self.exports = link_edit::exports(trie).ok_or_else(|| damaged("exports"))?;
        Ok(())
    }

    fn read_link_edit(
        &mut self,
        file: &[u8],
        command: u32,
        at: u32,
        data: &[u8],
    ) -> anyhow::Result<()> {
        match command {
            macho::LC_CODE_SIGNATURE => {
                self.signature = signature::verify(file, usize::try_from(at)?, data);
            }
            macho::LC_DYLD_CHAINED_FIXUPS => {
                let imports = link_edit::chained_imports(data);
                self.imports = imports.ok_or_else(|| damaged("chained fixups"))?;
            }
            macho::LC_DYLD_EXPORTS_TRIE => {
                self.exports = link_edit::exports(data).ok_or_else(|| damaged("exports"))?;
            }
            _ if HARMLESS.contains(&command) => {}
            _ => self.unexpected_commands.push(command),
        }
        Ok(())
    }
}

/// `xxxx.yy.zz` in nibbles.
fn version(number: u32) -> (u16, u8) {
    let [_, minor, low, high] = number.to_le_bytes();
    (u16::from_le_bytes([low, high]), minor)
}

fn range(file: &[u8], offset: u32, size: u32) -> anyhow::Result<&[u8]> {
    let (offset, size) = (usize::try_from(offset)?, usize::try_from(size)?);
    file.get(offset..)
        .and_then(|it| it.get(..size))
        .ok_or_else(|| anyhow::anyhow!("a load command points past the end of the file"))
}

fn damaged(what: &str) -> anyhow::Error {
    anyhow::anyhow!("the {what} are damaged or of a form that is not known")
}
