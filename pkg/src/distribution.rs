//! `Distribution`: what the Installer asks of the Mac, and the pages it shows (Apple's "Distribution
//! Definition XML Schema Reference" and "Installer JavaScript Reference").

use anyhow::Result;

use crate::{layout, xml::Element};

/// Name of the component inside the archive.
pub const COMPONENT: &str = "tandem.pkg";
/// Least version of macOS: the executable's own, and the config's `host.os_version_min`.
pub const OS_VERSION_MIN: &str = "26.2";
/// The only architecture there are executables for.
pub const ARCHITECTURE: &str = "arm64";
/// Least memory. The config leaves 16 GiB to the system where it sets how much a GPU may wire, so with
/// less there is nothing to serve from; Macs with Thunderbolt 5 begin at 24 GiB.
pub const MEMORY_MIN_BYTES: u64 = 16 << 30;
/// Least free disk space beside the package's own: the config's `host.disk_free_min_mib`, without which
/// the supervisor starts no engine.
pub const DISK_SPARE_KIB: u64 = 2048 * 1024;

/// What the pages are called in `Resources`.
pub const WELCOME: &str = "welcome.html";
/// The licence's page.
pub const LICENSE: &str = "LICENSE.txt";
/// The last page.
pub const CONCLUSION: &str = "conclusion.html";

/// KiB that must be free: an upgrade keeps a copy of the version before until the new one runs, and the
/// Installer unpacks beside what is there, so twice the package's own and [`DISK_SPARE_KIB`].
#[must_use]
pub fn disk_min_kib(install_kib: u64) -> u64 {
    install_kib.saturating_mul(2).saturating_add(DISK_SPARE_KIB)
}

/// The document for a component of this version and size.
///
/// # Errors
/// When the version holds what XML has no form for.
pub fn document(version: &str, install_kib: u64) -> Result<String> {
    let page = |name, file: &str, kind: &str| {
        Element::new(name).with("file", file).with("mime-type", kind)
    };
    let os_versions = Element::new("allowed-os-versions")
        .child(Element::new("os-version").with("min", OS_VERSION_MIN));
    let component = Element::new("pkg-ref").with("id", layout::PACKAGE_ID);
    Element::new("installer-gui-script")
        .with("minSpecVersion", 2)
        .child(Element::new("title").text("Tandem"))
        .child(Element::new("product").with("id", layout::PACKAGE_ID).with("version", version))
        .child(page("welcome", WELCOME, "text/html"))
        .child(page("license", LICENSE, "text/plain"))
        .child(page("conclusion", CONCLUSION, "text/html"))
        .child(
            Element::new("options")
                .with("customize", "never")
                .with("require-scripts", false)
                .with("hostArchitectures", ARCHITECTURE),
        )
        .child(
            // Paths are absolute, and the job is one of the system: no other volume, no home folder.
            Element::new("domains")
                .with("enable_anywhere", false)
                .with("enable_currentUserHome", false)
                .with("enable_localSystem", true),
        )
        .child(Element::new("installation-check").with("script", "memory_suffices()"))
        .child(Element::new("volume-check").with("script", "disk_suffices()").child(os_versions))
        .child(Element::new("script").text(script(install_kib)))
        .child(
            Element::new("choices-outline").child(Element::new("line").with("choice", "default")),
        )
        .child(
            Element::new("choice")
                .with("id", "default")
                .with("title", "Tandem")
                .with("visible", false)
                .child(component.clone()),
        )
        .child(
            component
                .with("version", version)
                .with("installKBytes", install_kib)
                .with("onConclusion", "none")
                .text(format!("#{COMPONENT}")),
        )
        .document()
}

/// The checks. What can't be read does not stop an installation, it is only written to the log: the
/// supervisor looks at memory and disk itself before every start, and there unknown is not healthy.
fn script(install_kib: u64) -> String {
    let disk_min_kib = disk_min_kib(install_kib);
    format!(
        "
function refuse(title, message) {{
    my.result.type = 'Fatal';
    my.result.title = title;
    my.result.message = message;
    return false;
}}

function gib(bytes) {{
    return (bytes / 1073741824).toFixed(1) + ' GiB';
}}

function memory_suffices() {{
    var found = Number(system.sysctl('hw.memsize'));
    if (!(found > 0)) {{
        system.log('Tandem: hw.memsize is unknown; not checked.');
        return true;
    }}
    if (found < {MEMORY_MIN_BYTES}) {{
        return refuse('Not enough memory', 'Tandem needs at least ' +
            gib({MEMORY_MIN_BYTES}) + ' of memory; this Mac has ' + gib(found) + '.');
    }}
    return true;
}}

function disk_suffices() {{
    var found = my.target.availableKilobytes;
    if (typeof found !== 'number' || !(found >= 0)) {{
        system.log('Tandem: the free space of the volume is unknown; not checked.');
        return true;
    }}
    if (found < {disk_min_kib}) {{
        return refuse('Not enough space', 'Tandem needs ' + gib({disk_min_kib} * 1024) +
            ' of free space to be installed and to run; this volume has ' +
            gib(found * 1024) + '.');
    }}
    return true;
}}
"
    )
}
