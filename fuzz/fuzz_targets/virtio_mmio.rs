//! The registers, with the real worker thread behind them: any access at any
//! time. A reset makes it all good again.
#![no_main]

use arbitrary::Arbitrary;
use casemate_vmm::bus::BusDevice;
use casemate_vmm::virtio::entropy::Entropy;
use casemate_vmm::virtio::testing::{Driver, FREE, MEMORY};
use libfuzzer_sys::fuzz_target;

/// The registers of virtio-mmio that have a meaning.
const REGISTERS: [u16; 28] = [
    0x00, 0x04, 0x08, 0x0c, 0x10, 0x14, 0x20, 0x24, 0x30, 0x34, 0x38, 0x44, 0x50, 0x60, 0x64, 0x70,
    0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4, 0xac, 0xb0, 0xb4, 0xb8, 0xbc, 0xfc,
];

#[derive(Debug, Arbitrary)]
enum Action {
    /// A write of 4 bytes to a register.
    Set(u8, u32),
    /// The same with the values that registers usually get.
    SetSmall(u8, u8),
    /// Any write.
    Write(u16, [u8; 8], u8),
    /// Any read.
    Read(u16, u8),
    /// The start of a driver, up to a step, with a queue of this log₂ size there.
    Start {
        steps: u8,
        features: u64,
        size: u8,
        at: [u32; 3],
    },
    /// A write into memory.
    Poke(u32, [u8; 8]),
    /// A chain where the proper queue lies.
    Descriptor {
        index: u8,
        at: u32,
        len: u32,
        flags: u8,
        next: u8,
    },
    /// An available index there.
    Available(u16),
}

fn start(driver: &mut Driver, steps: u8, features: u64, size: u8, at: [u32; 3]) {
    let words = [
        (0x70, 0),
        (0x70, 1),
        (0x70, 3),
        (0x24, 0),
        (0x20, features as u32),
        (0x24, 1),
        (0x20, 1),
        (0x70, 11),
        (0x30, 0),
        (0x38, 1u32.checked_shl((size % 18).into()).unwrap_or(0)),
        (0x80, at[0] & !15),
        (0x90, at[1] & !1),
        (0xa0, at[2] & !3),
        (0x44, 1),
        (0x70, 15),
        (0x50, 0),
    ];
    for &(register, value) in words.iter().take(usize::from(steps % 17)) {
        driver.set(register, value);
    }
}

fn act(driver: &mut Driver, action: &Action) {
    let register = |n: u8| u32::from(REGISTERS[usize::from(n) % REGISTERS.len()]);
    let inside = |at: u32| u64::from(at) % (MEMORY as u64 - 16);
    match *action {
        Action::Set(n, value) => driver.set(register(n), value),
        Action::SetSmall(n, value) => driver.set(register(n), value.into()),
        Action::Write(at, data, len) => {
            let len = usize::from(len % 9);
            driver.mmio.write((at % 0x1000).into(), &data[..len]);
        }
        Action::Read(at, len) => {
            let mut data = [0; 8];
            let len = usize::from(len % 9);
            driver.mmio.read((at % 0x1000).into(), &mut data[..len]);
        }
        Action::Start {
            steps,
            features,
            size,
            at,
        } => {
            let at = at.map(|at| at % (2 * MEMORY as u32));
            start(driver, steps, features, size, at);
        }
        Action::Poke(at, data) => driver.poke(inside(at), &data),
        Action::Descriptor {
            index,
            at,
            len,
            flags,
            next,
        } => {
            let bytes = [
                &u64::from(at).to_le_bytes()[..],
                &len.to_le_bytes(),
                &u16::from(flags).to_le_bytes(),
                &u16::from(next).to_le_bytes(),
            ];
            driver.poke(16 * u64::from(index), &bytes.concat());
        }
        Action::Available(index) => driver.poke(0x4002, &index.to_le_bytes()),
    }
}

fuzz_target!(|actions: Vec<Action>| {
    let mut driver = Driver::new(Entropy::new());
    for action in actions.iter().take(200) {
        act(&mut driver, action);
        let status = driver.status();
        // Steps come in order: each bit is there only with those before it.
        assert!(
            matches!(status & 0xf, 0 | 1 | 3 | 11 | 15),
            "status {status:#x}"
        );
    }
    driver.start(u64::MAX, 16);
    assert_eq!(driver.transact(0, &[(FREE, 64, true)]), 64);
});
