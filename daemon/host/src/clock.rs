//! The operating system's clock and boot.

use std::time::{SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use tandem_policy::Moment;

/// A clock that counts through sleep: on macOS the monotonic one does, on Linux it does not.
#[cfg(target_os = "macos")]
const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC;
#[cfg(not(target_os = "macos"))]
const CLOCK: ClockId = ClockId::CLOCK_BOOTTIME;

/// The time now.
pub fn now() -> Moment {
    // The clock exists on every platform this compiles for, so reading it can't fail.
    let boot_ms = clock_gettime(CLOCK).map_or(0, |t| {
        let seconds = u64::try_from(t.tv_sec()).unwrap_or(0);
        seconds * 1_000 + u64::try_from(t.tv_nsec()).unwrap_or(0) / 1_000_000
    });
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Moment { boot_ms, wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX) }
}

/// What tells this boot from all others. Empty if the system does not say, which is then the same
/// at every boot: held ranks then stay held over a reboot, the safe side.
pub fn boot_id() -> String {
    // Its time of boot moves whenever the clock is set.
    #[cfg(target_os = "macos")]
    let text = crate::macos::sysctl::text("kern.bootsessionuuid");
    #[cfg(not(target_os = "macos"))]
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    text.unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_does_not_go_back_and_the_boot_has_one_id() {
        let (first, second) = (now(), now());
        assert!(second.boot_ms >= first.boot_ms && first.boot_ms > 0);
        assert!(first.wall_ms > 1_600_000_000_000, "milliseconds since 1970, not seconds");
        assert_eq!(boot_id().len(), 36, "a UUID in text: {}", boot_id());
        assert_eq!(boot_id(), boot_id());
    }
}
