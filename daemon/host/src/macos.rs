//! macOS: memory, processes and changes of links by the system's own calls. Of the invariants, what
//! both platforms share is read; the rest says that it is not.

// What invariants are read and mended by: not called yet.
#[allow(dead_code)]
mod bridge;
#[allow(dead_code)]
mod interface;
mod link_watch;
mod memory;
mod process;
#[allow(dead_code)]
mod registry;
mod socket;
#[allow(dead_code)]
pub(crate) mod sysctl;

use std::{io, path::PathBuf};

use tandem_policy::{
    Repair, ThunderboltPort,
    invariant::{Found, Invariant, Unknown},
    settings::Host,
};

pub use link_watch::LinkWatch;
pub use memory::memory;
pub use process::{command_line, cpu_time_ms, exited, footprint_bytes, is_running};

use crate::{MendError, disk, limits};

/// Reads one invariant: what was found, and where.
///
/// # Errors
/// Why it is not known.
pub fn read(
    invariant: Invariant,
    _host: &Host,
    disks: &[PathBuf],
) -> Result<(Found, String), Unknown> {
    match invariant {
        Invariant::DiskSpace => disk::least_free(disks),
        Invariant::OpenFiles => limits::open_files(),
        _ => Err(Unknown::Failed("not read yet on this platform".into())),
    }
}

/// Makes one setting. Making it again does no harm.
///
/// # Errors
/// What was to be set, and why it was not.
pub fn mend(repair: &Repair) -> Result<(), MendError> {
    match repair {
        Repair::OpenFiles { count } => limits::raise_open_files(*count),
        other => Err(MendError::system(format!("{other:?}"), io::ErrorKind::Unsupported.into())),
    }
}

/// Gives back memory that only the start needed: nothing here, where the kernel compresses and drops
/// what is not used by itself.
pub const fn release_start_memory() {}

/// Every Thunderbolt port. Starts tools and takes seconds.
///
/// # Errors
/// Why they are not known.
pub fn thunderbolt_ports() -> Result<Vec<ThunderboltPort>, Unknown> {
    Err(Unknown::Failed("not read yet on this platform".into()))
}
