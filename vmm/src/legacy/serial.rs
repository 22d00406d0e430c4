//! COM1: an 8250 whose output goes to the console pipe. It has no input.

use crate::bus::BusDevice;
use crate::event::EventFd;
use crate::legacy::console::Console;
use std::io::{self, Write};
use vm_superio::Trigger;
use vm_superio::serial::{NoEvents, Serial as Uart};

/// Raises COM1's interrupt through an irqfd.
struct Interrupt(EventFd);

impl Trigger for Interrupt {
    type E = io::Error;
    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// The serial port.
pub struct Serial<W: Write>(Uart<Interrupt, NoEvents, Console<W>>);

impl<W: Write> Serial<W> {
    /// A port that raises `interrupt` and writes to `out`, which must not block.
    pub fn new(interrupt: EventFd, out: W) -> Self {
        Self(Uart::new(Interrupt(interrupt), Console::new(out)))
    }

    /// Passes on what the guest wrote of a line that it will not end.
    pub fn finish(&mut self) {
        self.0.writer_mut().finish();
    }
}

impl<W: Write + Send> BusDevice for Serial<W> {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        if let ([byte], Ok(offset)) = (data, offset.try_into()) {
            *byte = self.0.read(offset);
        }
    }
    fn write(&mut self, offset: u64, data: &[u8]) {
        if let (&[byte], Ok(offset)) = (data, offset.try_into()) {
            // The console takes everything; a full interrupt counter is already pending;
            // loop-back input beyond the FIFO is the guest's own loss.
            let _ = self.0.write(offset, byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::event_fd;
    use proptest::prelude::*;

    #[test]
    fn what_is_transmitted_comes_out() {
        let (reader, writer) = io::pipe().unwrap();
        let mut port = Serial::new(event_fd().unwrap(), writer);
        for byte in b"hello" {
            port.write(0, &[*byte]);
        }
        port.finish();
        drop(port);
        assert_eq!(io::read_to_string(reader).unwrap(), "hello");
    }

    proptest! {
        #[test]
        fn any_access_is_survived(
            accesses in prop::collection::vec(
                (any::<bool>(), 0u64..8, prop::collection::vec(any::<u8>(), 0..9)), 0..200),
        ) {
            let mut port = Serial::new(event_fd().unwrap(), io::sink());
            for (write, offset, mut data) in accesses {
                if write {
                    port.write(offset, &data);
                } else {
                    port.read(offset, &mut data);
                }
            }
        }
    }
}
