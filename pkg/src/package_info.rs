//! `PackageInfo`: what the Installer must know of the one component.

use anyhow::Result;

use crate::{layout, payload::Payload, xml::Element};

/// KiB on the disk as `installKBytes` counts them: all files' bytes, the last KiB begun counted whole.
#[must_use]
pub fn install_kib(payload: &Payload) -> u64 {
    payload.size_bytes().div_ceil(1024)
}

/// The document for this payload and version.
///
/// - `auth="root"`: asks for an admin's password; scripts run as root.
/// - `overwrite-permissions="true"`, as `pkgbuild` writes: folders that exist get the owner and mode of
///   the payload's, root:wheel 0755, which all of them have on a Mac as it comes. Where one belongs to
///   somebody else, `preinstall` has refused before.
/// - `relocatable="false"`: a copy elsewhere on the disk is never "upgraded" in place of the one installed.
///
/// # Errors
/// When the version holds what XML has no form for.
pub fn document(payload: &Payload, version: &str) -> Result<String> {
    let script = |name| Element::new(name).with("file", format!("./{name}"));
    Element::new("pkg-info")
        .with("overwrite-permissions", true)
        .with("relocatable", false)
        .with("identifier", layout::PACKAGE_ID)
        .with("postinstall-action", "none")
        .with("version", version)
        .with("format-version", 2)
        .with("install-location", "/")
        .with("auth", "root")
        .child(
            Element::new("payload")
                .with("numberOfFiles", payload.entries().len())
                .with("installKBytes", install_kib(payload)),
        )
        .child(Element::new("scripts").child(script("preinstall")).child(script("postinstall")))
        .document()
}
