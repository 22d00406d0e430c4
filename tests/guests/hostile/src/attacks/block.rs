//! Attacks on disks (virtio 1.2 §5.2).

use super::{Attack, attack};
use crate::bench::{ARENA, Bench, MEMORY_END, NOWHERE};
use crate::driver::block::{Block, FLUSH, GET_ID, IN, OUT, SECTOR};
use crate::driver::mmio::{EVENT_IDX, FIRST, SIZE, VERSION_1};
use crate::driver::queue::{Buffer, readable, writable};
use crate::outcome::Outcome::{self, *};
use casemate_guest_base::{pause, peek, poke};

#[rustfmt::skip] // A line an attack: this is a list to be read.
pub const ATTACKS: &[Attack] = &[
    attack("read-past-the-end", IoError, "the first sector that does not exist", |b| read(b, |end| end, 1)),
    attack("read-over-the-end", IoError, "the last sector and the next", |b| read(b, |end| end - 1, 2)),
    attack("write-past-the-end", IoError, "the first sector that does not exist", |b| write(b, |end| end, 1)),
    attack("write-over-the-end", IoError, "the last sector and the next: the file must not grow", |b| write(b, |end| end - 1, 2)),
    attack("sector-max", IoError, "sector 2⁶⁴-1, whose end wraps", |b| read(b, |_| u64::MAX, 1)),
    attack("sector-times-512-wraps", IoError, "sector 2⁵⁵, whose byte offset wraps to 0", |b| write(b, |_| 1 << 55, 1)),
    attack("sector-beyond-file-offsets", IoError, "a byte offset of 2⁶³", |b| write(b, |_| 1 << 54, 1)),
    attack("length-not-whole-sectors", IoError, "513 bytes", |b| b.disk.request(IN, 0, &[writable(ARENA, 513)])),
    attack("write-of-half-a-sector", IoError, "256 bytes", |b| b.disk.request(OUT, 0, &[readable(ARENA, 256)])),
    attack("read-of-nothing", IoError, "no data buffer", |b| b.disk.request(IN, 0, &[])),
    attack("write-of-nothing", IoError, "no data buffer", |b| b.disk.request(OUT, 0, &[])),
    attack("read-into-readable", IoError, "the data buffer is not to be written", |b| b.disk.request(IN, 0, &[readable(ARENA, SECTOR)])),
    attack("write-from-writable", IoError, "the data buffer is not to be read", |b| b.disk.request(OUT, 0, &[writable(ARENA, SECTOR)])),
    attack("write-to-read-only", IoError, "a write to the read-only disk", |b| b.rom.request(OUT, 0, &[readable(ARENA, SECTOR)])),
    attack("write-to-read-only-not-negotiated-cloud-hypervisor", IoError, "the same by a driver that never took the read-only feature", read_only_not_taken),
    attack("flush-of-read-only", Served, "a flush of a disk that has nothing to flush", |b| b.rom.request(FLUSH, 0, &[])),
    attack("flush-not-negotiated", Served, "a flush by a driver that did not take the feature", flush_not_taken),
    attack("type-unknown", Unsupported, "request type 5", |b| b.disk.request(5, 0, &[])),
    attack("type-scsi", Unsupported, "the legacy type 2", |b| b.disk.request(2, 0, &[readable(ARENA, 64)])),
    attack("type-discard-not-offered", Unsupported, "discard of the whole disk", |b| segments(b, 11)),
    attack("type-write-zeroes-not-offered", Unsupported, "zeroes over the whole disk", |b| segments(b, 13)),
    attack("type-secure-erase-not-offered", Unsupported, "secure erase of the whole disk", |b| segments(b, 14)),
    attack("type-lifetime-not-offered", Unsupported, "lifetime of the medium", |b| b.disk.request(10, 0, &[writable(ARENA, 16)])),
    attack("type-zone-report-not-offered", Unsupported, "zones", |b| b.disk.request(16, 0, &[writable(ARENA, 512)])),
    attack("type-max", Unsupported, "request type 2³²-1", |b| b.disk.request(u32::MAX, 0, &[])),
    attack("request-header-too-short", NeedsReset, "15 bytes", |b| raw(b, &[readable(SCRATCH, 15), writable(STATUS, 1)])),
    attack("header-missing", NeedsReset, "nothing to read", |b| raw(b, &[writable(ARENA, SECTOR), writable(STATUS, 1)])),
    attack("request-header-in-pieces", Served, "16 buffers of a byte", header_in_pieces),
    attack("header-and-data-in-one", Served, "a write whose header and data are one buffer", header_and_data),
    attack("status-missing", NeedsReset, "nothing to write", |b| raw(b, &[readable(SCRATCH, 16), readable(ARENA, SECTOR)])),
    attack("status-in-a-readable-buffer", NeedsReset, "the status byte is not to be written", |b| raw(b, &[readable(SCRATCH, 16), readable(ARENA, SECTOR), readable(STATUS, 1)])),
    attack("status-outside-memory", NeedsReset, "the status byte is in the gap", |b| raw(b, &[readable(SCRATCH, 16), writable(ARENA, SECTOR), writable(NOWHERE, 1)])),
    attack("status-behind-data-in-one", Served, "data and status are one buffer", status_behind_data),
    attack("disk-data-outside-memory", NeedsReset, "read to the gap", |b| raw(b, &[readable(SCRATCH, 16), writable(NOWHERE, SECTOR), writable(STATUS, 1)])),
    attack("data-over-the-end-of-memory", NeedsReset, "the last byte is not memory", |b| raw(b, &[readable(SCRATCH, 16), writable(MEMORY_END - 511, SECTOR), writable(STATUS, 1)])),
    attack("data-over-mmio", NeedsReset, "read into the device's own registers", |b| raw(b, &[readable(SCRATCH, 16), writable(FIRST, SECTOR), writable(STATUS, 1)])),
    attack("data-wraps-around", NeedsReset, "a buffer that runs over 2⁶⁴", |b| raw(b, &[readable(SCRATCH, 16), writable(u64::MAX - 255, SECTOR), writable(STATUS, 1)])),
    attack("amplification", IoError, "one buffer of 1 MiB as often as a chain has room for", |b| b.disk.request(IN, 0, &[writable(ARENA, 1 << 20); 62])),
    attack("amplification-of-a-gigabyte", IoError, "one buffer of 60 MiB in each descriptor", |b| b.disk.request(OUT, 0, &[readable(ARENA, 60 << 20); 60])),
    attack("read-onto-its-own-status", Served, "every sector lands on the status byte", status_under_data),
    attack("get-id-too-small", IoError, "room for 1 byte of 20", |b| b.disk.request(GET_ID, 0, &[writable(ARENA, 1)])),
    attack("get-id-one-byte-short", IoError, "room for 19 bytes of 20", |b| b.disk.request(GET_ID, 0, &[writable(ARENA, 19)])),
    attack("get-id-without-room", IoError, "no room at all", |b| b.disk.request(GET_ID, 0, &[])),
    attack("get-id-with-too-much-room", Served, "4096 bytes, of which 20 are written", get_id_large),
    attack("get-id-in-pieces", Served, "20 buffers of a byte", |b| b.disk.request(GET_ID, 0, &core::array::from_fn::<_, 20, _>(|n| writable(ARENA + 2 * n as u64, 1)))),
    attack("flush-storm", Served, "1,000 flushes", flush_storm),
    attack("largest-honest-request", Served, "62 buffers of a sector each", |b| b.disk.request(IN, 0, &core::array::from_fn::<_, 62, _>(|n| writable(ARENA + 512 * n as u64, SECTOR)))),
    attack("read-into-its-own-rings", Free, "a disk full of numbers lands on the descriptors and rings", own_rings),
];

/// Where a header lies, and where its status byte goes: those of the disk's driver.
const SCRATCH: u64 = 0x200_0000;
const STATUS: u64 = SCRATCH + 64;

fn read(b: &mut Bench, sector: fn(u64) -> u64, count: u32) -> Outcome {
    let sector = sector(b.disk.sectors());
    b.disk
        .request(IN, sector, &[writable(ARENA, count * SECTOR)])
}

fn write(b: &mut Bench, sector: fn(u64) -> u64, count: u32) -> Outcome {
    let sector = sector(b.disk.sectors());
    b.disk
        .request(OUT, sector, &[readable(ARENA, count * SECTOR)])
}

/// A chain of its own, with a header for a read of sector 0 at [`SCRATCH`].
fn raw(b: &mut Bench, chain: &[Buffer]) -> Outcome {
    b.disk.header(SCRATCH, IN, 0);
    b.disk.submit(chain)
}

fn read_only_not_taken(b: &mut Bench) -> Outcome {
    b.rom.device.start_with(VERSION_1);
    let outcome = b.rom.request(OUT, 0, &[readable(ARENA, SECTOR)]);
    b.rom.device.reset();
    outcome
}

fn flush_not_taken(b: &mut Bench) -> Outcome {
    b.disk.device.start_with(VERSION_1 | EVENT_IDX);
    let written = b.disk.request(OUT, 8, &[readable(ARENA, SECTOR)]);
    match b.disk.request(FLUSH, 0, &[]) {
        Served => written,
        other => other,
    }
}

/// Discard and the like: a list of segments, here all there is.
fn segments(b: &mut Bench, kind: u32) -> Outcome {
    poke(ARENA, 0u64);
    poke(ARENA + 8, b.disk.sectors() as u32);
    poke(ARENA + 12, 0u32);
    b.disk.request(kind, 0, &[readable(ARENA, 16)])
}

fn header_in_pieces(b: &mut Bench) -> Outcome {
    b.disk.header(SCRATCH, IN, 1);
    let mut chain: [Buffer; 18] = core::array::from_fn(|n| readable(SCRATCH + n as u64, 1));
    chain[16] = writable(ARENA, SECTOR);
    chain[17] = writable(STATUS, 1);
    b.disk.submit(&chain)
}

fn header_and_data(b: &mut Bench) -> Outcome {
    b.disk.header(ARENA, OUT, 1);
    b.disk
        .submit(&[readable(ARENA, 16 + SECTOR), writable(STATUS, 1)])
}

fn status_behind_data(b: &mut Bench) -> Outcome {
    let header = b.disk.header(SCRATCH, IN, 0);
    poke(ARENA + u64::from(SECTOR), 0xffu8);
    b.disk.device.queues[0].offer(&[header, writable(ARENA, SECTOR + 1)]);
    let outcome = b.disk.device.verdict(0);
    let _ = b.disk.device.queues[0].take();
    match peek::<u8>(ARENA + u64::from(SECTOR)) {
        0 => outcome,
        _ => Wrong("the status is elsewhere"),
    }
}

fn status_under_data(b: &mut Bench) -> Outcome {
    b.disk.request(IN, 0, &[writable(STATUS, SECTOR)])
}

fn get_id_large(b: &mut Bench) -> Outcome {
    (0..512).for_each(|n| poke(ARENA + 8 * n, u64::MAX));
    let outcome = b.disk.request(GET_ID, 0, &[writable(ARENA, 4096)]);
    match (20..4096).all(|n| peek::<u8>(ARENA + n) == 0xff) {
        true => outcome,
        false => Wrong("more than an id was written"),
    }
}

fn flush_storm(b: &mut Bench) -> Outcome {
    let mut outcome = Served;
    for _ in 0..1_000 / (SIZE / 2) {
        let header = b.disk.header(SCRATCH, FLUSH, 0);
        for _ in 0..SIZE / 2 {
            b.disk.device.queues[0].offer(&[header, writable(STATUS, 1)]);
        }
        outcome = b.disk.answer();
    }
    outcome
}

fn own_rings(b: &mut Bench) -> Outcome {
    fn at(disk: &Block) -> [u64; 3] {
        let at = disk.device.queues[0].at;
        [at.descriptors, at.available, at.used]
    }
    for ring in at(&b.rom) {
        let header = b.rom.header(b.rom.scratch, IN, 64);
        let status = writable(b.rom.status_at(), 1);
        b.rom.device.queues[0].offer(&[header, writable(ring, SECTOR), status]);
        b.rom.device.kick(0);
        pause();
        // One way or the other, it can be told to stop.
        if !b.rom.device.start() {
            return Wrong("no reset");
        }
    }
    Free
}
