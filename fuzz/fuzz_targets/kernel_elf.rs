//! ELF kernels: the VMM's loader, and the check of whoever unpacks them.
#![no_main]

use arbitrary::Arbitrary;
use casemate_fuzz::kernel::load;
use casemate_guest_image::kernel::vmlinux;
use libfuzzer_sys::fuzz_target;

/// Program header types, of which PT_LOAD is 1.
const KINDS: [u8; 8] = [1, 1, 1, 1, 0, 3, 4, 6];

/// Always of the same width, so that a change of one leaves the next what it was.
#[derive(Debug, Clone, Copy, Arbitrary)]
struct Number {
    kind: u8,
    value: u32,
}

impl Number {
    fn get(self) -> u64 {
        let value = u64::from(self.value);
        match self.kind % 4 {
            0 => value % 0x400,
            1 => (1 << 20) + value % (4 << 20),
            2 => 0,
            _ => value << 32 | value,
        }
    }
}

#[derive(Debug, Arbitrary)]
struct Segment {
    kind: u8,
    offset: Number,
    file: Number,
    address: Number,
    memory: Number,
}

#[derive(Debug, Arbitrary)]
struct Input {
    segments: Vec<Segment>,
    /// As good images have it: so far into this segment.
    inside: Option<(u8, u8)>,
    entry: Number,
    initrd: Option<u16>,
    content: u16,
    damage: Vec<(u16, u8)>,
    cut: u8,
}

fn build(input: &Input) -> Vec<u8> {
    let count = input.segments.len().min(70);
    let mut elf = vec![0; 64];
    elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    elf[16] = 2;
    elf[18] = 62;
    elf[20] = 1;
    let segment = input.inside.and_then(|(n, offset)| {
        let segment = input.segments[..count].get(usize::from(n) % count.max(1))?;
        segment.address.get().checked_add(offset.into())
    });
    let entry = segment.unwrap_or(input.entry.get());
    elf[24..32].copy_from_slice(&entry.to_le_bytes());
    elf[32] = 64;
    elf[52] = 64;
    elf[54] = 56;
    elf[56] = count as u8;
    for segment in &input.segments[..count] {
        let kind = u64::from(KINDS[usize::from(segment.kind) % 8]) | 7 << 32;
        let address = segment.address.get();
        let words = [
            kind,
            segment.offset.get(),
            address,
            address,
            segment.file.get(),
            segment.memory.get(),
            0,
        ];
        elf.extend(words.iter().flat_map(|w| w.to_le_bytes()));
    }
    elf.extend((0..input.content).map(|n| n as u8 | 1));
    for &(at, byte) in &input.damage {
        let len = elf.len();
        elf[usize::from(at) % len] = byte;
    }
    elf.truncate(elf.len() - usize::from(input.cut).min(elf.len()));
    elf
}

fuzz_target!(|input: Input| {
    let elf = build(&input);
    let _ = vmlinux(&elf);
    if let Some(loaded) = load(&elf, input.initrd.map(usize::from)) {
        assert!(
            (1 << 20..4 << 20).contains(&loaded.entry),
            "the entry is not loaded"
        );
    }
});
