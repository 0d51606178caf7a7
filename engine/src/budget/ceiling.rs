//! The most memory that the ranks of one machine may take together.

/// A machine's bound, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ceiling {
    /// In bytes.
    pub bytes: u64,
    /// In words, with the key that moves it.
    pub origin: String,
}

impl Ceiling {
    /// On a Mac: what the GPU may wire. `wired_limit_mib` is `host.wired_limit_mib`; at 0 the
    /// system's own limit holds, about three quarters of memory (`recommendedMaxWorkingSetSize` of a
    /// Metal device; a rank there asks the device itself, see [`lowered`](Self::lowered)).
    pub fn of_wired(total_bytes: u64, wired_limit_mib: u64) -> Self {
        if wired_limit_mib == 0 {
            let origin = "three quarters of its memory, which the GPU may wire; \
                          host.wired_limit_mib raises it";
            return Self { bytes: total_bytes / 4 * 3, origin: origin.to_owned() };
        }
        let bytes = (wired_limit_mib << 20).min(total_bytes);
        Self { bytes, origin: format!("host.wired_limit_mib is {wired_limit_mib}") }
    }

    /// Elsewhere: all memory but `leak.reserve_mib`.
    pub fn of_memory(total_bytes: u64, reserve_mib: u64) -> Self {
        Self {
            bytes: total_bytes.saturating_sub(reserve_mib << 20),
            origin: format!(
                "its memory of {} MiB less leak.reserve_mib of {reserve_mib}",
                total_bytes >> 20
            ),
        }
    }

    /// This one, or a lower one that the device itself states.
    pub fn lowered(ceiling: Option<Self>, device_bytes: Option<u64>) -> Option<Self> {
        let device = device_bytes.map(|bytes| Self {
            bytes,
            origin: "the working set that its GPU recommends; host.wired_limit_mib raises it"
                .to_owned(),
        });
        match (ceiling, device) {
            (Some(a), Some(b)) => Some(if b.bytes < a.bytes { b } else { a }),
            (a, b) => a.or(b),
        }
    }
}
