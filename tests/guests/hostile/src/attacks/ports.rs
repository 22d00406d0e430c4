//! Attacks on what lies between the devices: ports and addresses where there is none,
//! and the interrupt controllers inside of KVM.

use super::{Attack, attack};
use crate::bench::{ARENA, Bench, MEMORY_END, NOWHERE};
use crate::driver::mmio::{FIRST, WINDOW};
use crate::outcome::Outcome::{self, *};
use casemate_guest_base::ring0::{call, port_in, port_out, ring0_ins8};
use casemate_guest_base::{peek, poke};
use core::arch::asm;

#[rustfmt::skip] // A line an attack: this is a list to be read.
pub const ATTACKS: &[Attack] = &[
    attack("ports-read", Ignored, "every 7th port there is, in each width", ports_read),
    attack("ports-written", Ignored, "every 7th port where no device is, in each width", ports_written),
    attack("ports-around-devices", Ignored, "accesses that begin before a device or end behind it", ports_around),
    attack("port-string-input-of-nothing", Ignored, "64 KiB from a port that is none: all ones", port_string),
    attack("pci-configuration-ports", Ignored, "the whole configuration space of a bus that is not there", pci),
    attack("interrupt-controller-games", Ignored, "each value to both 8259", pic),
    attack("timer-games", Ignored, "each mode of the 8254, with the shortest period", pit),
    attack("gap-read", Ignored, "addresses without a device, in each width", gap_read),
    attack("gap-written", Ignored, "the same with writes", gap_written),
    attack("memory-beyond-its-end", Ignored, "the first page that is no memory", beyond),
    attack("virtio-windows-that-do-not-exist", Ignored, "the windows of devices 4 to 18", no_windows),
    attack("io-apic-games", Ignored, "junk to every register of the IOAPIC", io_apic),
    attack("local-apic-games", Ignored, "junk to most registers of the local APIC", local_apic),
    attack("kvm-own-pages", Ignored, "where KVM keeps pages of its own", kvm_pages),
    attack("mmio-string-copy", Free, "a string instruction from a device to a device", mmio_string),
    attack("mmio-sixteen-bytes", Free, "an SSE access to registers", mmio_sse),
    attack("mmio-locked", Free, "a locked exchange with a register", mmio_locked),
    attack("mmio-executed", Free, "a jump into a device's registers", mmio_executed),
    attack("nothing-executed", Free, "a jump to where no memory is", nothing_executed),
    attack("mmio-as-stack", Free, "the stack pointer leads into a device", mmio_stack),
];

fn is_devices(port: u32) -> bool {
    // COM1, keyboard controller, ACPI, both interrupt controllers, timer, speaker.
    [
        0x3f8..0x400,
        0x60..0x68,
        0x600..0x604,
        0x20..0x24,
        0xa0..0xa4,
        0x40..0x44,
        0x4d0..0x4d2,
    ]
    .iter()
    .any(|range| (range.start.max(4) - 4..range.end).contains(&port))
}

fn ports_read(_: &mut Bench) -> Outcome {
    for port in (0..0x1_0000u32).step_by(7) {
        let width = [1, 2, 4][port as usize % 3];
        let value = port_in(port as u16, width);
        let ones = u32::MAX >> (32 - 8 * u32::from(width));
        if !is_devices(port) && value != ones {
            return Wrong("something stands at a port of nothing");
        }
    }
    Ignored
}

fn ports_written(_: &mut Bench) -> Outcome {
    for port in (0..0x1_0000u32)
        .step_by(7)
        .filter(|&port| !is_devices(port))
    {
        port_out(port as u16, [4, 1, 2][port as usize % 3], 0xfefe_fefe);
    }
    Ignored
}

fn ports_around(_: &mut Bench) -> Outcome {
    for (first, len) in [(0x3f8u16, 8), (0x60, 5), (0x600, 3)] {
        for (port, width) in [
            (first - 1, 2),
            (first - 2, 4),
            (first - 3, 4),
            (first + len - 1, 2),
            (first + len - 1, 4),
        ] {
            let ones = u32::MAX >> (32 - 8 * u32::from(width));
            if port_in(port, width) != ones {
                return Wrong("an access over a device's edge");
            }
            port_out(port, width, 0xfefe_fefe);
        }
    }
    Ignored
}

fn port_string(_: &mut Bench) -> Outcome {
    let len = 64 << 10;
    (0..len / 8).for_each(|n| poke(ARENA + 8 * n, 0u64));
    // SAFETY: writes the arena, which nothing else is in.
    let _ = unsafe { call(ring0_ins8, 0x1234, ARENA, len) };
    let all = (0..len).all(|n| peek::<u8>(ARENA + n) == 0xff);
    Outcome::ignored_if(all, "something came from nowhere")
}

fn pci(_: &mut Bench) -> Outcome {
    for address in (0x8000_0000u32..0x8100_0000).step_by(0x2_0004) {
        port_out(0xcf8, 4, address);
        if port_in(0xcfc, 4) != u32::MAX {
            return Wrong("a PCI device");
        }
        port_out(0xcfc, 4, u32::MAX);
    }
    Ignored
}

fn pic(_: &mut Bench) -> Outcome {
    for value in 0..=255 {
        for port in [0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1] {
            port_out(port, 1, value);
            port_in(port, 1);
        }
    }
    // All of it masked again.
    port_out(0x21, 1, 0xff);
    port_out(0xa1, 1, 0xff);
    Ignored
}

fn pit(_: &mut Bench) -> Outcome {
    for mode in 0..=255 {
        port_out(0x43, 1, mode);
        for port in 0x40..0x43 {
            port_out(port, 1, 1);
            port_out(port, 1, 0);
            port_in(port, 1);
        }
        port_out(0x61, 1, mode);
    }
    // One shot, long over.
    port_out(0x43, 1, 0x30);
    port_out(0x40, 1, 0xff);
    port_out(0x40, 1, 0xff);
    Ignored
}

/// Addresses in the gap below 4 GiB at which no device is.
fn gap() -> impl Iterator<Item = u64> {
    (0xc000_0000..0xfe00_0000u64)
        .step_by(0x0333_3330)
        .filter(|at| !(FIRST..FIRST + 19 * WINDOW).contains(at))
}

fn gap_read(_: &mut Bench) -> Outcome {
    for at in gap() {
        let all = (
            peek::<u8>(at),
            peek::<u16>(at),
            peek::<u32>(at + 1),
            peek::<u64>(at),
        );
        if all != (u8::MAX, u16::MAX, u32::MAX, u64::MAX) {
            return Wrong("something stands in the gap");
        }
    }
    Ignored
}

fn gap_written(_: &mut Bench) -> Outcome {
    for at in gap() {
        poke(at, 1u8);
        poke(at + 1, 1u16);
        poke(at, 1u32);
        poke(at + 3, 1u64);
    }
    Ignored
}

fn beyond(_: &mut Bench) -> Outcome {
    for at in (MEMORY_END..MEMORY_END + 0x1000).step_by(64) {
        poke(at, 0u64);
        if peek::<u64>(at) != u64::MAX {
            return Wrong("memory beyond the end of memory");
        }
    }
    // The last bytes of memory together with the first that are none.
    let _: u64 = peek(MEMORY_END - 4);
    poke(MEMORY_END - 4, 0u64);
    Ignored
}

fn no_windows(_: &mut Bench) -> Outcome {
    for window in 4..19 {
        let at = FIRST + window * WINDOW;
        for offset in [0, 8, 0x30, 0x50, 0x70, 0x100, 0xffc] {
            if peek::<u32>(at + offset) != u32::MAX {
                return Wrong("a device that does not exist");
            }
            poke(at + offset, 0u32);
        }
    }
    Ignored
}

fn io_apic(_: &mut Bench) -> Outcome {
    for index in 0..=255u32 {
        poke(0xfec0_0000, index);
        // Masked, with every other bit set.
        poke(0xfec0_0010, u32::MAX);
        let _: u32 = peek(0xfec0_0010);
    }
    for offset in (0..0x100).step_by(4) {
        let _: u8 = peek(0xfec0_0000 + offset + 1);
        poke(0xfec0_0000 + offset, 0x12u8);
    }
    Ignored
}

fn local_apic(_: &mut Bench) -> Outcome {
    for offset in (0..0x400u64).step_by(16) {
        // Not the commands (they are the smp class's), not the enable bit.
        if ![0x300, 0x310, 0xf0].contains(&offset) {
            let at = 0xfee0_0000 + offset;
            let before: u32 = peek(at);
            // Masked, whatever else it says.
            poke(at, 0xffff_ffffu32);
            let _: u8 = peek(at);
            poke(at + 1, 0xffu8);
            poke(at, before | 0x1_0000);
        }
    }
    Ignored
}

fn kvm_pages(_: &mut Bench) -> Outcome {
    for at in (0xfffb_c000..0xfffc_0000u64).step_by(0x400) {
        let _: u64 = peek(at);
        poke(at, u64::MAX);
    }
    Ignored
}

fn mmio_string(_: &mut Bench) -> Outcome {
    // SAFETY: reads and writes registers, and no memory.
    unsafe {
        asm!("rep movsb", inout("rdi") FIRST + WINDOW + 0x200 => _, inout("rsi") FIRST => _,
            inout("rcx") 256u64 => _, options(nostack));
        asm!("rep stosd", inout("rdi") NOWHERE => _, inout("rcx") 256u64 => _, in("eax") 0,
            options(nostack));
    }
    Free
}

fn mmio_sse(_: &mut Bench) -> Outcome {
    // SAFETY: reads and writes registers, and no memory.
    unsafe {
        asm!("movups xmm0, [{0}]", "movups [{0} + 0x200], xmm0", in(reg) FIRST, out("xmm0") _);
    }
    Free
}

fn mmio_locked(_: &mut Bench) -> Outcome {
    // SAFETY: as above.
    unsafe {
        asm!("lock xadd [{0}], eax", in(reg) FIRST + 0x200, inout("eax") 1 => _);
        asm!("lock cmpxchg [{0}], ecx", in(reg) FIRST + 0x30, inout("eax") 0 => _, in("ecx") 7);
    }
    Free
}

fn mmio_executed(_: &mut Bench) -> Outcome {
    execute(FIRST)
}

fn nothing_executed(_: &mut Bench) -> Outcome {
    execute(NOWHERE)
}

fn execute(at: u64) -> Outcome {
    // SAFETY: whatever comes of it is this guest's end, which is the purpose.
    unsafe { asm!("jmp {0}", in(reg) at, options(noreturn)) }
}

fn mmio_stack(_: &mut Bench) -> Outcome {
    // SAFETY: as above.
    unsafe {
        asm!("mov rsp, {0}", "push rax", "call 2f", "2: ud2", in(reg) FIRST + 0x800, options(noreturn))
    }
}
