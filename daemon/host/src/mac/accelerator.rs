//! The GPU's own counters: `/usr/sbin/ioreg -r -c IOAccelerator -d 1 -w 0`, or the same property
//! asked for by call.
//!
//! Source: ioreg(8) and the `PerformanceStatistics` property of the I/O Registry's `IOAccelerator`
//! objects. A Mac with two GPU dies may have two of them. Keys are matched whole: one of them,
//! `In use system memory (driver)`, starts like the one that is wanted.

use super::Unparsed;

const TOOL: &str = "ioreg -r -c IOAccelerator -d 1 -w 0";

/// Longest answer that is read, in bytes. The registry's legends make some dozens of KiB a GPU.
pub const REGISTRY_BYTES_MAX: usize = 1 << 20;

/// The property that holds the counters, by their names.
pub const PROPERTY: &str = "PerformanceStatistics";

const IN_USE: &str = "In use system memory";
const ALLOCATED: &str = "Alloc system memory";
const UTILIZATION: &str = "Device Utilization %";
const RECOVERIES: &str = "recoveryCount";

/// One accelerator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accelerator {
    /// Its number in the registry, new at every boot.
    pub registry_id: u64,
    /// `In use system memory`, in bytes: memory that the GPU has mapped. Buffers over mapped files
    /// that are not resident are not in it.
    pub in_use_bytes: u64,
    /// `Alloc system memory`, in bytes.
    pub allocated_bytes: Option<u64>,
    /// `Device Utilization %`.
    pub utilization_percent: Option<u64>,
    /// `recoveryCount`: how often the GPU was reset since boot.
    pub recoveries: Option<u64>,
}

/// Reads the whole answer; an accelerator that is printed twice is kept once.
///
/// # Errors
/// No accelerator, one without `PerformanceStatistics`, statistics that are not whole, or without
/// the memory in use.
pub fn parse(text: &str) -> Result<Vec<Accelerator>, Unparsed> {
    Unparsed::bound(TOOL, text.len(), REGISTRY_BYTES_MAX)?;
    let mut accelerators: Vec<Accelerator> = Vec::new();
    let mut waiting: Option<u64> = None;
    for line in text.lines() {
        let wrong = |wanted| Unparsed::form(TOOL, wanted, line);
        // Branches of the tree stand before deeper objects.
        let line = line.trim_start_matches(['|', ' ', '\t']);
        if line.starts_with("+-o ") {
            let id = registry_id(line).ok_or_else(|| wrong("the registry's id in the heading"))?;
            if waiting.replace(id).is_some() {
                return Err(wrong("`PerformanceStatistics` of the accelerator before"));
            }
        } else if let Some(body) = line.strip_prefix("\"PerformanceStatistics\" = {") {
            let id = waiting.take().ok_or_else(|| wrong("the accelerator's heading first"))?;
            let next = accelerator(id, body)
                .ok_or_else(|| wrong("whole numbers, `In use system memory` among them"))?;
            if !accelerators.iter().any(|known| known.registry_id == id) {
                accelerators.push(next);
            }
        }
    }
    if accelerators.is_empty() || waiting.is_some() {
        return Err(Unparsed::form(TOOL, "`PerformanceStatistics` of every accelerator", text));
    }
    Ok(accelerators)
}

/// `+-o NAME  <class NAME, id 0x100000971, registered, …>`.
fn registry_id(heading: &str) -> Option<u64> {
    let (_, rest) = heading.split_once(", id 0x")?;
    let (id, _) = rest.split_once(',')?;
    u64::from_str_radix(id, 16).ok()
}

fn accelerator(registry_id: u64, body: &str) -> Option<Accelerator> {
    let mut in_use = None;
    let (mut allocated, mut utilization, mut recoveries) = (None, None, None);
    let mut rest = body.trim_end().strip_suffix('}')?;
    while !rest.is_empty() {
        let (key, tail) = rest.strip_prefix('"')?.split_once("\"=")?;
        let (value, tail) = tail.split_once(',').unwrap_or((tail, ""));
        let number = value.parse::<u64>().ok();
        match key {
            IN_USE => in_use = Some(number?),
            ALLOCATED => allocated = Some(number?),
            UTILIZATION => utilization = Some(number?),
            RECOVERIES => recoveries = Some(number?),
            _ => {}
        }
        rest = tail;
    }
    Some(Accelerator {
        registry_id,
        in_use_bytes: in_use?,
        allocated_bytes: allocated,
        utilization_percent: utilization,
        recoveries,
    })
}

/// One accelerator from its [`PROPERTY`], where each counter is asked for by its name; `None` if it
/// does not have the memory in use.
pub fn from_counters(
    registry_id: u64,
    counter: impl Fn(&'static str) -> Option<u64>,
) -> Option<Accelerator> {
    Some(Accelerator {
        registry_id,
        in_use_bytes: counter(IN_USE)?,
        allocated_bytes: counter(ALLOCATED),
        utilization_percent: counter(UTILIZATION),
        recoveries: counter(RECOVERIES),
    })
}

/// Memory in use by all accelerators, in bytes; it stops at the largest number.
pub fn in_use_bytes(accelerators: &[Accelerator]) -> u64 {
    accelerators.iter().fold(0, |sum, one| sum.saturating_add(one.in_use_bytes))
}

/// Resets of all accelerators since boot, where every one of them tells.
pub fn recoveries(accelerators: &[Accelerator]) -> Option<u64> {
    accelerators.iter().try_fold(0_u64, |sum, one| Some(sum.saturating_add(one.recoveries?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_asked_for_by_the_names_that_are_printed() {
        let text = "+-o AGX  <class AGX, id 0x1, registered>\n\
                    \"PerformanceStatistics\" = {\"In use system memory (driver)\"=7,\
                    \"Alloc system memory\"=20,\"recoveryCount\"=3,\
                    \"Device Utilization %\"=34,\"In use system memory\"=10}\n";
        let counters = [
            ("In use system memory (driver)", 7),
            ("Alloc system memory", 20),
            ("recoveryCount", 3),
            ("Device Utilization %", 34),
            ("In use system memory", 10),
        ];
        let find = |name: &str| counters.iter().find(|(key, _)| *key == name).map(|(_, n)| *n);
        assert_eq!(vec![from_counters(1, find).unwrap()], parse(text).unwrap());
        assert_eq!(from_counters(1, |name| find(name).filter(|n| *n != 10)), None);
    }
}
