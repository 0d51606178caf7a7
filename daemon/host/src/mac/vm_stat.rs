//! Memory by use, as text: `/usr/bin/vm_stat`. For people and reports; the daemon itself counts by
//! `host_statistics64`, and this is what its count can be compared with.
//!
//! Source: vm_stat(1) and `vm_stat.c` of Apple's system_cmds: a heading with the size of a page,
//! then a name, a colon and a number with a full stop a line.

use super::{TEXT_BYTES_MAX, Unparsed};

const TOOL: &str = "vm_stat";

/// Counts of pages since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmStat {
    /// Size of a page, in bytes.
    pub page_size_bytes: u64,
    /// `Pages free`.
    pub free_bytes: u64,
    /// `Pages wired down`.
    pub wired_bytes: u64,
    /// `Pages occupied by compressor`, where it is printed.
    pub compressor_bytes: Option<u64>,
}

/// Reads the whole answer.
///
/// # Errors
/// Another heading, no free or wired pages, or counts that are no numbers or more than 64 bits of
/// bytes.
pub fn parse(text: &str) -> Result<VmStat, Unparsed> {
    Unparsed::bound(TOOL, text.len(), TEXT_BYTES_MAX)?;
    let mut lines = text.trim_start().lines();
    let heading = lines.next().unwrap_or_default().trim_end();
    let page_size_bytes = heading
        .strip_prefix("Mach Virtual Memory Statistics: (page size of ")
        .and_then(|rest| rest.strip_suffix(" bytes)")?.parse::<u64>().ok())
        .filter(|size| size.is_power_of_two())
        .ok_or_else(|| Unparsed::form(TOOL, "the heading with the page size", heading))?;
    let (mut free, mut wired, mut compressor) = (None, None, None);
    for line in lines {
        let Some((key, value)) = line.split_once(':') else { continue };
        let slot = match key.trim() {
            "Pages free" => &mut free,
            "Pages wired down" => &mut wired,
            "Pages occupied by compressor" => &mut compressor,
            _ => continue,
        };
        let pages = value.trim().strip_suffix('.').and_then(|pages| pages.parse::<u64>().ok());
        let bytes = pages
            .and_then(|pages| pages.checked_mul(page_size_bytes))
            .ok_or_else(|| Unparsed::form(TOOL, "a number of pages and a full stop", line))?;
        *slot = Some(bytes);
    }
    let absent = |what| Unparsed::Absent { tool: TOOL, what };
    Ok(VmStat {
        page_size_bytes,
        free_bytes: free.ok_or(absent("`Pages free`"))?,
        wired_bytes: wired.ok_or(absent("`Pages wired down`"))?,
        compressor_bytes: compressor,
    })
}
