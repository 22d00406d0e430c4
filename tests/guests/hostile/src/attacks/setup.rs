//! Attacks on the set-up of queues: where they lie, how large they are, and when that may
//! still change (virtio 1.2 §2.7, §4.2.3.2).

use super::{Attack, attack, ignored_when, refused_when};
use crate::bench::{ARENA, Bench, MEMORY_END, NOWHERE};
use crate::driver::block::{IN, SECTOR};
use crate::driver::mmio::*;
use crate::driver::queue::{Place, Queue, writable};
use crate::outcome::Outcome::{self, *};
use casemate_guest_base::poke;

#[rustfmt::skip] // A line an attack: this is a list to be read.
pub const ATTACKS: &[Attack] = &[
    attack("queue-select-out-of-range-cloud-hypervisor", Ignored, "a queue that does not exist is set up and read", select_out),
    attack("queue-select-one-past-the-last", Ignored, "the first queue that does not exist", |b| select(b, 1)),
    attack("queue-size-rewritten-after-activation-cve-2026-5747", Ignored, "a running queue grows to 32768", size_rewritten),
    attack("queue-moved-after-activation", Ignored, "a running queue's addresses lead elsewhere", moved),
    attack("queue-unready-after-activation", Ignored, "a running queue is taken away", unready),
    attack("queue-size-rewritten-while-ready", Ignored, "size and addresses change between ready and DRIVER_OK", rewritten_ready),
    attack("queue-before-features-ok", Refused, "queues before features", queue_early),
    attack("queue-ready-with-other-values", Refused, "2 and 0xffffffff to QueueReady", ready_values),
    attack("queue-size-zero", Refused, "no entries", |b| sized(b, 0)),
    attack("queue-size-not-a-power-of-two", Refused, "3 entries", |b| sized(b, 3)),
    attack("queue-size-above-the-offer", Refused, "512 of 256 entries", |b| sized(b, 512)),
    attack("queue-size-beyond-16-bits", Refused, "65536 + 64 entries", |b| sized(b, 65_536 + 64)),
    attack("queue-size-huge", Refused, "2³¹ entries", |b| sized(b, 1 << 31)),
    attack("descriptors-misaligned", Refused, "at 8 of 16 bytes", |b| placed(b, |p| p.descriptors += 8)),
    attack("available-misaligned", Refused, "at an odd address", |b| placed(b, |p| p.available += 1)),
    attack("used-misaligned", Refused, "at 2 of 4 bytes", |b| placed(b, |p| p.used += 2)),
    attack("descriptors-outside-memory", Refused, "in the gap below 4 GiB", |b| placed(b, |p| p.descriptors = NOWHERE)),
    attack("available-outside-memory", Refused, "right behind guest memory", |b| placed(b, |p| p.available = MEMORY_END)),
    attack("used-outside-memory", Refused, "beyond 4 GiB", |b| placed(b, |p| p.used = 1 << 40)),
    attack("descriptors-over-the-end", Refused, "the last one is not memory any more", |b| placed(b, |p| p.descriptors = MEMORY_END - 16 * 63)),
    attack("available-over-the-end", Refused, "the last two bytes are not memory", |b| placed(b, |p| p.available = MEMORY_END - 132)),
    attack("used-over-the-end", Refused, "the last bytes are not memory", |b| placed(b, |p| p.used = MEMORY_END - 516)),
    attack("used-over-mmio", Refused, "the used ring over the device's own registers", |b| placed(b, |p| p.used = FIRST)),
    attack("available-over-the-apic", Refused, "the available ring over the local APIC", |b| placed(b, |p| p.available = 0xfee0_0000)),
    attack("descriptors-wrap-around", Refused, "the table runs over 2⁶⁴", |b| placed(b, |p| p.descriptors = u64::MAX - 255)),
    attack("used-wraps-around", Refused, "the used ring runs over 2⁶⁴", |b| placed(b, |p| p.used = u64::MAX - 3)),
    attack("rings-at-the-very-end", Served, "all parts end with the last byte of memory", at_the_end),
    attack("driver-ok-without-queues", NeedsReset, "DRIVER_OK with no queue at all", no_queues),
    attack("driver-ok-with-one-of-three-queues", NeedsReset, "vsock with its receive queue only", one_of_three),
];

fn select_out(b: &mut Bench) -> Outcome {
    for index in [2, 255, 256, 65_535, 65_536, 0x8000_0000, u32::MAX] {
        let outcome = select(b, index);
        if outcome != Ignored {
            return outcome;
        }
    }
    Ignored
}

fn select(b: &mut Bench, index: u32) -> Outcome {
    let device = &mut b.disk.device;
    let offered = device.offered();
    device.negotiate(offered);
    let ready = device.place(index, device.place_of(0));
    let max = device.get(QUEUE_MAX);
    ignored_when(!ready && max == 0)
}

/// Rewrites the running queue's registers; it stays ready.
fn rewrite(b: &mut Bench, at: Place) -> Outcome {
    let device = &b.disk.device;
    device.set(QUEUE_SEL, 0);
    device.set(QUEUE_READY, 0);
    let stayed = device.get(QUEUE_READY) == 1;
    device.place(0, at);
    let status = device.status();
    device.kick(0);
    match (stayed, status) {
        (true, RUNNING) => Ignored,
        (false, _) => Wrong("the queue was taken away"),
        _ => Wrong("the status has changed"),
    }
}

fn size_rewritten(b: &mut Bench) -> Outcome {
    let at = b.disk.device.place_of(0);
    for size in [32_768, 256, 1, 0] {
        let outcome = rewrite(b, Place { size, ..at });
        if outcome != Ignored {
            return outcome;
        }
    }
    // More requests than the queue had, so that each entry is used again.
    for _ in 0..2 * SIZE {
        if b.disk.request(IN, 0, &[writable(ARENA, SECTOR)]) != Served {
            return Wrong("not served afterwards");
        }
    }
    Ignored
}

fn moved(b: &mut Bench) -> Outcome {
    rewrite(b, Place::at(ARENA, SIZE))
}

fn unready(b: &mut Bench) -> Outcome {
    let device = &b.disk.device;
    device.set(QUEUE_SEL, 0);
    device.set(QUEUE_READY, 0);
    ignored_when(device.get(QUEUE_READY) == 1)
}

fn rewritten_ready(b: &mut Bench) -> Outcome {
    let device = &mut b.disk.device;
    let offered = device.offered();
    device.negotiate(offered);
    device.place_all();
    for (register, value) in [
        (QUEUE_SIZE, 1),
        (DESCRIPTORS, 0xdead_0000),
        (AVAILABLE, 2),
        (USED, 0),
    ] {
        device.set(register, value);
        device.set(register + 4, 0xffff);
    }
    ignored_when(device.get(QUEUE_READY) == 1 && device.run())
}

fn queue_early(b: &mut Bench) -> Outcome {
    let device = &b.disk.device;
    device.reset();
    let at = device.place_of(0);
    let mut ready = device.place(0, at);
    for status in [1, 3] {
        device.set(STATUS, status);
        ready |= device.place(0, at);
    }
    refused_when(!ready)
}

fn ready_values(b: &mut Bench) -> Outcome {
    let device = &b.disk.device;
    device.negotiate(device.offered());
    device.place(0, device.place_of(0));
    device.set(QUEUE_READY, 0);
    let any = [2, 3, 0x101, u32::MAX].into_iter().any(|value| {
        device.set(QUEUE_READY, value);
        device.get(QUEUE_READY) != 0
    });
    refused_when(!any)
}

/// Sets the queue up elsewhere than a driver would; it must not become ready, nor
/// take the device along.
fn placed(b: &mut Bench, change: fn(&mut Place)) -> Outcome {
    let device = &b.disk.device;
    device.negotiate(device.offered());
    let mut at = device.place_of(0);
    change(&mut at);
    if device.place(0, at) {
        device.run();
        device.kick(0);
        return Wrong("the queue is ready");
    }
    Refused
}

fn sized(b: &mut Bench, size: u32) -> Outcome {
    let device = &b.disk.device;
    device.negotiate(device.offered());
    if device.place(
        0,
        Place {
            size,
            ..device.place_of(0)
        },
    ) {
        device.run();
        device.kick(0);
        return Wrong("the queue is ready");
    }
    Refused
}

fn at_the_end(b: &mut Bench) -> Outcome {
    let size = 16;
    let len = u64::from(size);
    for (used, available, descriptors) in [
        (
            MEMORY_END - (8 + 8 * len),
            MEMORY_END - 0x1000,
            MEMORY_END - 0x2000,
        ),
        (
            MEMORY_END - 0x1000,
            MEMORY_END - (6 + 2 * len),
            MEMORY_END - 0x2000,
        ),
        (
            MEMORY_END - 0x1000,
            MEMORY_END - 0x2000,
            MEMORY_END - 16 * len,
        ),
    ] {
        let at = Place {
            size,
            descriptors,
            available,
            used,
        };
        for address in (MEMORY_END - 0x3000..MEMORY_END).step_by(8) {
            poke(address, 0u64);
        }
        let device = &mut b.disk.device;
        device.negotiate(VERSION_1);
        if !device.place(0, at) || !device.run() {
            return Wrong("refused");
        }
        device.queues[0] = Queue::over(at);
        for _ in 0..2 * size {
            if b.disk.request(IN, 0, &[writable(ARENA, SECTOR)]) != Served {
                return Wrong("not served");
            }
        }
    }
    b.disk.device.reset();
    Served
}

fn no_queues(b: &mut Bench) -> Outcome {
    let device = &b.disk.device;
    device.negotiate(device.offered());
    device.set(STATUS, RUNNING);
    device.kick(0);
    if device.is_broken() {
        NeedsReset
    } else {
        Wrong("it runs without queues")
    }
}

fn one_of_three(b: &mut Bench) -> Outcome {
    let device = &b.vsock.device;
    device.negotiate(device.offered());
    device.place(0, device.place_of(0));
    device.set(STATUS, RUNNING);
    for q in 0..3 {
        device.kick(q);
    }
    if device.is_broken() {
        NeedsReset
    } else {
        Wrong("it runs with one queue")
    }
}
