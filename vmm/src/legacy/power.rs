//! The ways in which a guest resets or powers off its machine.

use crate::bus::BusDevice;
use crate::exit::Exit;
use casemate_proto::control::Ended;
use std::convert::Infallible;
use vm_superio::{I8042Device, Trigger};

/// What a guest writes to the ACPI reset register (our FADT says so).
pub const ACPI_RESET_VALUE: u8 = 1;
/// The sleep type of S5 (our DSDT says so).
pub const ACPI_S5_TYPE: u8 = 5;
/// Sleep control register: `SLP_EN` (ACPI 6.5, 4.8.3.7).
const SLP_EN: u8 = 1 << 5;
/// Sleep control register: where `SLP_TYP` begins.
const SLP_TYP_SHIFT: u8 = 2;

/// Ends the VM as a reset does.
struct Reset(Exit);

impl Trigger for Reset {
    type E = Infallible;
    fn trigger(&self) -> Result<(), Infallible> {
        self.0.request(Ended::Reset);
        Ok(())
    }
}

/// The keyboard controller, of which only the reset line is connected.
pub struct I8042(I8042Device<Reset>);

impl I8042 {
    /// A controller whose reset line is `exit`.
    pub fn new(exit: Exit) -> Self {
        Self(I8042Device::new(Reset(exit)))
    }
}

impl BusDevice for I8042 {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        if let ([byte], Ok(offset)) = (data, offset.try_into()) {
            *byte = self.0.read(offset);
        }
    }
    fn write(&mut self, offset: u64, data: &[u8]) {
        if let (&[byte], Ok(offset)) = (data, offset.try_into()) {
            let Ok(()) = self.0.write(offset, byte);
        }
    }
}

/// ACPI's reset, sleep control and sleep status registers, one byte each.
pub struct AcpiPower(Exit);

impl AcpiPower {
    /// Registers that end the VM through `exit`.
    pub fn new(exit: Exit) -> Self {
        Self(exit)
    }
}

impl BusDevice for AcpiPower {
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }
    fn write(&mut self, offset: u64, data: &[u8]) {
        const POWER_OFF: u8 = SLP_EN | ACPI_S5_TYPE << SLP_TYP_SHIFT;
        if let (0, [ACPI_RESET_VALUE]) | (1, [POWER_OFF]) = (offset, data) {
            self.0.request(Ended::Reset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_reset_command_resets() {
        let exit = Exit::new().unwrap();
        let mut keyboard = I8042::new(exit.clone());
        for (offset, data) in [(4, &[0xd1][..]), (0, &[0xfe]), (4, &[0xfe, 0xfe]), (4, &[])] {
            keyboard.write(offset, data);
            assert_eq!(exit.reason(), None, "{offset} {data:?}");
        }
        keyboard.write(4, &[0xfe]);
        assert_eq!(exit.reason(), Some(&Ended::Reset));
    }

    #[test]
    fn the_status_port_is_idle() {
        let mut keyboard = I8042::new(Exit::new().unwrap());
        let mut status = [0xff];
        keyboard.read(4, &mut status);
        assert_eq!(status, [0]);
    }

    #[test]
    fn acpi_resets_and_powers_off() {
        for (offset, value) in [(0, 1), (1, 0x34)] {
            let exit = Exit::new().unwrap();
            let mut power = AcpiPower::new(exit.clone());
            power.write(offset, &[0]);
            power.write(1, &[SLP_EN]);
            power.write(2, &[value]);
            assert_eq!(exit.reason(), None);
            power.write(offset, &[value]);
            assert_eq!(exit.reason(), Some(&Ended::Reset));
        }
    }
}
