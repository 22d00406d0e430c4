//! The entropy device (virtio 1.2 §5.4): fills the guest's buffers with random bytes.

#[cfg(test)]
mod tests;

use super::Mem;
use super::device::{Active, COMMON_FEATURES, ConfigSpace, DeviceType, Identity, VirtioDevice};
use super::queue::{Broken, Chain};
use super::worker::{Events, Next};
use crate::unless_off::unless_off;
use std::io;

/// Entries of the request queue.
const QUEUE_SIZE: u16 = 256;
/// Most bytes a request gets; a driver asks again for more (the used length says
/// how much it got).
pub const MAX_REQUEST: u32 = 64 << 10;
/// Bytes drawn at a time, so that no request costs more host memory than this.
const PORTION: usize = 4096;

/// The device and, while the guest drives it, its queue.
#[derive(Debug, Default)]
pub struct Entropy {
    chain: Chain,
    active: Option<Active>,
}

impl Entropy {
    /// A device that draws from the kernel (getrandom(2)).
    pub fn new() -> Self {
        Self::default()
    }
}

impl VirtioDevice for Entropy {
    fn identity(&self) -> Identity {
        Identity {
            device_type: DeviceType::Entropy,
            features: COMMON_FEATURES,
            queue_sizes: vec![QUEUE_SIZE],
            config: ConfigSpace::new(Vec::new()),
        }
    }

    fn activate(&mut self, active: Active) {
        self.active = Some(active);
    }

    fn kicked(&mut self, _queue: usize, _: &Events) -> Result<Next, Broken> {
        let Some(active) = &mut self.active else {
            return Ok(Next::Wait);
        };
        loop {
            active.queues[0].suppress()?;
            while !active.halt.requested() && active.queues[0].pop(&mut self.chain)? {
                let filled = fill(&active.mem, &self.chain)?;
                active.queues[0].push(&self.chain, filled)?;
                active.queues[0].publish()?;
            }
            active.flush(0)?;
            if active.halt.requested() || !active.queues[0].arm()? {
                return Ok(Next::Wait);
            }
        }
    }

    fn reset(&mut self, _: &Events) {
        self.active = None;
    }
}

/// Fills a chain, up to [`MAX_REQUEST`]; returns how many bytes.
fn fill(mem: &Mem, chain: &Chain) -> Result<u32, Broken> {
    let mut room = chain.writable();
    if unless_off!("entropy-bound", true) {
        room = room.take(MAX_REQUEST);
    }
    let total = room.left();
    let mut portion = [0; PORTION];
    while room.left() > 0 {
        let want = portion.len().min(room.left() as usize);
        let Ok(got) = draw(&mut portion[..want]) else {
            break;
        };
        room.write(mem, &portion[..got])?;
    }
    Ok(total - room.left())
}

/// Random bytes of the host's kernel; returns how many, at least one.
fn draw(to: &mut [u8]) -> io::Result<usize> {
    loop {
        // SAFETY: `to` is writable for its length, and is no guest memory.
        let got = unsafe { libc::getrandom(to.as_mut_ptr().cast(), to.len(), 0) };
        match usize::try_from(got) {
            Ok(got) if got > 0 => return Ok(got),
            Ok(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}
