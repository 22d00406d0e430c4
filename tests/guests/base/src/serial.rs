//! Output through COM1. No state of the port is looked at: each access is an exit.

use core::arch::asm;
use core::fmt;

const COM1: u16 = 0x3f8;

/// Writes a byte to a port. In user mode this faults, and `entry.s` does it for us.
pub fn out(port: u16, byte: u8) {
    // SAFETY: port I/O touches no memory of this guest.
    unsafe { asm!("out dx, al", in("dx") port, in("al") byte, options(nomem, nostack)) };
}

/// The serial port.
pub struct Serial;

impl Serial {
    /// Sends one byte.
    pub fn put(&self, byte: u8) {
        out(COM1, byte);
    }
}

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.put(byte));
        Ok(())
    }
}
