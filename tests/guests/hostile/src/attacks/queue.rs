//! Attacks on the rings and chains themselves (virtio 1.2 §2.7), each on the queue of
//! every device that takes requests: the devices share the queue's code, but each has
//! its own loop around it.

use super::{Attack, attack};
use crate::bench::{ARENA, ARENA_END, MEMORY_END, NOWHERE};
use crate::driver::mmio::{Device, FIRST, RUNNING, SIZE};
use crate::driver::queue::{Buffer, INDIRECT, NEXT, Place, Queue, WRITE, readable, writable};
use crate::driver::vsock::TX;
use crate::outcome::Outcome::{self, *};
use casemate_guest_base::poke;

/// Name, what comes of it on block, entropy and vsock, what it does.
macro_rules! on_each {
    ($($name:literal: $block:expr, $rng:expr, $vsock:expr; $what:literal, $run:path)*) => {
        pub const ATTACKS: &[Attack] = &[$(
            attack(concat!($name, "/block"), $block, $what, |b| $run(&mut b.disk.device, 0)),
            attack(concat!($name, "/entropy"), $rng, $what, |b| $run(&mut b.rng.device, 0)),
            attack(concat!($name, "/vsock"), $vsock, $what, |b| $run(&mut b.vsock.device, TX)),
        )*];
    };
}

on_each! {
    "available-index-jumps": NeedsReset, NeedsReset, NeedsReset;
        "one more than the queue has entries: a panic in other VMMs", jumps
    "available-index-jumps-by-half": NeedsReset, NeedsReset, NeedsReset;
        "32,768 ahead", jumps_by_half
    "available-index-goes-back": NeedsReset, NeedsReset, NeedsReset;
        "one back, which is 65,535 ahead", goes_back
    "head-beyond-the-table": NeedsReset, NeedsReset, NeedsReset;
        "a head that is the queue's size: a silent stall in other VMMs", head_beyond
    "head-huge": NeedsReset, NeedsReset, NeedsReset;
        "head 65,535", head_huge
    "next-beyond-the-table": NeedsReset, NeedsReset, NeedsReset;
        "a chain that leads out of the table", next_beyond
    "descriptor-leads-to-itself": NeedsReset, NeedsReset, NeedsReset;
        "the shortest loop", loops
    "descriptors-in-a-ring": NeedsReset, NeedsReset, NeedsReset;
        "a loop through the whole table", ring
    "descriptors-in-a-ring-of-empty-buffers": NeedsReset, NeedsReset, NeedsReset;
        "the same without a byte in it", empty_ring
    "indirect-not-offered": NeedsReset, NeedsReset, NeedsReset;
        "a table of descriptors that nobody agreed on", indirect
    "indirect-and-next": NeedsReset, NeedsReset, NeedsReset;
        "the same with another descriptor behind it", indirect_next
    "indirect-to-itself": NeedsReset, NeedsReset, NeedsReset;
        "a table that is the queue's own", indirect_itself
    "readable-after-writable": NeedsReset, NeedsReset, NeedsReset;
        "the directions are mixed", mixed
    "lengths-sum-to-more-than-4-gib": NeedsReset, NeedsReset, NeedsReset;
        "lengths whose sum wraps to something small", wraps
    "readable-outside-memory": NeedsReset, Served, NeedsReset;
        "a buffer in the gap below 4 GiB", readable_outside
    "readable-over-the-end-of-memory": NeedsReset, Served, NeedsReset;
        "its first half is memory", readable_end
    "readable-at-the-end-of-all": NeedsReset, Served, NeedsReset;
        "address and length wrap around 2⁶⁴", readable_wraps
    "readable-over-mmio": NeedsReset, Served, NeedsReset;
        "the device's own registers", readable_mmio
    "nothing-but-empty-buffers": NeedsReset, Served, Served;
        "a chain without a byte", empty
    "every-entry-the-same-head": NeedsReset, Served, Served;
        "one chain offered as often as the queue has entries", same_head
    "used-ring-over-the-descriptors": Free, Free, Free;
        "the device overwrites the table that it reads", used_over_descriptors
    "all-parts-in-one-place": Free, Free, Free;
        "three rings, one address", all_in_one
    "rings-as-buffers": Free, Free, Free;
        "the queue's own rings are its buffers", rings_as_buffers
}

/// Breaks a queue in the plainest way.
pub fn break_it(device: &mut Device, q: usize) -> Outcome {
    jumps(device, q)
}

/// Moves the index and shows it.
fn move_index(device: &mut Device, q: usize, by: u16) -> Outcome {
    let queue = &mut device.queues[q];
    queue.made = queue.made.wrapping_add(by);
    queue.show();
    device.verdict(q)
}

fn jumps(device: &mut Device, q: usize) -> Outcome {
    move_index(device, q, SIZE as u16 + 1)
}

fn jumps_by_half(device: &mut Device, q: usize) -> Outcome {
    move_index(device, q, 0x8000)
}

fn goes_back(device: &mut Device, q: usize) -> Outcome {
    move_index(device, q, u16::MAX)
}

fn head(device: &mut Device, q: usize, head: u16) -> Outcome {
    device.queues[q].enter(head);
    device.queues[q].show();
    device.verdict(q)
}

fn head_beyond(device: &mut Device, q: usize) -> Outcome {
    head(device, q, SIZE as u16)
}

fn head_huge(device: &mut Device, q: usize) -> Outcome {
    head(device, q, u16::MAX)
}

fn with_next() -> Buffer {
    Buffer {
        flags: NEXT,
        ..readable(ARENA, 64)
    }
}

fn next_beyond(device: &mut Device, q: usize) -> Outcome {
    device.queues[q].describe(0, with_next(), SIZE as u16);
    head(device, q, 0)
}

fn loops(device: &mut Device, q: usize) -> Outcome {
    device.queues[q].describe(0, with_next(), 0);
    head(device, q, 0)
}

fn ring_of(device: &mut Device, q: usize, buffer: Buffer) -> Outcome {
    let size = SIZE as u16;
    for n in 0..size {
        device.queues[q].describe(n, buffer, (n + 1) % size);
    }
    head(device, q, 0)
}

fn ring(device: &mut Device, q: usize) -> Outcome {
    ring_of(device, q, with_next())
}

fn empty_ring(device: &mut Device, q: usize) -> Outcome {
    ring_of(
        device,
        q,
        Buffer {
            len: 0,
            ..with_next()
        },
    )
}

/// Offers a chain as it is.
fn offer(device: &mut Device, q: usize, chain: &[Buffer]) -> Outcome {
    device.queues[q].offer(chain);
    device.verdict(q)
}

/// A table in memory with what a device could take for a request.
fn table() -> Buffer {
    for (n, buffer) in (0..).zip([readable(ARENA, 64), writable(ARENA + 0x1000, 512)]) {
        let at = ARENA + 0x8000 + 16 * n;
        poke(at, buffer.address);
        poke(at + 8, buffer.len);
        poke(at + 12, buffer.flags | if n == 0 { NEXT } else { 0 });
        poke(at + 14, 1u16);
    }
    Buffer {
        flags: INDIRECT,
        ..readable(ARENA + 0x8000, 32)
    }
}

fn indirect(device: &mut Device, q: usize) -> Outcome {
    offer(device, q, &[table()])
}

fn indirect_next(device: &mut Device, q: usize) -> Outcome {
    offer(device, q, &[table(), writable(ARENA, 512)])
}

fn indirect_itself(device: &mut Device, q: usize) -> Outcome {
    let address = device.queues[q].at.descriptors;
    offer(
        device,
        q,
        &[Buffer {
            flags: INDIRECT | WRITE,
            ..readable(address, 16 * SIZE)
        }],
    )
}

fn mixed(device: &mut Device, q: usize) -> Outcome {
    offer(
        device,
        q,
        &[
            readable(ARENA, 64),
            writable(ARENA + 4096, 512),
            readable(ARENA, 64),
            writable(ARENA + 8192, 1),
        ],
    )
}

fn wraps(device: &mut Device, q: usize) -> Outcome {
    let huge = 0x8000_0000;
    offer(
        device,
        q,
        &[
            readable(ARENA, 64),
            readable(ARENA, huge),
            readable(ARENA, huge),
            writable(ARENA, 64),
        ],
    )
}

/// A chain that begins with this buffer, and ends as a request does.
fn begins_with(device: &mut Device, q: usize, address: u64) -> Outcome {
    offer(
        device,
        q,
        &[
            readable(address, 64),
            writable(ARENA + 4096, 512),
            writable(ARENA, 1),
        ],
    )
}

fn readable_outside(device: &mut Device, q: usize) -> Outcome {
    begins_with(device, q, NOWHERE)
}

fn readable_end(device: &mut Device, q: usize) -> Outcome {
    begins_with(device, q, MEMORY_END - 8)
}

fn readable_wraps(device: &mut Device, q: usize) -> Outcome {
    begins_with(device, q, u64::MAX - 7)
}

fn readable_mmio(device: &mut Device, q: usize) -> Outcome {
    begins_with(device, q, FIRST)
}

fn empty(device: &mut Device, q: usize) -> Outcome {
    offer(
        device,
        q,
        &[
            readable(ARENA, 0),
            readable(NOWHERE, 0),
            writable(ARENA, 0),
            writable(NOWHERE, 0),
        ],
    )
}

/// A single buffer of 20 bytes to write: too short for a disk's request.
fn same_head(device: &mut Device, q: usize) -> Outcome {
    let head = device.queues[q].chain(&[writable(ARENA, 20)]);
    for _ in 0..SIZE {
        device.queues[q].enter(head);
    }
    device.queues[q].show();
    device.verdict(q)
}

/// Starts the device with its queue in an odd place, and has it work there.
fn odd_place(device: &mut Device, q: usize, at: Place) -> Outcome {
    let offered = device.offered();
    device.negotiate(offered);
    device.place_all();
    device.set(crate::driver::mmio::QUEUE_SEL, q as u32);
    device.set(crate::driver::mmio::QUEUE_READY, 0);
    device.queues[q] = Queue::over(at);
    if !device.place(q as u32, at) || !device.run() {
        device.reset();
        return Wrong("refused");
    }
    for _ in 0..SIZE {
        device.queues[q].offer(&[
            readable(ARENA, 64),
            writable(ARENA + 4096, 512),
            writable(ARENA, 1),
        ]);
        device.kick(q);
    }
    // What it does is up to it; it must only be possible to end it.
    let running = device.status() & !crate::driver::mmio::NEEDS_RESET == RUNNING;
    let reset = device.reset();
    match running && reset {
        true => Free,
        false => Wrong("no reset"),
    }
}

fn used_over_descriptors(device: &mut Device, q: usize) -> Outcome {
    let at = Place::at(ARENA_END - 0x10_0000, SIZE);
    odd_place(
        device,
        q,
        Place {
            used: at.descriptors,
            ..at
        },
    )
}

fn all_in_one(device: &mut Device, q: usize) -> Outcome {
    let at = ARENA_END - 0x10_0000;
    odd_place(
        device,
        q,
        Place {
            size: SIZE,
            descriptors: at,
            available: at,
            used: at,
        },
    )
}

fn rings_as_buffers(device: &mut Device, q: usize) -> Outcome {
    let Place {
        descriptors,
        available,
        used,
        ..
    } = device.queues[q].at;
    for _ in 0..SIZE {
        device.queues[q].offer(&[
            readable(descriptors, 16 * SIZE),
            readable(available, 128),
            writable(used, 512),
            writable(available, 128),
            writable(descriptors, 16 * SIZE),
        ]);
        device.kick(q);
    }
    match device.reset() {
        true => Free,
        false => Wrong("no reset"),
    }
}
