//! What user mode has done for it in ring 0: port I/O, model-specific registers,
//! and whatever short function of assembly a guest brings along.

use core::arch::{asm, global_asm};

global_asm!(include_str!("services.s"));

/// A function of assembly that runs in ring 0: few and simple instructions, all
/// registers that the System V ABI lets it change, and no stack to speak of.
pub type Service = unsafe extern "C" fn();

/// The exception that a service ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault(pub u64);

macro_rules! services {
    ($($name:ident)*) => { unsafe extern "C" { $(pub fn $name();)* } };
}
services! {
    ring0_in8 ring0_in16 ring0_in32 ring0_out8 ring0_out16 ring0_out32
    ring0_ins8 ring0_outs8 ring0_outs32 ring0_rdmsr ring0_wrmsr triple_fault
}

/// Calls `service` in ring 0.
///
/// # Errors
/// The exception it raised.
///
/// # Safety
/// As the service says. Only on the first vCPU: the others have no stack for it.
pub unsafe fn call(service: Service, a: u64, b: u64, c: u64) -> Result<u64, Fault> {
    let (answer, fault): (u64, u64);
    // SAFETY: `entry.s` carries `sti` out as the call; the service keeps the ABI,
    // and what it may clobber is named. A red zone is not used in ring 0's stack.
    unsafe {
        asm!("sti", inout("rax") service as usize as u64 => answer, out("r8") fault,
            inout("rdi") a => _, inout("rsi") b => _, inout("rdx") c => _,
            out("rcx") _, out("r9") _, out("r10") _, out("r11") _);
    }
    match fault {
        0 => Ok(answer),
        vector => Err(Fault(vector - 1)),
    }
}

/// Reads `width` bytes (1, 2 or 4) of a port.
pub fn port_in(port: u16, width: u8) -> u32 {
    let service: Service = match width {
        1 => ring0_in8,
        2 => ring0_in16,
        _ => ring0_in32,
    };
    // SAFETY: port I/O touches no memory of this guest.
    unsafe { call(service, port.into(), 0, 0) }.unwrap_or(0) as u32
}

/// Writes `width` bytes (1, 2 or 4) to a port.
pub fn port_out(port: u16, width: u8, value: u32) {
    let service: Service = match width {
        1 => ring0_out8,
        2 => ring0_out16,
        _ => ring0_out32,
    };
    // SAFETY: as above.
    let _ = unsafe { call(service, port.into(), value.into(), 0) };
}

/// Reads a model-specific register.
///
/// # Errors
/// The processor's refusal.
pub fn read_msr(msr: u32) -> Result<u64, Fault> {
    // SAFETY: reads no memory.
    unsafe { call(ring0_rdmsr, msr.into(), 0, 0) }
}

/// Writes a model-specific register.
///
/// # Errors
/// The processor's refusal.
///
/// # Safety
/// Some registers change how this guest runs.
pub unsafe fn write_msr(msr: u32, value: u64) -> Result<u64, Fault> {
    // SAFETY: by this function's own contract.
    unsafe { call(ring0_wrmsr, msr.into(), value, 0) }
}
