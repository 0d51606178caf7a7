//! Processes that the kernel killed because memory ran out.

use super::procfs;

/// Longest `/proc/vmstat`: it has some 4 KiB in about 180 lines.
const VMSTAT_BYTES_MAX: u64 = 64 << 10;

/// How many processes the kernel has killed for memory since it started, of the whole system and of any
/// memory cgroup; `None` where it does not say.
pub fn memory_kills() -> Option<u64> {
    parse(&procfs::read("/proc/vmstat", VMSTAT_BYTES_MAX).ok()?)
}

fn parse(vmstat: &str) -> Option<u64> {
    let line = vmstat.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read_and_what_is_no_count_is_none() {
        assert_eq!(parse("nr_free_pages 5\noom_kill 12\noom_killer 3\n"), Some(12));
        for odd in ["", "oom_kill\n", "oom_kill x\n", "oom_kill -1\n", "nr_oom_kill 3\n"] {
            assert_eq!(parse(odd), None, "{odd:?}");
        }
        // Every kernel since 4.13 tells it, if it lets anybody read the file.
        if let Ok(text) = procfs::read("/proc/vmstat", VMSTAT_BYTES_MAX)
            && text.contains("oom_kill ")
        {
            assert!(memory_kills().is_some());
        }
    }
}
