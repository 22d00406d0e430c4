//! Attacks on the serial port, the keyboard controller and the ACPI registers.

use super::{Attack, attack};
use crate::bench::{ARENA, Bench};
use crate::driver::block::IN;
use crate::driver::queue::writable;
use crate::outcome::Outcome::{self, *};
use casemate_guest_base::ring0::{self, call, port_in, port_out};
use casemate_guest_base::{die, poke};

const COM1: u16 = 0x3f8;
const I8042: u16 = 0x60;
const ACPI: u16 = 0x600;
/// Registers of the serial port.
const DATA: u16 = COM1;
const INTERRUPTS: u16 = COM1 + 1;
const FIFO: u16 = COM1 + 2;
const LINE: u16 = COM1 + 3;
const MODEM: u16 = COM1 + 4;
const LINE_STATUS: u16 = COM1 + 5;

#[rustfmt::skip] // A line an attack: this is a list to be read.
pub const ATTACKS: &[Attack] = &[
    attack("serial-output-flood", Ignored, "64 KiB without a pause", output_flood),
    attack("serial-lines-of-nothing", Ignored, "20,000 empty lines: each would be a write", empty_lines),
    attack("serial-loopback-flood-cve-2020-27174", Ignored, "10,000 bytes to its own input: the buffer is bounded", loopback),
    attack("serial-divisor-zero", Ignored, "a divisor of 0, and output after it", divisor),
    attack("serial-divisor-latch-left-open", Ignored, "data and interrupts while the latch is open", latch),
    attack("serial-all-interrupts", Ignored, "every interrupt on, with output", interrupts),
    attack("serial-fifo-games", Ignored, "each value to the FIFO control", |_| all_values(FIFO)),
    attack("serial-line-games", Ignored, "each value to the line control", |_| all_values(LINE)),
    attack("serial-modem-games", Ignored, "each value to the modem control", |_| all_values(MODEM)),
    attack("serial-status-written", Ignored, "each value to the line status", |_| all_values(LINE_STATUS)),
    attack("serial-read-storm", Ignored, "2,000 reads of nothing", read_storm),
    attack("serial-odd-widths", Ignored, "2 and 4 bytes at each register", |_| odd_widths(COM1, 8)),
    attack("serial-string-output", Ignored, "64 KiB in one instruction", string_out),
    attack("serial-string-output-wide", Ignored, "64 KiB in words of 4 bytes", string_out_wide),
    attack("serial-string-input", Ignored, "64 KiB of input that is not there", string_in),
    attack("i8042-every-command-but-reset", Ignored, "255 commands", i8042_commands),
    attack("i8042-reset-to-the-data-port", Ignored, "0xfe where it is no command", i8042_data),
    attack("i8042-odd-widths", Ignored, "0xfefe and 0xfefefefe to the command port", i8042_widths),
    attack("i8042-read-storm", Ignored, "2,000 reads", i8042_reads),
    attack("acpi-every-value-but-reset", Ignored, "254 values to each register", acpi_values),
    attack("acpi-odd-widths", Ignored, "the reset value in 2 and 4 bytes", acpi_widths),
    attack("acpi-over-its-end", Ignored, "an access that runs over the last register", acpi_end),
    attack("i8042-reset-with-requests-in-flight", EndsInReset, "a reset while the disk works", |b| in_flight(b, || port_out(I8042 + 4, 1, 0xfe))),
    attack("acpi-reset-with-requests-in-flight", EndsInReset, "a reset while the disk works", |b| in_flight(b, || port_out(ACPI, 1, 1))),
    attack("acpi-power-off-with-requests-in-flight", EndsInReset, "power off while the disk works", |b| in_flight(b, || port_out(ACPI + 1, 1, 0x34))),
    attack("triple-fault-with-requests-in-flight", EndsInTripleFault, "a triple fault while the disk works", |b| in_flight(b, || die())),
];

/// Puts the serial port back as other output needs it.
fn calm() -> Outcome {
    port_out(LINE, 1, 0x03);
    port_out(MODEM, 1, 0x08);
    port_out(INTERRUPTS, 1, 0);
    port_out(FIFO, 1, 0);
    port_out(DATA, 1, b'\n'.into());
    Ignored
}

fn output_flood(_: &mut Bench) -> Outcome {
    for _ in 0..64 << 10 {
        casemate_guest_base::serial::out(DATA, b'x');
    }
    calm()
}

fn empty_lines(_: &mut Bench) -> Outcome {
    for _ in 0..20_000 {
        casemate_guest_base::serial::out(DATA, b'\n');
    }
    calm()
}

fn loopback(_: &mut Bench) -> Outcome {
    port_out(MODEM, 1, 0x10);
    for n in 0..10_000u32 {
        port_out(DATA, 1, n);
    }
    let mut came = 0;
    while port_in(LINE_STATUS, 1) & 1 != 0 && came < 10_000 {
        port_in(DATA, 1);
        came += 1;
    }
    calm();
    Outcome::ignored_if(came <= 64, "its input is not bounded")
}

fn divisor(_: &mut Bench) -> Outcome {
    port_out(LINE, 1, 0x83);
    port_out(DATA, 1, 0);
    port_out(INTERRUPTS, 1, 0);
    port_out(LINE, 1, 0x03);
    port_out(DATA, 1, b'\n'.into());
    calm()
}

fn latch(_: &mut Bench) -> Outcome {
    port_out(LINE, 1, 0x80);
    for n in 0..1_000u32 {
        port_out(DATA, 1, n);
        port_out(INTERRUPTS, 1, !n);
        port_in(DATA, 1);
    }
    calm()
}

fn interrupts(_: &mut Bench) -> Outcome {
    port_out(INTERRUPTS, 1, 0xff);
    for _ in 0..2_000 {
        port_out(DATA, 1, b'\n'.into());
        port_in(FIFO, 1);
    }
    calm()
}

fn all_values(port: u16) -> Outcome {
    for value in 0..=255 {
        port_out(port, 1, value);
        port_in(port, 1);
        port_in(DATA, 1);
    }
    calm()
}

fn read_storm(_: &mut Bench) -> Outcome {
    for n in 0..2_000 {
        port_in(COM1 + n % 8, 1);
    }
    calm()
}

fn odd_widths(first: u16, count: u16) -> Outcome {
    for port in first..first + count {
        for width in [2, 4] {
            port_out(port, width, 0xffff_ffff);
            port_in(port, width);
        }
    }
    Ignored
}

const STRING: u64 = 64 << 10;

fn string_out(_: &mut Bench) -> Outcome {
    // SAFETY: reads the arena.
    let _ = unsafe { call(ring0::ring0_outs8, DATA.into(), ARENA, STRING) };
    calm()
}

fn string_out_wide(_: &mut Bench) -> Outcome {
    // SAFETY: reads the arena.
    let _ = unsafe { call(ring0::ring0_outs32, DATA.into(), ARENA, STRING / 4) };
    calm()
}

fn string_in(_: &mut Bench) -> Outcome {
    // SAFETY: writes the arena, which nothing else is in.
    let _ = unsafe { call(ring0::ring0_ins8, DATA.into(), ARENA, STRING) };
    calm()
}

fn i8042_commands(_: &mut Bench) -> Outcome {
    for command in (0..=255).filter(|&command| command != 0xfe) {
        port_out(I8042 + 4, 1, command);
        port_out(I8042, 1, command);
        port_in(I8042, 1);
    }
    Ignored
}

fn i8042_data(_: &mut Bench) -> Outcome {
    for port in I8042..I8042 + 4 {
        port_out(port, 1, 0xfe);
    }
    Ignored
}

fn i8042_widths(_: &mut Bench) -> Outcome {
    for width in [2, 4] {
        port_out(I8042 + 4, width, 0xfefe_fefe);
        port_out(I8042 + 3, width, 0xfefe_fefe);
        port_out(I8042, width, 0xfefe_fefe);
    }
    Ignored
}

fn i8042_reads(_: &mut Bench) -> Outcome {
    for _ in 0..1_000 {
        port_in(I8042, 1);
        port_in(I8042 + 4, 1);
    }
    Ignored
}

fn acpi_values(_: &mut Bench) -> Outcome {
    for value in 0..=255 {
        for port in ACPI..ACPI + 3 {
            if (port, value) != (ACPI, 1) && (port, value) != (ACPI + 1, 0x34) {
                port_out(port, 1, value);
            }
        }
    }
    Ignored
}

fn acpi_widths(_: &mut Bench) -> Outcome {
    for width in [2, 4] {
        port_out(ACPI, width, 1);
        port_out(ACPI, width, 0x0101_0101);
        port_out(ACPI + 1, width, 0x3434_3434);
    }
    Ignored
}

fn acpi_end(_: &mut Bench) -> Outcome {
    port_out(ACPI + 2, 4, u32::MAX);
    let beyond = port_in(ACPI + 1, 4);
    Outcome::ignored_if(
        beyond == u32::MAX,
        "a register took an access beyond its end",
    )
}

/// Ends the guest while the disk has much to do.
fn in_flight(b: &mut Bench, end: fn()) -> Outcome {
    let header = b.disk.header(b.disk.scratch, IN, 0);
    poke(ARENA, 0u64);
    for n in 0..20 {
        let data = writable(ARENA + n * 0x8_0000, 0x8_0000);
        b.disk.device.queues[0].offer(&[header, data, writable(b.disk.status_at(), 1)]);
    }
    b.disk.device.kick(0);
    end();
    Wrong("the guest goes on")
}
