//! macOS: what is decided in [`crate::mac`], done by the system's own calls and tools.

mod bridge;
mod interface;
mod link_watch;
mod memory;
mod process;
mod registry;
mod socket;
pub(crate) mod sysctl;
mod tools;

use std::{io, path::PathBuf};

use tandem_policy::{
    Repair, ThunderboltPort,
    invariant::{Found, Invariant, Unknown},
    settings::Host,
};

pub use link_watch::LinkWatch;
pub use memory::memory;
pub(crate) use process::gain_no_rights;
pub use process::{command_line, exited, identity, is_running};

use crate::{
    MendError,
    mac::{accelerator::Accelerator, mend as mending, ports, read as reading},
    probes::TOOL_TIMEOUT_MS,
};
use tools::System;

/// Of five parts of a probe's time those that its tools may take: the rest is for ending one that is
/// late, before the probe counts as hung and is never run again.
const TOOL_PARTS: u64 = 4;

/// Longest time of all tools of one repair: the thread that makes it also reads what is read often,
/// which gets too old after 20 s with the default periods.
const MEND_TIMEOUT_MS: u64 = 15_000;

/// Longest time of the tools that list the Thunderbolt ports: the report of all buses may take 30 s.
const PORTS_TIMEOUT_MS: u64 = 30_000 + 2 * TOOL_TIMEOUT_MS;

/// Reads one invariant: what was found, and where. Takes well under a millisecond for those that are
/// not slow; the others start tools and end within the time of a probe. Only the clock needs root.
///
/// `disks` are the folders whose file systems must have room. Units are the invariant's own.
///
/// # Errors
/// Why it is not known; a link that is not there is unknown too.
pub fn read(
    invariant: Invariant,
    host: &Host,
    disks: &[PathBuf],
) -> Result<(Found, String), Unknown> {
    let timeout_ms = host.probe_timeout_ms / 5 * TOOL_PARTS;
    reading::read(invariant, host, disks, &System::within(timeout_ms))
}

/// Makes one setting, within 15 s. Making it again does no harm. All but the open files need root;
/// what still holds after a reboot is said at [`crate::mac::mend`].
///
/// # Errors
/// What was to be set, why it could not be, what of it is done, and what to do.
pub fn mend(repair: &Repair) -> Result<(), MendError> {
    mending::mend(repair, &System::within(MEND_TIMEOUT_MS))
}

/// Gives back memory that only the start needed: nothing here, where the kernel compresses and drops
/// what is not used by itself.
pub const fn release_start_memory() {}

/// Every GPU with its counters; none is an empty list. Asks drivers, so where one hangs it may not
/// return. Needs no privilege.
///
/// # Errors
/// The system's, or that a GPU does not tell its memory in use.
pub fn accelerators() -> io::Result<Vec<Accelerator>> {
    registry::accelerators()
}

/// Every Thunderbolt port with its RDMA device and the domain at the other end of its cable. Starts
/// tools and takes seconds, at most 40. Needs no privilege. To be asked again at every boot and when
/// a link changes: interfaces get other numbers.
///
/// # Errors
/// Why they are not known, such as a port that can't be told from another.
pub fn thunderbolt_ports() -> Result<Vec<ThunderboltPort>, Unknown> {
    ports::read(&System::within(PORTS_TIMEOUT_MS))
}

/// How many processes the kernel has killed for memory: it does not count them, and reports each later.
pub const fn memory_kills() -> Option<u64> {
    None
}
