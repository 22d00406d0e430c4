//! Time since the kernel's start.

use nix::time::{ClockId, clock_gettime};

/// Microseconds of `CLOCK_BOOTTIME`; 0 where the kernel has no such clock.
pub fn since_boot_us() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |t| {
        let seconds = u64::try_from(t.tv_sec()).unwrap_or(0);
        let nanos = u64::try_from(t.tv_nsec()).unwrap_or(0);
        seconds.saturating_mul(1_000_000) + nanos / 1000
    })
}
