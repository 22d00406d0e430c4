//! The few devices of a PC that kernels expect: serial port, keyboard
//! controller, ACPI power registers.

pub mod console;
pub mod power;
pub mod serial;
