//! Time and boot.

use rustix::time::{ClockId, clock_gettime};
use std::sync::OnceLock;
use std::time::SystemTime;

/// Microseconds of `CLOCK_MONOTONIC`.
pub fn now_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}

/// This boot's id (random(4)); empty where the kernel does not tell.
pub fn boot_id() -> String {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|id| id.trim().to_owned())
            .unwrap_or_default()
    })
    .clone()
}

/// The time of day in UTC, as RFC 3339 writes it, with microseconds.
pub fn utc(time: SystemTime) -> String {
    humantime::format_rfc3339_micros(time).to_string()
}
