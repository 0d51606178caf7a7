//! One sample of the host's memory: the kernel's counters of pages, and every process's account.
//!
//! Needs root: without it the memory of other users' processes can't be read, and would look as if
//! nobody owned it.

#![allow(unsafe_code)]

use std::{io, sync::OnceLock};

use nix::unistd::geteuid;
use tandem_policy::{Memory, Owner};

use super::{process, sysctl};
use crate::{
    mac::{
        memory::{Counters, STATISTICS_WORDS, VmStatistics64},
        process::{footprint_bytes, largest, may_be_left_out},
    },
    now,
};

// The kernel writes no more than `libc`'s newer form of the structure has.
const _: () = assert!(size_of::<VmStatistics64>() <= size_of::<libc::vm_statistics64>());
const _: () = assert!(size_of::<VmStatistics64>() == STATISTICS_WORDS as usize * 4);

/// One sample of the host's memory, all in bytes, taken now. Owners are the processes that have or can
/// have wired at least `owner_min_bytes`, the largest 64 of them.
///
/// # Errors
/// The system's, or that a counter is not as expected: memory is then not known. `PermissionDenied`
/// without root.
pub fn memory(owner_min_bytes: u64) -> io::Result<Memory> {
    let at_ms = now().boot_ms;
    let counters = Counters {
        total_bytes: sysctl::u64("hw.memsize")?,
        page_bytes: sysctl::u64("hw.pagesize")?,
        wired_pages: sysctl::u32("vm.page_wire_count")?,
        statistics: statistics()?,
    };
    counters.memory(at_ms, owners(owner_min_bytes)?).ok_or_else(|| {
        let text = "the kernel's counters of memory can't be true: compare `vm_stat` with \
                    `sysctl hw.memsize hw.pagesize vm.page_wire_count`";
        io::Error::other(text)
    })
}

/// Asks for the counters of pages.
fn statistics() -> io::Result<VmStatistics64> {
    let mut statistics = VmStatistics64::default();
    let mut words = STATISTICS_WORDS;
    // SAFETY: the kernel writes at most `words` numbers of 32 bits to `statistics`, which is as long
    // (asserted above), aligned for them, made of integers only, and borrowed by nobody else; it writes
    // how many they were to `words`. The port is this process's own right to ask about the host.
    let code = unsafe {
        let out = (&raw mut statistics).cast::<libc::integer_t>();
        libc::host_statistics64(host_port(), libc::HOST_VM_INFO64, out, &raw mut words)
    };
    // With fewer, the counters that are missing would be zero.
    if code != libc::KERN_SUCCESS || words < STATISTICS_WORDS {
        let text = format!("host_statistics64 answers {code} with {words} numbers");
        return Err(io::Error::other(text));
    }
    Ok(statistics)
}

/// The port to ask the host at. Each call of `mach_host_self` adds a reference that would have to be
/// given back, so it is called once.
fn host_port() -> libc::mach_port_t {
    static PORT: OnceLock<libc::mach_port_t> = OnceLock::new();
    *PORT.get_or_init(|| {
        // SAFETY: it takes nothing and returns a port's name.
        #[allow(deprecated)]
        unsafe {
            libc::mach_host_self()
        }
    })
}

/// The live processes that can have at least this much wired, largest first.
fn owners(owner_min_bytes: u64) -> io::Result<Vec<Owner>> {
    let is_root = geteuid().is_root();
    let mut owners = Vec::new();
    for pid in process::all()? {
        let usage = match process::usage(pid) {
            Ok(usage) => usage,
            Err(error) if may_be_left_out(error.raw_os_error(), is_root) => continue,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let text = "another user's processes can't be read, so who owns wired memory is \
                            not known: run the supervisor as root";
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
            }
            Err(error) => return Err(error),
        };
        let footprint_bytes = footprint_bytes(usage.ri_phys_footprint, usage.ri_wired_size);
        if footprint_bytes < owner_min_bytes {
            continue;
        }
        // A zombie's account is that of the moment before its end: it owns nothing any more.
        let Some(name) = process::name_if_alive(pid) else { continue };
        // Process ids are not negative.
        let Ok(pid) = u32::try_from(pid) else { continue };
        owners.push(Owner { pid, name, footprint_bytes });
    }
    Ok(largest(owners))
}
