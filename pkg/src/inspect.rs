//! Reads a package again, by readers that others wrote (apple-xar, apple-flat-package, apple-bom,
//! cpio-archive), and holds every part against every other.
//!
//! No byte of the file is left unlooked at: the header's fields are compared, the table of contents has its
//! checksum in the heap, and the heap has no gap between members, each of which has checksums of its own.

use std::io::Cursor;

use anyhow::{Context, Result, ensure};
use apple_flat_package::{
    component_package::{ComponentPackageReader, CpioReader},
    package_info::Script,
};
use apple_xar::{
    reader::XarReader,
    table_of_contents::{ChecksumType, File, FileChecksum, FileType, TableOfContents},
};
use flate2::read::ZlibDecoder;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{distribution, layout, xar};

mod container;
mod tree;

pub use tree::Row;

/// What a package holds, once all of it was found in order.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// SHA-256 of the whole file, in hex.
    pub sha256: String,
    /// Bytes of the whole file.
    pub size_bytes: u64,
    /// Whether it carries a signature. `pkgutil --check-signature` on a Mac says whose.
    pub signed: bool,
    /// Whether a notary's ticket is stapled to it. `stapler validate` on a Mac says whether it holds.
    pub stapled: bool,
    /// By which `pkgutil` knows it.
    pub identifier: String,
    /// As the Installer compares it.
    pub version: String,
    /// What the archive holds.
    pub members: Vec<Member>,
    /// What is installed.
    pub payload: Vec<Row>,
    /// What the Installer runs.
    pub scripts: Vec<Row>,
}

/// A file in the archive.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Member {
    /// Path in the archive.
    pub path: String,
    /// Bytes, decoded.
    pub size_bytes: u64,
    /// SHA-256, decoded, in hex.
    pub sha256: String,
}

/// Looks at a whole package.
///
/// # Errors
/// At the first thing that is not as it must be; the message names it.
pub fn inspect(bytes: &[u8]) -> Result<Report> {
    let archive = container::open(bytes)?;
    let members: Vec<Member> = archive
        .files
        .iter()
        .map(|(path, contents)| Member {
            path: path.clone(),
            size_bytes: contents.len() as u64,
            sha256: sha256(contents),
        })
        .collect();
    let names: Vec<&str> = members.iter().map(|member| member.path.as_str()).collect();
    ensure!(names == MEMBERS, "the archive holds {names:?}, not {MEMBERS:?}");
    let part = |name: &str| {
        let path = format!("{}/{name}", distribution::COMPONENT);
        archive.files.iter().find(|(found, _)| *found == path).map(|(_, contents)| contents.clone())
    };
    let component = ComponentPackageReader::from_file_data(
        part("Bom"),
        part("PackageInfo"),
        part("Payload"),
        part("Scripts"),
    )
    .context("the component can't be read")?;
    let payload = tree::rows(component.payload_reader()?.context("there is no payload")?)
        .context("the payload")?;
    let scripts = tree::rows(component.scripts_reader()?.context("there are no scripts")?)
        .context("the scripts")?;
    tree::check_bom(component.bom().context("there is no Bom")?, &payload).context("the Bom")?;
    let info = component.package_info().context("there is no PackageInfo")?;
    check_info(info, &payload)?;
    check_scripts(info, &scripts)?;
    Ok(Report {
        sha256: sha256(bytes),
        size_bytes: bytes.len() as u64,
        signed: archive.signed,
        stapled: archive.stapled,
        identifier: info.identifier.clone(),
        version: info.version.clone(),
        members,
        payload,
        scripts,
    })
}

/// Every file of the archive, in its order.
const MEMBERS: [&str; 8] = [
    "Distribution",
    "Resources/welcome.html",
    "Resources/LICENSE.txt",
    "Resources/conclusion.html",
    "tandem.pkg/Bom",
    "tandem.pkg/PackageInfo",
    "tandem.pkg/Payload",
    "tandem.pkg/Scripts",
];

fn check_info(info: &apple_flat_package::PackageInfo, payload: &[Row]) -> Result<()> {
    ensure!(info.identifier == layout::PACKAGE_ID, "its identifier is {}", info.identifier);
    ensure!(info.auth == "root", "it asks for {:?}, not for root", info.auth);
    ensure!(info.install_location.as_deref() == Some("/"), "it does not install to /");
    ensure!(info.relocatable == Some(false), "it is relocatable");
    let numbers = info.payload.as_ref().context("PackageInfo counts nothing")?;
    ensure!(
        numbers.number_of_files == payload.len() as u64,
        "PackageInfo counts {} files, the payload has {}",
        numbers.number_of_files,
        payload.len()
    );
    let bytes: u64 = payload.iter().filter(|row| row.is_file()).map(|row| row.size_bytes).sum();
    ensure!(
        numbers.install_kbytes == bytes.div_ceil(1024),
        "PackageInfo says {} KiB, the payload has {bytes} bytes",
        numbers.install_kbytes
    );
    Ok(())
}

/// The scripts that PackageInfo names are there, run by root, and no others.
fn check_scripts(info: &apple_flat_package::PackageInfo, scripts: &[Row]) -> Result<()> {
    let named = info.scripts.scripts.iter().map(|script| match script {
        Script::PreInstall(script) => script.file.as_str(),
        Script::PostInstall(script) => script.file.as_str(),
    });
    let mut named: Vec<&str> = named.collect();
    named.sort_unstable();
    let files = scripts.iter().filter(|row| row.is_file());
    let mut found: Vec<&str> = files.clone().map(|row| row.path.as_str()).collect();
    found.sort_unstable();
    ensure!(named == found, "PackageInfo names the scripts {named:?}; there are {found:?}");
    for row in files {
        ensure!(row.mode == "0755", "{} has mode {}", row.path, row.mode);
    }
    Ok(())
}

impl Report {
    /// The report for people: one line a path.
    #[must_use]
    pub fn text(&self) -> String {
        let yes_no = |yes| if yes { "yes" } else { "no" };
        let mut text = format!(
            "{} {}, {} bytes\nsha256   {}\nsigned   {}\nstapled  {}\n",
            self.identifier,
            self.version,
            self.size_bytes,
            self.sha256,
            yes_no(self.signed),
            yes_no(self.stapled)
        );
        text.push_str("\narchive\n");
        for member in &self.members {
            text.push_str(&format!(
                "  {} {:>11}  {}\n",
                member.sha256, member.size_bytes, member.path
            ));
        }
        for (title, rows) in [("payload", &self.payload), ("scripts", &self.scripts)] {
            text.push_str(&format!("\n{title}\n"));
            for row in rows {
                text.push_str(&format!("  {}\n", row.text()));
            }
        }
        text
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
