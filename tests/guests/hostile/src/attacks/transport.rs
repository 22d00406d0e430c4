//! Attacks on the registers, the status, features, notifications and resets (virtio 1.2
//! §2.1, §3.1, §4.2).

use super::{Attack, attack, ignored_when, refused_when};
use crate::bench::{ARENA, Bench, goes_on};
use crate::driver::block::{IN, OUT, SECTOR};
use crate::driver::mmio::*;
use crate::driver::queue::{readable, writable};
use crate::outcome::Outcome::{self, *};
use casemate_guest_base::{pause, peek, poke, wait};

#[rustfmt::skip] // A line an attack: this is a list to be read.
pub const ATTACKS: &[Attack] = &[
    attack("status-driver-without-acknowledge", Refused, "the first step is skipped", |b| steps(b, &[], 3)),
    attack("status-driver-ok-first", Refused, "all steps are skipped", |b| steps(b, &[], 15)),
    attack("status-features-ok-without-driver", Refused, "a step in the middle is skipped", |b| steps(b, &[1], 9)),
    attack("status-driver-ok-without-features-ok", Refused, "features are never agreed on", |b| steps(b, &[1, 3], 7)),
    attack("status-bits-cleared-fc-5818", Ignored, "bits of the status are cleared one by one while running", bits_cleared),
    attack("status-bits-cleared-on-the-way", Refused, "back from DRIVER to ACKNOWLEDGE", |b| steps(b, &[1, 3], 1)),
    attack("status-unknown-bits", Refused, "bits that do not exist, and more than 8 of them", |b| steps(b, &[1], 0xffff_ff13)),
    attack("status-needs-reset-by-driver", Ignored, "the driver sets the device's own bit", needs_reset_by_driver),
    attack("status-failed-then-on", Refused, "after FAILED the driver goes on", |b| steps(b, &[1, 3, 0x83], 0x8b)),
    attack("status-failed-while-running", Ignored, "FAILED while requests are served", failed_while_running),
    attack("status-written-again", Ignored, "DRIVER_OK over and over", again),
    attack("features-not-offered", Refused, "indirect descriptors, which nobody offers", |b| features(b, VERSION_1 | INDIRECT_DESC)),
    attack("features-all", Refused, "all bits there are", |b| features(b, u64::MAX)),
    attack("features-without-version-1", Refused, "a legacy driver", |b| features(b, EVENT_IDX)),
    attack("features-none", Refused, "no feature at all", |b| features(b, 0)),
    attack("features-in-a-third-half", Ignored, "feature words beyond 64 bits", third_half),
    attack("features-after-features-ok", Ignored, "the choice is changed once it is agreed on", features_late),
    attack("features-before-driver", Refused, "features before the driver has said that it is there", features_early),
    attack("features-selected-out-of-range", Ignored, "offered features are read from word 2 on", features_select),
    attack("notify-before-driver-ok", Ignored, "notifications of a device that is not running", notify_early),
    attack("notify-queues-that-do-not-exist", Ignored, "1, 255, 65536, 2³²-1", notify_nowhere),
    attack("notify-storm", Ignored, "20,000 notifications of nothing", notify_storm),
    attack("notify-storm-of-nowhere", Ignored, "2,000 notifications that KVM does not take by itself", notify_storm_nowhere),
    attack("notify-in-wrong-widths", Ignored, "1, 2 and 8 bytes, and not aligned", notify_widths),
    attack("registers-read-in-every-width", Ignored, "1, 2, 4 and 8 bytes at every offset", read_widths),
    attack("registers-written-in-every-width", Ignored, "1, 2 and 8 bytes, and unaligned, everywhere", write_widths),
    attack("registers-that-do-not-exist", Ignored, "a write to each of them", unknown_registers),
    attack("registers-read-only", Ignored, "magic, version, device, features, interrupt status", read_only_registers),
    attack("config-space-beyond-its-end", Ignored, "reads up to the end of the window, in every width", config_end),
    attack("config-space-written", Ignored, "the capacity is overwritten", config_written),
    attack("window-end-straddled", Ignored, "an access that runs into the next device", straddle),
    attack("interrupt-acknowledge-storm", Ignored, "all bits, none, and others, over and over", acknowledge),
    attack("shared-memory-regions", Ignored, "regions that do not exist are selected and read", shared_memory),
    attack("reset-storm", Ignored, "50 whole starts, 200 bare resets", reset_storm),
    attack("reset-with-requests-in-flight-cve-2026-45782", Ignored, "requests at once with a reset, 20 times: nothing comes after it", reset_in_flight),
    attack("reset-behind-a-gigabyte", Ignored, "64 requests of 15.5 MiB each, and a reset that does not wait for all of them", reset_behind),
    attack("notify-after-reset", Ignored, "the rings that were given up are filled and notified", after_reset),
    attack("broken-device-notified", NeedsReset, "a broken device is notified 1,000 times", broken_notified),
    attack("broken-device-told-to-run", NeedsReset, "a broken device is not healed by DRIVER_OK", broken_told),
];

/// From reset through `first`, then `last`: which must have no effect.
fn steps(b: &mut Bench, first: &[u32], last: u32) -> Outcome {
    let device = &b.disk.device;
    device.reset();
    for &step in first {
        device.set(STATUS, step);
    }
    let before = device.status();
    device.set(STATUS, last);
    refused_when(device.status() == before)
}

fn bits_cleared(b: &mut Bench) -> Outcome {
    let device = &b.disk.device;
    for value in [14, 13, 11, 7, 3, 1, 8] {
        device.set(STATUS, value);
        if device.status() != RUNNING {
            return Wrong("a bit was cleared");
        }
    }
    Ignored
}

fn needs_reset_by_driver(b: &mut Bench) -> Outcome {
    b.disk.device.set(STATUS, RUNNING | NEEDS_RESET);
    goes_on(&b.disk.device)
}

fn failed_while_running(b: &mut Bench) -> Outcome {
    b.disk.device.set(STATUS, RUNNING | 0x80);
    b.disk.device.kick(0);
    ignored_when(b.disk.device.status() == RUNNING | 0x80)
}

fn again(b: &mut Bench) -> Outcome {
    for _ in 0..100 {
        b.disk.device.set(STATUS, RUNNING);
    }
    goes_on(&b.disk.device)
}

fn features(b: &mut Bench, chosen: u64) -> Outcome {
    refused_when(!b.disk.device.negotiate(chosen))
}

fn third_half(b: &mut Bench) -> Outcome {
    let device = &mut b.disk.device;
    device.reset();
    device.set(STATUS, 1);
    device.set(STATUS, 3);
    device.choose(VERSION_1);
    for half in [2, 3, 32, u32::MAX] {
        device.set(DRIVER_FEATURES_SEL, half);
        device.set(DRIVER_FEATURES, u32::MAX);
    }
    device.set(STATUS, 11);
    ignored_when(device.status() == 11)
}

fn features_late(b: &mut Bench) -> Outcome {
    let device = &mut b.disk.device;
    let agreed = device.offered();
    device.negotiate(agreed);
    device.choose(VERSION_1);
    device.place_all();
    device.run();
    if b.disk.request(IN, 0, &[writable(ARENA, SECTOR)]) != Served {
        return Wrong("not served");
    }
    // With the event index the device says behind the used ring which entry it
    // wants to be told of next.
    let place = b.disk.device.place_of(0);
    let event = place.used + 4 + 8 * u64::from(SIZE);
    ignored_when(wait(|| peek::<u16>(event) == 1))
}

fn features_early(b: &mut Bench) -> Outcome {
    let device = &b.disk.device;
    device.reset();
    device.choose(VERSION_1);
    device.set(STATUS, 1);
    device.choose(VERSION_1);
    device.set(STATUS, 3);
    device.set(STATUS, 11);
    refused_when(device.status() == 3)
}

fn features_select(b: &mut Bench) -> Outcome {
    let device = &b.disk.device;
    let none = [2, 3, 0x8000_0000, u32::MAX].into_iter().all(|half| {
        device.set(DEVICE_FEATURES_SEL, half);
        device.get(DEVICE_FEATURES) == 0
    });
    ignored_when(none)
}

fn notify_early(b: &mut Bench) -> Outcome {
    let device = &mut b.disk.device;
    device.reset();
    for status in [0, 1, 3, 11] {
        device.set(STATUS, status);
        (0..100).for_each(|_| device.kick(0));
    }
    ignored_when(!device.is_broken())
}

fn notify_nowhere(b: &mut Bench) -> Outcome {
    let device = &b.disk.device;
    for queue in [1, 2, 255, 65_536, 0x8000_0000, u32::MAX] {
        device.set(NOTIFY, queue);
    }
    goes_on(device)
}

fn notify_storm(b: &mut Bench) -> Outcome {
    (0..20_000).for_each(|_| b.disk.device.kick(0));
    goes_on(&b.disk.device)
}

fn notify_storm_nowhere(b: &mut Bench) -> Outcome {
    (0..2_000).for_each(|n| b.disk.device.kick(1 + n));
    goes_on(&b.disk.device)
}

fn notify_widths(b: &mut Bench) -> Outcome {
    let at = b.disk.device.base + NOTIFY;
    for _ in 0..50 {
        poke(at, 0u8);
        poke(at, 0u16);
        poke(at, 0u64);
        poke(at + 1, 0u16);
        poke(at + 2, 0u32);
        poke(at + 3, 0u8);
    }
    goes_on(&b.disk.device)
}

fn read_widths(b: &mut Bench) -> Outcome {
    let device = &b.disk.device;
    for offset in 0..0x108 {
        let at = device.base + offset;
        let narrow = (peek::<u8>(at), peek::<u16>(at));
        let wide = (peek::<u32>(at), peek::<u64>(at));
        if offset < CONFIG - 8 && (narrow.0, narrow.1, wide.1) != (0, 0, 0) {
            return Wrong("a register in another width");
        }
        if offset % 4 != 0 && offset < CONFIG - 4 && wide.0 != 0 {
            return Wrong("a register out of line");
        }
    }
    goes_on(device)
}

fn write_widths(b: &mut Bench) -> Outcome {
    let device = &b.disk.device;
    for offset in 0..0x108 {
        let at = device.base + offset;
        poke(at, 0u8);
        poke(at, 0u16);
        poke(at, 0u64);
        if offset % 4 != 0 {
            poke(at, 0u32);
        }
    }
    goes_on(device)
}

fn unknown_registers(b: &mut Bench) -> Outcome {
    let device = &b.disk.device;
    for register in (0..WINDOW).step_by(4) {
        let known = [
            DEVICE_FEATURES_SEL,
            DRIVER_FEATURES_SEL,
            DRIVER_FEATURES,
            QUEUE_SEL,
            QUEUE_SIZE,
            QUEUE_READY,
            NOTIFY,
            INTERRUPT_ACK,
            STATUS,
            SHM_SEL,
        ];
        if !known.contains(&register) && !(DESCRIPTORS..USED + 8).contains(&register) {
            device.set(register, 0xffff_ffff);
        }
    }
    goes_on(device)
}

fn read_only_registers(b: &mut Bench) -> Outcome {
    let device = &b.disk.device;
    for register in [
        0,
        4,
        8,
        12,
        DEVICE_FEATURES,
        QUEUE_MAX,
        INTERRUPT_STATUS,
        0xfc,
    ] {
        let before = device.get(register);
        device.set(register, !before);
        if device.get(register) != before {
            return Wrong("a read-only register has changed");
        }
    }
    goes_on(device)
}

fn config_end(b: &mut Bench) -> Outcome {
    for device in [&b.disk.device, &b.vsock.device, &b.rng.device] {
        for offset in [60u64, 64, 100, 0x800, 0xef0] {
            let at = device.base + CONFIG + offset;
            let all = (
                peek::<u8>(at),
                peek::<u16>(at),
                peek::<u32>(at),
                peek::<u64>(at),
            );
            if all != (0, 0, 0, 0) {
                return Wrong("something stands behind the configuration space");
            }
        }
        // The first bytes that do not exist, together with the last that do.
        for offset in 0..48 {
            let _: u64 = peek(device.base + CONFIG + offset);
        }
        let _: u32 = peek(device.base + WINDOW - 4);
    }
    goes_on(&b.disk.device)
}

fn config_written(b: &mut Bench) -> Outcome {
    let before = b.disk.sectors();
    let at = b.disk.device.base + CONFIG;
    poke(at, u64::MAX);
    poke(at, u32::MAX);
    poke(at + 4, u8::MAX);
    if b.disk.sectors() != before {
        return Wrong("the capacity has changed");
    }
    goes_on(&b.disk.device)
}

fn straddle(b: &mut Bench) -> Outcome {
    let end = b.disk.device.base + WINDOW;
    for at in end - 7..end {
        let _: u64 = peek(at);
        poke(at, u64::MAX);
    }
    goes_on(&b.disk.device)
}

fn acknowledge(b: &mut Bench) -> Outcome {
    for n in 0..500u32 {
        b.disk
            .device
            .set(INTERRUPT_ACK, n.wrapping_mul(0x9e37_79b9));
        b.disk.device.set(INTERRUPT_ACK, u32::MAX);
    }
    goes_on(&b.disk.device)
}

fn shared_memory(b: &mut Bench) -> Outcome {
    for region in [0, 1, 255, u32::MAX] {
        b.disk.device.set(SHM_SEL, region);
        let any = (0xb0..=0xbc)
            .step_by(4)
            .any(|r| b.disk.device.get(r) != u32::MAX);
        if any {
            return Wrong("a shared memory region");
        }
    }
    goes_on(&b.disk.device)
}

fn reset_storm(b: &mut Bench) -> Outcome {
    for _ in 0..50 {
        if !b.disk.device.start() {
            return Wrong("it does not start again");
        }
    }
    for _ in 0..200 {
        b.disk.device.set(STATUS, 0);
    }
    ignored_when(b.disk.device.status() == 0)
}

fn reset_in_flight(b: &mut Bench) -> Outcome {
    let len = 0x1_0000;
    for round in 0..20 {
        b.disk.device.start();
        let header = b
            .disk
            .header(b.disk.scratch, if round % 2 == 0 { IN } else { OUT }, 0);
        for n in 0..20 {
            let data = ARENA + n * u64::from(len);
            let data = if round % 2 == 0 {
                writable(data, len)
            } else {
                readable(data, len)
            };
            b.disk.device.queues[0].offer(&[header, data, writable(b.disk.status_at(), 1)]);
        }
        b.disk.device.kick(0);
        if !b.disk.device.reset() {
            return Wrong("no reset");
        }
        for n in 0..20 * u64::from(len) / 0x1000 {
            poke(ARENA + n * 0x1000, 0x5a5a_5a5au32);
        }
        let used = b.disk.device.queues[0].used();
        pause();
        let touched = (0..20 * u64::from(len) / 0x1000)
            .any(|n| peek::<u32>(ARENA + n * 0x1000) != 0x5a5a_5a5a);
        if touched || b.disk.device.queues[0].used() != used {
            return Wrong("something came after the reset");
        }
    }
    Ignored
}

fn reset_behind(b: &mut Bench) -> Outcome {
    // The vCPU may lose its CPU between notification and reset: some rounds.
    for _ in 0..5 {
        b.disk.device.start();
        let mut chain = [writable(ARENA, 256 << 10); 64];
        chain[0] = b.disk.header(b.disk.scratch, IN, 0);
        chain[63] = writable(b.disk.status_at(), 1);
        let head = b.disk.device.queues[0].chain(&chain);
        (0..SIZE).for_each(|_| b.disk.device.queues[0].enter(head));
        b.disk.device.queues[0].show();
        b.disk.device.kick(0);
        if !b.disk.device.reset() {
            return Wrong("no reset");
        }
        if u32::from(b.disk.device.queues[0].used()) < SIZE {
            return Ignored;
        }
    }
    Wrong("the reset waits for every request")
}

fn after_reset(b: &mut Bench) -> Outcome {
    b.disk.device.reset();
    let header = b.disk.header(b.disk.scratch, IN, 0);
    let status = writable(b.disk.status_at(), 1);
    let before = b.disk.device.queues[0].used();
    b.disk.device.queues[0].offer(&[header, writable(ARENA, SECTOR), status]);
    for _ in 0..100 {
        b.disk.device.kick(0);
    }
    // By the time that another device has answered this often, this one would have.
    for _ in 0..200 {
        if b.rng.check().is_err() {
            return Wrong("the entropy device does not answer");
        }
    }
    ignored_when(b.disk.device.queues[0].used() == before)
}

fn broken_notified(b: &mut Bench) -> Outcome {
    let outcome = super::queue::break_it(&mut b.disk.device, 0);
    (0..1_000).for_each(|_| b.disk.device.kick(0));
    if b.disk.device.is_broken() {
        outcome
    } else {
        Wrong("healed")
    }
}

fn broken_told(b: &mut Bench) -> Outcome {
    let outcome = super::queue::break_it(&mut b.disk.device, 0);
    for status in [RUNNING, RUNNING | NEEDS_RESET, 11, 1] {
        b.disk.device.set(STATUS, status);
    }
    b.disk.device.set(INTERRUPT_ACK, u32::MAX);
    if b.disk.device.is_broken() {
        outcome
    } else {
        Wrong("healed")
    }
}
