//! Checks that an executable is one that a Mac will load: what can be known of it without a Mac.
//!
//! Two rules make it more than a look at the header. Every symbol that dyld will bind is looked up in the
//! library that it will be bound to: in the file itself for the libraries that are shipped, in `.tbd` stubs
//! for the Mac's own. And every page's hash in the code signature is computed again.

mod image;
mod link_edit;
mod signature;
mod tbd;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::Context;
use object::macho::{MH_DYLIB, MH_EXECUTE, MH_PIE, MH_TWOLEVEL, PLATFORM_MACOS};

pub use self::image::{Image, Library};
pub use self::link_edit::{Import, SELF, WEAK_LOOKUP};
pub use self::signature::{Signature, verify as verify_signature};
pub use self::tbd::{Stub, parse as parse_stub};

use crate::cross::{Options, Sign, Tools};

/// Where `@rpath` of the executable leads: its own folder.
pub const RPATH: &str = "@loader_path";

/// The Mac's own libraries that the executable may name, by install name, with their stub's file.
pub const SYSTEM_LIBRARIES: [(&str, &str); 6] = [
    ("/usr/lib/libSystem.B.dylib", "libSystem.tbd"),
    ("/usr/lib/libc++.1.dylib", "libc++.tbd"),
    ("/usr/lib/libobjc.A.dylib", "libobjc.tbd"),
    ("/usr/lib/libiconv.2.dylib", "libiconv.tbd"),
    (
        "/System/Library/Frameworks/CoreFoundation.framework/Versions/A/CoreFoundation",
        "CoreFoundation.framework/CoreFoundation.tbd",
    ),
    ("/System/Library/Frameworks/IOKit.framework/Versions/A/IOKit", "IOKit.framework/IOKit.tbd"),
];

/// MLX's libraries, shipped beside the executable. `libjaccl.dylib` is loaded by `libmlx.dylib`.
pub const SHIPPED_LIBRARIES: [&str; 2] = ["libjaccl.dylib", "libmlx.dylib"];

/// What a product must be like.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The oldest macOS, as (major, minor).
    pub min_os: (u16, u8),
    /// All run paths of the executable.
    pub rpaths: Vec<String>,
    /// Symbols of each library that the executable may name, by install name.
    pub libraries: BTreeMap<String, BTreeSet<String>>,
    /// Signed by somebody, with the hardened runtime; else ad hoc.
    pub identity: bool,
}

impl Expected {
    /// Of what [`crate::cross::build`] makes.
    ///
    /// # Errors
    /// A stub is missing or is none.
    pub fn product(options: &Options) -> anyhow::Result<Self> {
        let interfaces = Tools::find(options)?.interfaces(options);
        let mut libraries = BTreeMap::new();
        for (install_name, file) in SYSTEM_LIBRARIES {
            let mut folders = interfaces.lib.clone();
            folders.push(interfaces.frameworks.clone());
            let Some(path) = folders.iter().map(|it| it.join(file)).find(|it| it.exists()) else {
                // Not stubbed because not used: then nothing may name it.
                continue;
            };
            let stub = read_stub(&path)?;
            anyhow::ensure!(
                stub.install_name == install_name,
                "{} is a stub of {}",
                path.display(),
                stub.install_name
            );
            let mut symbols = stub.symbols;
            for other in &stub.reexported {
                let name = Path::new(other).file_name().unwrap_or_default();
                for folder in &interfaces.lib {
                    let path = folder.join(name).with_extension("tbd");
                    if path.exists() {
                        symbols.extend(read_stub(&path)?.symbols);
                    }
                }
            }
            libraries.insert(install_name.to_owned(), symbols);
        }
        Ok(Self {
            min_os: options.min_os,
            rpaths: vec![RPATH.to_owned()],
            libraries,
            identity: options.sign != Sign::AdHoc,
        })
    }
}

fn read_stub(path: &Path) -> anyhow::Result<Stub> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    parse_stub(&text).with_context(|| format!("{} is no stub of a library", path.display()))
}

/// What was found, file by file.
#[derive(Clone, Debug, Default)]
pub struct Report {
    files: Vec<(String, Vec<String>, Vec<String>)>,
}

impl Report {
    /// Everything that is wrong, each with its file's name; empty if nothing is.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        self.files
            .iter()
            .flat_map(|(name, _, faults)| faults.iter().map(move |it| format!("{name}: {it}")))
            .collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, facts, faults) in &self.files {
            writeln!(f, "{name}")?;
            for fact in facts {
                writeln!(f, "  {fact}")?;
            }
            for fault in faults {
                writeln!(f, "  WRONG: {fault}")?;
            }
        }
        match self.faults().len() {
            0 => writeln!(f, "ok"),
            count => writeln!(f, "{count} wrong"),
        }
    }
}

/// Checks `executable` and MLX's libraries beside it.
///
/// # Errors
/// A file can't be read or is no Mach-O at all. What else is wrong is in the report.
pub fn check_product(executable: &Path, expected: &Expected) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let mut expected = expected.clone();
    let folder = executable.parent().unwrap_or(Path::new("."));
    for name in SHIPPED_LIBRARIES {
        let path = folder.join(name);
        let image = read(&path)?;
        let faults = check_library(&image, name, &expected);
        expected.libraries.insert(format!("@rpath/{name}"), image.exports.clone());
        report.files.push((name.to_owned(), facts(&image), faults));
    }
    let image = read(executable)?;
    let name = executable.file_name().unwrap_or_default();
    report.files.push((
        name.to_string_lossy().into_owned(),
        facts(&image),
        check_executable(&image, &expected),
    ));
    Ok(report)
}

fn read(path: &Path) -> anyhow::Result<Image> {
    // An executable is some 30 MB; it is the builder's own output, or named by who calls.
    let content = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    Image::parse(&content).with_context(|| format!("{}", path.display()))
}

fn facts(image: &Image) -> Vec<String> {
    let mut facts = vec![format!(
        "{}, for macOS {}.{} and newer, SDK {}.{}",
        if image.is_arm64 { "arm64" } else { "not arm64" },
        image.min_os.0,
        image.min_os.1,
        image.sdk.0,
        image.sdk.1
    )];
    for (index, library) in image.libraries.iter().enumerate() {
        let ordinal = index as i64 + 1;
        let count = image.imports.iter().filter(|it| it.ordinal == ordinal);
        facts.push(format!("{}: {} symbols", library.name, count.count()));
    }
    facts.extend(image.rpaths.iter().map(|it| format!("run path {it}")));
    if let Ok(signature) = &image.signature {
        facts.push(format!(
            "signature of {:?}: {}{}, {} pages",
            signature.identifier,
            if signature.ad_hoc { "ad hoc" } else { "by an identity" },
            if signature.hardened { ", hardened runtime" } else { "" },
            signature.pages
        ));
    }
    facts
}

/// What is wrong with the executable.
#[must_use]
pub fn check_executable(image: &Image, expected: &Expected) -> Vec<String> {
    let mut faults = check_any(image, expected);
    if image.file_type != MH_EXECUTE || !image.has_entry {
        faults.push("it is no executable".to_owned());
    }
    if image.flags & MH_PIE == 0 {
        faults.push("it can't be loaded at a random address, as arm64 needs".to_owned());
    }
    if image.min_os != expected.min_os {
        let (major, minor) = expected.min_os;
        faults.push(format!("its oldest macOS is not {major}.{minor}"));
    }
    if image.rpaths != expected.rpaths {
        faults.push(format!("its run paths are {:?}, not {:?}", image.rpaths, expected.rpaths));
    }
    if !image.libraries.iter().any(|it| it.name == "@rpath/libmlx.dylib") {
        faults.push("it does not load @rpath/libmlx.dylib".to_owned());
    }
    for library in &image.libraries {
        if !expected.libraries.contains_key(&library.name) {
            faults.push(format!("it loads {}, which is not expected", library.name));
        }
    }
    // One symbol in both is said once.
    let named: BTreeSet<(&str, i64)> =
        image.imports.union(&image.undefined).map(|it| (it.name.as_str(), it.ordinal)).collect();
    for (name, ordinal) in named {
        faults.extend(check_import(image, name, ordinal, expected));
    }
    faults
}

fn check_import(image: &Image, name: &str, ordinal: i64, expected: &Expected) -> Option<String> {
    let index = match ordinal {
        WEAK_LOOKUP => return None,
        it if it <= SELF => return Some(format!("{name} is not bound to one library")),
        it => usize::try_from(it - 1).ok(),
    };
    let library = index.and_then(|it| image.libraries.get(it));
    let Some(library) = library else {
        return Some(format!("{name} is bound to a library that is not named"));
    };
    // That the library itself is not expected is said once, not for each symbol.
    let symbols = expected.libraries.get(&library.name)?;
    (!symbols.contains(name)).then(|| format!("{name} is not in {}", library.name))
}

/// What is wrong with the library `name` of MLX.
fn check_library(image: &Image, name: &str, expected: &Expected) -> Vec<String> {
    let mut faults = check_any(image, expected);
    if image.file_type != MH_DYLIB {
        faults.push("it is no library".to_owned());
    }
    let id = format!("@rpath/{name}");
    if image.id.as_deref() != Some(&id) {
        faults.push(format!("it names itself {:?}, not {id}", image.id));
    }
    if image.min_os > expected.min_os {
        faults.push("it needs a newer macOS than the executable".to_owned());
    }
    for library in &image.libraries {
        let shipped = SHIPPED_LIBRARIES.iter().any(|it| library.name == format!("@rpath/{it}"));
        let of_system = ["/usr/lib/", "/System/Library/Frameworks/"]
            .iter()
            .any(|it| library.name.starts_with(it));
        if !shipped && !of_system {
            faults
                .push(format!("it loads {}, which is neither shipped nor the Mac's", library.name));
        }
        let symbols = expected.libraries.get(&library.name);
        if shipped {
            faults.extend(check_imports_of(image, &library.name, symbols));
        }
    }
    faults
}

/// What `image` binds to the shipped library `name` but `symbols` lacks.
fn check_imports_of(image: &Image, name: &str, symbols: Option<&BTreeSet<String>>) -> Vec<String> {
    let bound_there = |import: &&Import| {
        let index = usize::try_from(import.ordinal - 1).ok();
        index.and_then(|it| image.libraries.get(it)).is_some_and(|it| it.name == name)
    };
    image
        .imports
        .iter()
        .filter(bound_there)
        .filter(|it| symbols.is_none_or(|all| !all.contains(&it.name)))
        .map(|it| format!("{} is not in {name}", it.name))
        .collect()
}

fn check_any(image: &Image, expected: &Expected) -> Vec<String> {
    let mut faults = Vec::new();
    if !image.is_arm64 {
        faults.push("it is not for arm64".to_owned());
    }
    if image.platform != Some(PLATFORM_MACOS) {
        faults.push("it is not for macOS".to_owned());
    }
    if image.flags & MH_TWOLEVEL == 0 {
        faults.push("its symbols are bound to any library, not to a named one".to_owned());
    }
    for command in &image.unexpected_commands {
        faults.push(format!("it has the unexpected load command {command:#x}"));
    }
    match &image.signature {
        Err(fault) => faults.push(fault.clone()),
        Ok(it) if !expected.identity && (!it.ad_hoc || it.has_certificates) => {
            faults.push("it is signed by an identity, but was to be signed ad hoc".to_owned());
        }
        Ok(it) if expected.identity && (it.ad_hoc || !it.has_certificates || !it.hardened) => {
            faults.push("it is not signed by an identity with the hardened runtime".to_owned());
        }
        Ok(_) => {}
    }
    faults
}
