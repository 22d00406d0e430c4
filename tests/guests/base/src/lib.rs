//! What freestanding guests have in common: the start in ring 0, user mode, the
//! few things that ring 0 does for user mode, memory, ports, more vCPUs.
//!
//! A guest is a binary with a `user_main(zero_page)`, entered in user mode with
//! the first 4 GiB mapped onto themselves, registers of devices included.

#![no_std]

pub mod boot;
mod memory;
pub mod ring0;
pub mod serial;
pub mod smp;

use core::arch::{asm, global_asm};

global_asm!(include_str!("entry.s"));

/// Cycles after which a wait is given up: some ten seconds.
const PATIENCE: u64 = 25_000_000_000;

/// Reads memory or a register at a physical address.
pub fn peek<T: Copy>(address: u64) -> T {
    // SAFETY: `entry.s` maps the first 4 GiB; a guest's own memory outside of its
    // image is used through these two functions only.
    unsafe { (address as *const T).read_volatile() }
}

/// Writes memory or a register at a physical address.
pub fn poke<T: Copy>(address: u64, value: T) {
    // SAFETY: as above.
    unsafe { (address as *mut T).write_volatile(value) }
}

/// The time-stamp counter.
pub fn cycles() -> u64 {
    // SAFETY: reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Waits until `done`; false when it does not come within some ten seconds.
pub fn wait(mut done: impl FnMut() -> bool) -> bool {
    let start = cycles();
    while !done() {
        if cycles().wrapping_sub(start) > PATIENCE {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

/// Lets a millisecond or so pass.
pub fn pause() {
    let start = cycles();
    while cycles().wrapping_sub(start) < 2_500_000 {
        core::hint::spin_loop();
    }
}

/// Sleeps for ever.
pub fn halt() -> ! {
    loop {
        // SAFETY: `entry.s` halts for us and does not come back.
        unsafe { asm!("hlt") };
    }
}

/// Ends in a triple fault.
pub fn die() -> ! {
    // SAFETY: faults in user mode, which `entry.s` turns into a triple fault.
    unsafe { asm!("cli") };
    halt()
}
