//! The other vCPUs: started through the local APIC, they wait in user mode for a
//! function to run over and over.

use crate::{peek, poke};
use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

global_asm!(include_str!("smp.s"));

/// Where a start-up interrupt of this vector begins to execute.
const TRAMPOLINE: u64 = 0x8000;
/// Most vCPUs a guest here has.
pub const MAX: usize = 4;

/// The interrupt command register of the local APIC (Intel SDM vol. 3, 11.6.1).
const ICR_LOW: u64 = 0xfee0_0300;
const ICR_HIGH: u64 = 0xfee0_0310;
/// Delivery modes with the level asserted.
pub const INIT: u32 = 0x4500;
/// Start-up; the vector is the page to start at.
pub const STARTUP: u32 = 0x4600;
/// Non-maskable interrupt.
pub const NMI: u32 = 0x4400;

/// What each vCPU is to run: 0 for nothing, else a `fn()`.
static TASKS: [AtomicU64; MAX] = [const { AtomicU64::new(0) }; MAX];
/// Rounds that each vCPU has made, of nothing or of its task.
static ROUNDS: [AtomicU64; MAX] = [const { AtomicU64::new(0) }; MAX];

unsafe extern "C" {
    static trampoline: u8;
    static trampoline_end: u8;
    static mut smp_next: u64;
}

/// Sends an interrupt to another vCPU through the local APIC.
pub fn send(apic_id: u8, command: u32) {
    poke(ICR_HIGH, u32::from(apic_id) << 24);
    poke(ICR_LOW, command);
}

/// Starts vCPU `n`; false when it does not come within a few seconds.
pub fn start(n: u8) -> bool {
    let from = (&raw const trampoline).addr();
    let len = (&raw const trampoline_end).addr() - from;
    for at in 0..len as u64 {
        poke(TRAMPOLINE + at, peek::<u8>(from as u64 + at));
    }
    // SAFETY: nobody reads it but the vCPU that is started below.
    unsafe { (&raw mut smp_next).write_volatile(n.into()) };
    let before = rounds(n);
    send(n, INIT);
    send(n, STARTUP | (TRAMPOLINE >> 12) as u32);
    crate::wait(|| rounds(n) != before)
}

/// Rounds that vCPU `n` has made.
pub fn rounds(n: u8) -> u64 {
    ROUNDS[usize::from(n)].load(Ordering::SeqCst)
}

/// Tells vCPU `n` to call `task` over and over, from some moment on.
pub fn order(n: u8, task: fn()) {
    TASKS[usize::from(n)].store(task as usize as u64, Ordering::SeqCst);
}

/// Lets vCPU `n` call `task` over and over until [`stop`]: when this returns, it does.
pub fn run(n: u8, task: fn()) {
    order(n, task);
    let before = rounds(n);
    crate::wait(|| rounds(n) > before + 2);
}

/// Tells vCPU `n` to call nothing more, from some moment on.
pub fn release(n: u8) {
    TASKS[usize::from(n)].store(0, Ordering::SeqCst);
}

/// Ends the task of vCPU `n`: when this returns, it is not called any more.
pub fn stop(n: u8) {
    release(n);
    let before = rounds(n);
    crate::wait(|| rounds(n) > before + 2);
}

/// Entered in user mode by `smp.s`.
#[unsafe(no_mangle)]
extern "C" fn other_main(number: u64) -> ! {
    let n = number as usize % MAX;
    loop {
        let task = TASKS[n].load(Ordering::SeqCst);
        if task != 0 {
            // SAFETY: only `run` stores there, and it stores a `fn()`.
            let task: fn() = unsafe { core::mem::transmute(task as usize) };
            task();
        } else {
            core::hint::spin_loop();
        }
        ROUNDS[n].fetch_add(1, Ordering::SeqCst);
    }
}
