//! What the kernel's counters of pages mean for a host's memory.
//!
//! *Wired* is `vm.page_wire_count`. `vm_stat` and `host_statistics64` add throttled pages to it, which
//! are not wired; and for programs that are not Apple's, `host_statistics64` answers at most ten times
//! a second for all of them together, and else repeats an older answer.
//!
//! *Available* is what a new process can have without anything being compressed or swapped:
//! - free pages. The counter has speculative ones in it, which hold what was read ahead from files, and
//!   so has the next one, so they are taken out here;
//! - pages of files, which can be read again (`external_page_count`, wired ones are not in it);
//! - purgeable pages, whose owners have said that they can be thrown away.
//!
//! It is total less what Activity Monitor calls used memory. Inactive pages are not the measure: half
//! of them are the anonymous memory of processes that live, to be given up only into the compressor,
//! and a model's weights would displace it there.
//!
//! Source: xnu 11417.101.15, `<mach/vm_statistics.h>`, `vm_stats` in `osfmk/kern/host.c`, and
//! `vm.page_wire_count` in `bsd/kern/kern_sysctl.c`.

use tandem_policy::{Memory, Owner};

/// `HOST_VM_INFO64_COUNT` of macOS 15: the answer's size in 32-bit numbers. A newer kernel that knows
/// more counters answers a question for so many with these.
pub const STATISTICS_WORDS: u32 = 38;

/// `struct vm_statistics64` of `<mach/vm_statistics.h>`: counts, of pages where nothing else is said.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmStatistics64 {
    /// `free_count`, with speculative pages.
    pub free: u32,
    /// `active_count`.
    pub active: u32,
    /// `inactive_count`.
    pub inactive: u32,
    /// `wire_count`, with throttled pages.
    pub wired: u32,
    /// `zero_fill_count`, `reactivations`, `pageins`, `pageouts`, `faults`, `cow_faults`, `lookups`,
    /// `hits` and `purges`, since boot.
    pub since_boot: [u64; 9],
    /// `purgeable_count`.
    pub purgeable: u32,
    /// `speculative_count`.
    pub speculative: u32,
    /// `decompressions`, `compressions`, `swapins` and `swapouts`, since boot.
    pub compressor_since_boot: [u64; 4],
    /// `compressor_page_count`: pages that the compressor holds.
    pub compressor: u32,
    /// `throttled_count`.
    pub throttled: u32,
    /// `external_page_count`: of files, not wired.
    pub external: u32,
    /// `internal_page_count`: anonymous, not wired.
    pub internal: u32,
    /// `total_uncompressed_pages_in_compressor`.
    pub uncompressed: u64,
}

/// The kernel's counters, read one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// `hw.memsize`, in bytes.
    pub total_bytes: u64,
    /// `hw.pagesize`, in bytes.
    pub page_bytes: u64,
    /// `vm.page_wire_count`.
    pub wired_pages: u32,
    /// `host_statistics64`, up to a second older.
    pub statistics: VmStatistics64,
}

impl Counters {
    /// One sample, taken at this time, with these owners. `None` where a counter can't be true: no
    /// memory, no page size, or more wired than there is.
    pub fn memory(&self, at_ms: u64, owners: Vec<Owner>) -> Option<Memory> {
        let wired_bytes = self.bytes(self.wired_pages.into());
        let is_possible = self.total_bytes > 0 && self.page_bytes.is_power_of_two();
        if !is_possible || wired_bytes > self.total_bytes {
            return None;
        }
        let VmStatistics64 { free, speculative, external, purgeable, .. } = self.statistics;
        // Sums of three counts of 32 bits.
        let pages = u64::from(free.saturating_sub(speculative))
            + u64::from(external)
            + u64::from(purgeable);
        // The counters are of different moments; what is wired now is not available.
        let available_bytes = self.bytes(pages).min(self.total_bytes - wired_bytes);
        Some(Memory { at_ms, total_bytes: self.total_bytes, wired_bytes, available_bytes, owners })
    }

    fn bytes(&self, pages: u64) -> u64 {
        pages.saturating_mul(self.page_bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use proptest::{prelude::*, test_runner::RngSeed};

    use super::*;

    const GIB: u64 = 1 << 30;
    const PAGE: u64 = 16_384;

    fn pages(gib: u64) -> u32 {
        u32::try_from(gib * GIB / PAGE).unwrap()
    }

    /// A Mac with 512 GiB that serves nothing.
    fn idle() -> Counters {
        let statistics = VmStatistics64 {
            free: pages(440),
            speculative: pages(10),
            active: pages(30),
            inactive: pages(30),
            wired: pages(6),
            external: pages(40),
            internal: pages(26),
            purgeable: pages(1),
            ..VmStatistics64::default()
        };
        Counters { total_bytes: 512 * GIB, page_bytes: PAGE, wired_pages: pages(6), statistics }
    }

    #[test]
    fn the_statistics_are_laid_out_as_in_the_header() {
        assert_eq!(size_of::<VmStatistics64>(), STATISTICS_WORDS as usize * 4);
        assert_eq!(align_of::<VmStatistics64>(), 8);
        let at = [
            offset_of!(VmStatistics64, free),
            offset_of!(VmStatistics64, active),
            offset_of!(VmStatistics64, inactive),
            offset_of!(VmStatistics64, wired),
            offset_of!(VmStatistics64, since_boot),
            offset_of!(VmStatistics64, purgeable),
            offset_of!(VmStatistics64, speculative),
            offset_of!(VmStatistics64, compressor_since_boot),
            offset_of!(VmStatistics64, compressor),
            offset_of!(VmStatistics64, throttled),
            offset_of!(VmStatistics64, external),
            offset_of!(VmStatistics64, internal),
            offset_of!(VmStatistics64, uncompressed),
        ];
        assert_eq!(at, [0, 4, 8, 12, 16, 88, 92, 96, 128, 132, 136, 140, 144]);
    }

    #[test]
    fn an_idle_host_has_what_is_free_of_files_and_purgeable() {
        let memory = idle().memory(7, Vec::new()).unwrap();
        assert_eq!((memory.at_ms, memory.total_bytes), (7, 512 * GIB));
        assert_eq!(memory.wired_bytes, 6 * GIB);
        assert_eq!(memory.available_bytes, (430 + 40 + 1) * GIB);
    }

    #[test]
    fn available_memory_follows_what_takes_it() {
        let available_gib = |change: fn(&mut Counters)| {
            let mut counters = idle();
            change(&mut counters);
            counters.memory(0, Vec::new()).map(|memory| memory.available_bytes / GIB)
        };
        for (change, expected, story) in [
            ((|_| ()) as fn(&mut Counters), Some(471), "idle"),
            (|c| c.statistics.inactive += pages(100), Some(471), "anonymous memory is no file"),
            (|c| c.statistics.speculative = u32::MAX, Some(41), "of another moment than free"),
            (
                |c| c.wired_pages = pages(400),
                Some(112),
                "wired meanwhile: the older counters call it free",
            ),
            (|c| c.wired_pages = pages(512), Some(0), "all is wired"),
            (|c| c.wired_pages = pages(512) + 1, None, "more wired than there is"),
            (|c| c.total_bytes = 0, None, "no memory"),
            (|c| c.page_bytes = 0, None, "no page size"),
            (|c| c.page_bytes = 1_000, None, "a page size that can't be"),
        ] {
            assert_eq!(available_gib(change), expected, "{story}");
        }
    }

    proptest! {
        // The same cases in every run.
        #![proptest_config(ProptestConfig {
            rng_seed: RngSeed::Fixed(13), failure_persistence: None, ..Default::default()
        })]

        #[test]
        fn no_counters_make_more_memory_than_there_is(
            total_bytes: u64, shift in 0..64_u32, wired_pages: u32,
            free: u32, speculative: u32, external: u32, purgeable: u32,
        ) {
            let statistics =
                VmStatistics64 { free, speculative, external, purgeable, ..Default::default() };
            let page_bytes = 1 << shift;
            let counters = Counters { total_bytes, page_bytes, wired_pages, statistics };
            if let Some(memory) = counters.memory(0, Vec::new()) {
                prop_assert_eq!(memory.wired_bytes, u64::from(wired_pages).saturating_mul(page_bytes));
                let sum = memory.wired_bytes.checked_add(memory.available_bytes);
                prop_assert!(sum.is_some_and(|sum| sum <= total_bytes));
            }
        }
    }
}
