//! Attacks on the entropy device (virtio 1.2 §5.4).

use super::{Attack, attack};
use crate::bench::{ARENA, Bench, MEMORY_END, NOWHERE};
use crate::driver::mmio::SIZE;
use crate::driver::queue::{Buffer, readable, writable};
use crate::outcome::Outcome::{self, *};
use casemate_guest_base::{pause, peek};

/// Most bytes that a request may get.
const MOST: u32 = 64 << 10;

#[rustfmt::skip] // A line an attack: this is a list to be read.
pub const ATTACKS: &[Attack] = &[
    attack("overlapping-descriptors-fc-5762", Served, "one buffer of 1 MiB in every descriptor: the answer stays small", |b| bounded(b, &[writable(ARENA, 1 << 20); 64])),
    attack("one-huge-buffer", Served, "64 MiB in one buffer", |b| bounded(b, &[writable(ARENA, 64 << 20)])),
    attack("gigabytes-of-the-same", Served, "63 times the same 64 MiB", |b| bounded(b, &[writable(ARENA, 64 << 20); 63])),
    attack("huge-and-partly-outside", Served, "2 GiB, of which the first 64 KiB are memory and enough", |b| bounded(b, &[writable(MEMORY_END - u64::from(MOST), 1 << 31)])),
    attack("entropy-outside-memory", NeedsReset, "a buffer in the gap", |b| b.rng.request(&[writable(NOWHERE, 64)]).0),
    attack("over-the-end-of-memory", NeedsReset, "its second half is not memory", |b| b.rng.request(&[writable(MEMORY_END - 64, 128)]).0),
    attack("good-then-outside", NeedsReset, "a good buffer, then one in the gap", |b| b.rng .request(&[writable(ARENA, 64), writable(NOWHERE, 64)]) .0),
    attack("address-wraps", NeedsReset, "a buffer that runs over 2⁶⁴", |b| b.rng.request(&[writable(u64::MAX - 31, 64)]).0),
    attack("readable-only", Served, "nothing to write to", |b| exactly(b, &[readable(ARENA, 64)], 0)),
    attack("readable-then-writable", Served, "only what is to be written is", readable_then_writable),
    attack("bytes-in-pieces", Served, "64 buffers of a byte", |b| exactly(b, &core::array::from_fn::<_, 64, _>(|n| writable(ARENA + 3 * n as u64, 1)), 64)),
    attack("onto-its-own-rings", Free, "random bytes over descriptors and rings", onto_rings),
    attack("request-storm", Served, "2,048 requests of 4 KiB", storm),
];

fn bounded(b: &mut Bench, chain: &[Buffer]) -> Outcome {
    match b.rng.request(chain) {
        (Served, written) => Outcome::served_if(written <= MOST, "more than a request may get"),
        (other, _) => other,
    }
}

fn exactly(b: &mut Bench, chain: &[Buffer], bytes: u32) -> Outcome {
    match b.rng.request(chain) {
        (Served, written) => Outcome::served_if(written == bytes, "another number of bytes"),
        (other, _) => other,
    }
}

fn readable_then_writable(b: &mut Bench) -> Outcome {
    let before: u64 = peek(ARENA);
    match exactly(b, &[readable(ARENA, 8), writable(ARENA + 4096, 8)], 8) {
        Served => Outcome::served_if(
            peek::<u64>(ARENA) == before,
            "a readable buffer was written",
        ),
        other => other,
    }
}

fn onto_rings(b: &mut Bench) -> Outcome {
    let at = b.rng.device.queues[0].at;
    for ring in [at.descriptors, at.available, at.used] {
        b.rng.device.queues[0].offer(&[writable(ring, 16 * SIZE)]);
        b.rng.device.kick(0);
        pause();
        if !b.rng.device.start() {
            return Wrong("no reset");
        }
    }
    Free
}

fn storm(b: &mut Bench) -> Outcome {
    let mut outcome = Served;
    for _ in 0..2_048 / SIZE {
        for n in 0..u64::from(SIZE) {
            b.rng.device.queues[0].offer(&[writable(ARENA + n * 4096, 4096)]);
        }
        outcome = b.rng.device.verdict(0);
        while b.rng.device.queues[0].take().is_some() {}
    }
    outcome
}
