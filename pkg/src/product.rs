//! The whole package, put together in memory.
//!
//! ```text
//!   Distribution   Resources/{welcome.html, LICENSE.txt, conclusion.html}
//!   tandem.pkg/{Bom, PackageInfo, Payload, Scripts}
//! ```

use std::ffi::OsStr;

use anyhow::{Context, Result, ensure};

use crate::{
    bom, cpio, distribution, package_info,
    payload::{MODE_RUN, Payload, file},
    sources::Sources,
    xar::{self, Encoding, Member},
};

/// Version of the package: that of every crate of this tree.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Time of everything in the package, where nothing else is asked for: 2026-01-01 in UTC. Fixed, so that
/// the same files make the same package, byte for byte.
pub const TIME_S: u32 = 1_767_225_600;

/// The package's file name.
#[must_use]
pub fn file_name(version: &str) -> String {
    format!("tandem-{version}-{}.pkg", distribution::ARCHITECTURE)
}

/// The time that `SOURCE_DATE_EPOCH` asks for (reproducible-builds.org), in seconds since 1970;
/// [`TIME_S`] without one.
///
/// # Errors
/// When it is not a number of seconds from 1970 to 2106, which is as far as a Bom counts.
pub fn time_s(source_date_epoch: Option<&OsStr>) -> Result<u32> {
    let Some(asked) = source_date_epoch else { return Ok(TIME_S) };
    let number = asked.to_str().and_then(|text| text.parse().ok());
    number.with_context(|| format!("SOURCE_DATE_EPOCH is {asked:?}, not a number of seconds"))
}

/// The unsigned package of this payload, as bytes.
///
/// # Errors
/// When a part can't be made: see there.
pub fn package(
    payload: &Payload,
    sources: &Sources,
    version: &str,
    time_s: u32,
) -> Result<Vec<u8>> {
    // What Installers compare: numbers and dots. Cargo's pre-release and build parts are neither.
    let numbers = version.split('.').all(|part| part.parse::<u32>().is_ok());
    ensure!(numbers, "version {version:?}: the Installer compares numbers with dots between only");
    sources.check()?;
    let scripts = Payload::new([
        file("/preinstall", MODE_RUN, sources.preinstall.clone()),
        file("/postinstall", MODE_RUN, sources.postinstall.clone()),
    ])?;
    let info = package_info::document(payload, version)?;
    let distribution = distribution::document(version, package_info::install_kib(payload))?;
    let members = [
        packed("Distribution", distribution.into_bytes()),
        Member::Folder {
            name: "Resources".to_owned(),
            members: vec![
                packed(distribution::WELCOME, sources.welcome.clone()),
                packed(distribution::LICENSE, sources.license.clone()),
                packed(distribution::CONCLUSION, sources.conclusion.clone()),
            ],
        },
        Member::Folder {
            name: distribution::COMPONENT.to_owned(),
            members: vec![
                packed("Bom", bom::bom(payload, time_s)?),
                packed("PackageInfo", info.into_bytes()),
                stored("Payload", cpio::archive(payload, time_s)?),
                stored("Scripts", cpio::archive(&scripts, time_s)?),
            ],
        },
    ];
    xar::archive(&members, time_s)
}

fn packed(name: &str, contents: Vec<u8>) -> Member {
    Member::File { name: name.to_owned(), contents, encoding: Encoding::Deflated }
}

/// For what is gzipped already.
fn stored(name: &str, contents: Vec<u8>) -> Member {
    Member::File { name: name.to_owned(), contents, encoding: Encoding::Stored }
}
