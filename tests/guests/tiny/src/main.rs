//! A guest without an operating system: boots where a kernel would (64-bit entry
//! of the Linux boot protocol), works in user mode, and does what the word after
//! `tiny=` on its command line says:
//!
//! | mode | does |
//! |---|---|
//! | `idle` | prints `tiny: up`, halts for ever |
//! | `spin` | prints `tiny: up`, loops for ever |
//! | `info` | prints what the boot loader told it, halts |
//! | `reset` | prints `tiny: up`, resets through the keyboard controller |
//! | `poweroff` | the same through the ACPI sleep register |
//! | `triple` | prints `tiny: up`, triple-faults |
//! | `flood` | writes to the console without end |
//! | `panic` | panics, which ends in a triple fault |

#![no_std]
#![no_main]

use casemate_guest_base::boot::ZeroPage;
use casemate_guest_base::serial::{self, Serial};
use casemate_guest_base::{die, halt};
use core::fmt::Write;

/// Entered in user mode by the base's `entry.s`.
///
/// # Safety
/// `zero_page` points to Linux's `struct boot_params`, mapped and not changing.
#[unsafe(no_mangle)]
unsafe extern "C" fn user_main(zero_page: *const u8) -> ! {
    // SAFETY: by this function's own contract.
    let zero_page = unsafe { ZeroPage::new(zero_page) };
    let mode = zero_page
        .cmdline()
        .split(|&byte| byte == b' ')
        .find_map(|word| word.strip_prefix(b"tiny="));
    let mode = mode.unwrap_or(b"idle");
    if mode == b"flood" {
        loop {
            let _ = Serial.write_str("tiny: flood flood flood flood flood flood flood\n");
        }
    }
    let _ = Serial.write_str("tiny: up\n");
    match mode {
        b"idle" => {}
        b"spin" => loop {
            core::hint::spin_loop();
        },
        b"info" => info(&zero_page),
        b"reset" => serial::out(0x64, 0xfe),
        b"poweroff" => serial::out(0x601, 0x34),
        b"triple" => die(),
        b"panic" => panic!("as asked"),
        _ => {
            let _ = Serial.write_str("tiny: no such mode\n");
        }
    }
    halt()
}

/// Prints what the boot loader told: command line, memory map, ACPI, initramfs.
fn info(zero_page: &ZeroPage) {
    let _ = Serial.write_str("tiny: cmdline ");
    zero_page
        .cmdline()
        .iter()
        .for_each(|&byte| Serial.put(byte));
    let _ = Serial.write_str("\n");
    for entry in zero_page.memory_map() {
        let _ = writeln!(
            Serial,
            "tiny: e820 {:#x} {:#x} {}",
            entry.address, entry.len, entry.kind
        );
        // The last byte of each range is really there.
        let last = (entry.address + entry.len - 1) as *mut u8;
        if entry.kind == 1 && (last as u64) < 4 << 30 {
            // SAFETY: memory by the map, mapped by `entry.s`, and not in use: the
            // image, its stack and the zero page lie lower in their range.
            unsafe {
                last.write_volatile(0x5a);
                assert!(last.read_volatile() == 0x5a);
            }
        }
    }
    let _ = writeln!(Serial, "tiny: rsdp {}", zero_page.rsdp_is_valid());
    let initrd = zero_page.initrd();
    let sum = initrd
        .iter()
        .fold(0u32, |sum, &b| sum.wrapping_mul(31).wrapping_add(b.into()));
    let _ = writeln!(Serial, "tiny: initrd {} {sum:#x}", initrd.len());
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let _ = writeln!(Serial, "tiny: {info}");
    die()
}
