//! Locked memory, and who may own it. Linux's stand-in for a Mac's wired memory.
//!
//! # What is locked
//! The kernel gives no one number, but three that are each right and incomplete:
//! - `Mlocked`: pages that a live process locked by mlock(2). They go with the process.
//! - `Unevictable`: pages on the list that reclaim does not look at. Those are the mlocked ones, those of
//!   ramfs and of secret memory (memfd_secret(2)), and those of System V segments with `SHM_LOCK`, *if*
//!   they came in after the lock: `SHM_LOCK` marks the segment, a page is put on a list by that mark
//!   when it comes in, and pages that were in before move only when reclaim meets them. All IPC
//!   namespaces are in it.
//! - `/proc/sysvipc/shm`: all resident pages of every segment, before or after the lock, with the
//!   lock as a bit; of the reader's IPC namespace only.
//!
//! Adding them up counts pages twice. Each of these sums counts nothing twice, because its parts
//! have no page in common, and nothing that is not locked, so the largest is the best lower bound:
//! 1. `Unevictable`
//! 2. `Mlocked` + locked segments that no process has attached (mlocked pages are mapped, so they
//!    are in none of these)
//! 3. all locked segments
//!
//! It misses memory only where one kind hides from each of the sums, such as pages that came in before
//! `SHM_LOCK` beside a ramfs. Too low is the safe side: a leak is never made up from a page that is
//! counted twice.

#[cfg(test)]
mod tests;

use std::{cmp::Reverse, fs, io};

use tandem_policy::{Memory, Owner};

use super::{process::STATUS_BYTES_MAX, procfs};
use crate::now;

/// Longest `/proc/meminfo`: it has some 1.5 KiB in about 60 lines.
const MEMINFO_BYTES_MAX: u64 = 64 * 1024;

/// Longest `/proc/sysvipc/shm`: the default `kernel.shmmni` of 4,096 segments, at most 210 bytes each.
const SEGMENTS_BYTES_MAX: u64 = 1 << 20;

/// Most processes that are looked at: many times what a host that serves one model runs. More is an
/// error, for an owner that is left out would make its memory look leaked.
const PROCESSES_MAX: usize = 32_768;

/// Most owners that are told. One process more cannot have a part that matters.
const OWNERS_MAX: usize = 64;

/// `SHM_LOCKED`, a bit in the mode of a segment that is locked (`linux/shm.h`).
const SHM_LOCKED: u32 = 0o2000;

/// One sample of the host's memory, all in bytes, taken now. Owners are the processes with at
/// least `owner_min_bytes` resident, shared memory included, the largest 64 of them.
///
/// # Errors
/// The system's, or that one of its files is not as expected: memory is then not known.
pub fn memory(owner_min_bytes: u64) -> io::Result<Memory> {
    let meminfo = parse_meminfo(&procfs::read("/proc/meminfo", MEMINFO_BYTES_MAX)?)
        .ok_or_else(|| io::Error::other("/proc/meminfo lacks a line that it should have"))?;
    let segments = match procfs::read("/proc/sysvipc/shm", SEGMENTS_BYTES_MAX) {
        Ok(text) => parse_segments(&text)
            .ok_or_else(|| io::Error::other("/proc/sysvipc/shm is not laid out as expected"))?,
        // A kernel without System V shared memory.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Segments::default(),
        Err(error) => return Err(error),
    };
    Ok(Memory {
        at_ms: now().boot_ms,
        total_bytes: meminfo.total_bytes,
        wired_bytes: locked_bytes(&meminfo, &segments),
        available_bytes: meminfo.available_bytes,
        owners: owners(owner_min_bytes)?,
    })
}

/// The lines of `/proc/meminfo` that are used, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Meminfo {
    total_bytes: u64,
    available_bytes: u64,
    unevictable_bytes: u64,
    mlocked_bytes: u64,
}

/// What the locked System V segments have resident, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Segments {
    /// Those that a process has attached.
    attached_bytes: u64,
    /// Those that none has.
    orphaned_bytes: u64,
}

/// See the head of this file.
fn locked_bytes(meminfo: &Meminfo, segments: &Segments) -> u64 {
    let mlocked_and_orphaned = meminfo.mlocked_bytes.saturating_add(segments.orphaned_bytes);
    let locked_segments = segments.attached_bytes.saturating_add(segments.orphaned_bytes);
    meminfo.unevictable_bytes.max(mlocked_and_orphaned).max(locked_segments)
}

/// The number of bytes of a line `Name:   123 kB`, as `/proc/meminfo` and `/proc/PID/status` have
/// them; the unit is KiB.
fn kib_line(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let mut words = rest.split_ascii_whitespace();
    let count: u64 = words.next()?.parse().ok()?;
    if words.next() != Some("kB") {
        return None;
    }
    count.checked_mul(1_024)
}

fn parse_meminfo(text: &str) -> Option<Meminfo> {
    Some(Meminfo {
        total_bytes: kib_line(text, "MemTotal")?,
        available_bytes: kib_line(text, "MemAvailable")?,
        unevictable_bytes: kib_line(text, "Unevictable")?,
        mlocked_bytes: kib_line(text, "Mlocked")?,
    })
}

/// Adds up the locked segments. Columns are found by the names in the first line.
fn parse_segments(text: &str) -> Option<Segments> {
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next()?.split_ascii_whitespace().collect();
    let column = |name| names.iter().position(|each| *each == name);
    let (perms, attached, rss) = (column("perms")?, column("nattch")?, column("rss")?);
    let mut segments = Segments::default();
    for line in lines {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let mode = u32::from_str_radix(words.get(perms)?, 8).ok()?;
        let rss_bytes: u64 = words.get(rss)?.parse().ok()?;
        let processes: u64 = words.get(attached)?.parse().ok()?;
        if mode & SHM_LOCKED == 0 {
            continue;
        }
        let sum = if processes == 0 {
            &mut segments.orphaned_bytes
        } else {
            &mut segments.attached_bytes
        };
        *sum = sum.saturating_add(rss_bytes);
    }
    Some(segments)
}

/// The resident memory that `/proc/PID/status` tells, in bytes: `None` for a kernel thread or a
/// zombie, which have none.
pub(super) fn rss_bytes(status: &str) -> Option<u64> {
    kib_line(status, "VmRSS")
}

/// The name that `/proc/PID/status` tells, at most 15 bytes of the program's.
fn name(status: &str) -> Option<&str> {
    status.lines().find_map(|line| line.strip_prefix("Name:")).map(str::trim)
}

/// The live processes with at least this much memory, largest first.
fn owners(owner_min_bytes: u64) -> io::Result<Vec<Owner>> {
    let mut owners = Vec::new();
    let mut seen = 0_usize;
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        seen += 1;
        if seen > PROCESSES_MAX {
            return Err(io::Error::other(format!("there are more than {PROCESSES_MAX} processes")));
        }
        // One that ended meanwhile owns nothing.
        let Ok(status) = procfs::read(format!("/proc/{pid}/status"), STATUS_BYTES_MAX) else {
            continue;
        };
        let Some(footprint_bytes) = rss_bytes(&status).filter(|rss| *rss >= owner_min_bytes) else {
            continue;
        };
        let name = name(&status).unwrap_or_default().to_owned();
        owners.push(Owner { pid, name, footprint_bytes });
    }
    owners.sort_by_key(|owner| (Reverse(owner.footprint_bytes), owner.pid));
    owners.truncate(OWNERS_MAX);
    Ok(owners)
}
