//! From files to a package on the disk: read, put together, look at it again, sign if asked, name it.

use std::{
    env,
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use crate::{
    cross::Built,
    inspect::{self, Report},
    payload::{self, Payload},
    product::{self, VERSION},
    sign::{self, Signing},
    sources::Sources,
};

/// Most bytes of a package that is looked at. Ours has about 0.1 GB.
const PACKAGE_MAX_BYTES: u64 = 2 << 30;

/// Makes the package in a folder, with the sources of the checkout at `root`; its path. A package of that
/// name is replaced, and only by one that was found in order.
///
/// # Errors
/// When a file is missing or not as it must be, or a tool for signing fails.
pub fn pack(
    built: &Built,
    root: &Path,
    folder: &Path,
    signing: Option<&Signing>,
) -> Result<PathBuf> {
    let sources = Sources::read(root)?;
    let payload = Payload::of(built, &sources)?;
    let time_s = product::time_s(env::var_os("SOURCE_DATE_EPOCH").as_deref())?;
    let bytes = product::package(&payload, &sources, VERSION, time_s)?;
    inspect::inspect(&bytes).context("the package just made")?;

    fs::create_dir_all(folder).with_context(|| format!("{} can't be made", folder.display()))?;
    // Beside where the package will be, because a rename does not cross file systems.
    let work = tempfile::Builder::new()
        .prefix(".tandem-pkg-")
        .tempdir_in(folder)
        .with_context(|| format!("{} can't be written to", folder.display()))?;
    let mut made = work.path().join("unsigned.pkg");
    fs::write(&made, &bytes).context("the package can't be written")?;
    if let Some(signing) = signing {
        let signed = work.path().join("signed.pkg");
        sign::run(&signing.package(&made, &signed))?;
        for command in signing.notarize(&signed) {
            sign::run(&command)?;
        }
        let report = look(&signed).context("the signed package")?;
        ensure!(report.signed, "the tool for signing left no signature");
        made = signed;
    }
    // Whatever the umask, as whoever copies it to a Mac must read it.
    fs::set_permissions(&made, Permissions::from_mode(0o644))?;
    File::open(&made)?.sync_all()?;
    let path = folder.join(product::file_name(VERSION));
    fs::rename(&made, &path).with_context(|| format!("{} can't be written", path.display()))?;
    Ok(path)
}

/// Looks at a package on the disk.
///
/// # Errors
/// When it can't be read, or is not in order.
pub fn look(path: &Path) -> Result<Report> {
    let bytes = payload::read(path, PACKAGE_MAX_BYTES)?;
    inspect::inspect(&bytes).with_context(|| path.display().to_string())
}
