//! The machine under attack: a driver for each device, and memory to play with.
//!
//! The host gives every hostile guest the same machine (`vmm/tests/vm/hostile`).

use crate::driver::block::Block;
use crate::driver::entropy::Entropy;
use crate::driver::mmio::{Device, RUNNING};
use crate::driver::vsock::Vsock;
use crate::outcome::Outcome;
use casemate_guest_base::{poke, smp};

/// First byte after guest memory.
pub const MEMORY_END: u64 = 128 << 20;
/// Where attacks put what they need: [`ARENA`] to [`ARENA_END`].
pub const ARENA: u64 = 0x300_0000;
/// First byte after that.
pub const ARENA_END: u64 = 0x700_0000;
/// Where no memory and no device is: in the gap below 4 GiB.
pub const NOWHERE: u64 = 0xc800_0000;

/// Each device's own scratch memory.
const SCRATCH: u64 = 0x200_0000;
const SCRATCH_ROOM: u64 = 0x10_0000;
/// Where the socket device's packets come in.
const ROOMS: u64 = 0x180_0000;

/// All devices with their drivers.
pub struct Bench {
    /// A disk.
    pub disk: Block,
    /// A read-only disk.
    pub rom: Block,
    /// The socket device.
    pub vsock: Vsock,
    /// The entropy device.
    pub rng: Entropy,
}

impl Bench {
    /// Drivers that have not started yet.
    pub fn new() -> Self {
        let scratch = |n| SCRATCH + n * SCRATCH_ROOM;
        Self {
            disk: Block::new(0, scratch(0), false),
            rom: Block::new(1, scratch(1), true),
            vsock: Vsock::new(2, scratch(2), ROOMS),
            rng: Entropy::new(3, scratch(3)),
        }
    }

    /// Starts every driver and sees that its device works.
    ///
    /// # Errors
    /// What does not.
    pub fn start_all(&mut self) -> Result<(), &'static str> {
        for at in (ARENA..ARENA + 0x10_0000).step_by(8) {
            poke(at, 0u64);
        }
        for (device, name) in [
            (&mut self.disk.device, "the disk does not start"),
            (&mut self.rom.device, "the read-only disk does not start"),
            (&mut self.rng.device, "the entropy device does not start"),
        ] {
            if !device.start() {
                return Err(name);
            }
        }
        if !self.vsock.start() {
            return Err("vsock does not start");
        }
        self.check_all()
    }

    /// After an attack: has the other vCPUs do nothing more. Does not wait, since an
    /// attack may have ended them.
    pub fn calm(&mut self) {
        for n in 1..smp::MAX as u8 {
            smp::release(n);
        }
    }

    /// Sees that all devices work, after a reset of those that are not running.
    ///
    /// # Errors
    /// What does not.
    pub fn check_all(&mut self) -> Result<(), &'static str> {
        for (device, name) in [
            (&mut self.disk.device, "the disk does not come back"),
            (
                &mut self.rom.device,
                "the read-only disk does not come back",
            ),
            (
                &mut self.rng.device,
                "the entropy device does not come back",
            ),
        ] {
            if device.status() != RUNNING && !device.start() {
                return Err(name);
            }
        }
        if self.vsock.device.status() != RUNNING && !self.vsock.start() {
            return Err("vsock does not come back");
        }
        self.disk.check()?;
        self.rom.check()?;
        self.rng.check()?;
        self.vsock.check()
    }

    /// Resets what an attack left in a state of its own, and starts it afresh.
    pub fn restart(&mut self) {
        self.disk.device.start();
        self.rom.device.start();
        self.rng.device.start();
        self.vsock.start();
    }

    /// Starts vCPU 1, if it does not run yet.
    pub fn second(&self) -> bool {
        smp::rounds(1) > 0 || smp::start(1)
    }
}

/// The outcome of an attack on a device that must go on as if nothing had been.
pub fn goes_on(device: &Device) -> Outcome {
    match device.status() {
        RUNNING => Outcome::Ignored,
        _ => Outcome::Wrong("the status has changed"),
    }
}
