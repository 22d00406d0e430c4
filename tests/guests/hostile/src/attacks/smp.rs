//! Attacks from more than one vCPU: what is judged changes while it is judged, and
//! start-up interrupts that no kernel sends.

use super::{Attack, attack_with};
use crate::bench::{ARENA, ARENA_END, Bench, NOWHERE, goes_on};
use crate::driver::block::{IN, OUT, SECTOR};
use crate::driver::mmio::{Device, FIRST, NEEDS_RESET, NOTIFY, RUNNING, SIZE, STATUS, WINDOW};
use crate::driver::queue::{Place, Queue, readable, writable};
use crate::driver::vsock::{HEADER, NOWHERE as NO_PORT, Packet, REQUEST, RW, TX};
use crate::outcome::Outcome::{self, *};
use casemate_guest_base::smp::{self, INIT, NMI, STARTUP};
use casemate_guest_base::{pause, poke};

#[rustfmt::skip] // A line an attack: this is a list to be read.
pub const ATTACKS: &[Attack] = &[
    attack_with(2, "two-vcpus", Ignored, "the second runs a function of ours: no attack", two),
    attack_with(2, "descriptor-flipped-while-read", Ignored, "address and length of a disk's buffer flip between good and bad", flipped_descriptor),
    attack_with(2, "chain-flipped-while-walked", Ignored, "flags and next of a chain flip between an end and a loop", flipped_chain),
    attack_with(2, "request-header-flipped-while-read", Ignored, "type and sector flip between a read and a write past the end", flipped_request),
    attack_with(2, "vsock-header-fetched-twice-cloud-hypervisor", Ignored, "the length flips between that of the chain and 2³²-1", flipped_packet),
    attack_with(2, "available-index-flipped", Ignored, "the index flips between one and 40,000 ahead", flipped_index),
    attack_with(2, "used-ring-overwritten", Ignored, "the other vCPU writes what the device writes", overwritten_used),
    attack_with(2, "buffers-made-while-the-device-works", Ignored, "an index that never stands still, and then a reset", endless),
    attack_with(2, "reset-against-notifications", Ignored, "one vCPU resets, the other notifies", |b| race_of(b, notify, 60)),
    attack_with(2, "reset-against-reset", Ignored, "both reset and start the same device", |b| race_of(b, resets, 60)),
    attack_with(2, "reset-against-set-up", Ignored, "one resets, the other sets queues up", |b| race_of(b, sets_up, 60)),
    attack_with(2, "registers-from-both-sides", Ignored, "both read all registers", registers),
    attack_with(4, "notifications-from-four-vcpus", Ignored, "all four notify the same queue", four_notify),
    attack_with(2, "init-storm", Free, "1,000 INITs to the other vCPU", |_| storm(1, INIT)),
    attack_with(2, "startup-without-init", Free, "1,000 start-up interrupts to a vCPU that runs", |_| storm(1, STARTUP | 8)),
    attack_with(2, "init-and-startup-storm", Free, "500 of each, in turn", init_startup),
    attack_with(4, "init-and-startup-of-three", Free, "each of three vCPUs is started over and over", startup_of_three),
    attack_with(4, "init-of-all-others", Free, "the shorthand for all but oneself", |_| shorthand(3, INIT)),
    attack_with(4, "nmi-to-all-others", Free, "vCPUs without a handler", |_| shorthand(3, NMI)),
    attack_with(2, "startup-into-nothing", Free, "the other vCPU starts in a page of zeroes", |_| startup_at(0x90)),
    attack_with(2, "startup-into-the-rom", Free, "the other vCPU starts among ACPI tables", |_| startup_at(0xe0)),
    attack_with(2, "init-of-oneself", Free, "the first vCPU back to its reset vector", |_| storm(0, INIT)),
    attack_with(2, "nmi-of-oneself", Free, "no handler", |_| storm(0, NMI)),
    attack_with(2, "init-of-the-first-by-the-second", Free, "the second vCPU resets the first", init_of_first),
    attack_with(2, "interrupts-to-nobody", Ignored, "local APICs that do not exist, each delivery mode", to_nobody),
    attack_with(4, "interrupts-of-every-kind", Free, "each delivery mode and vector to everybody", every_kind),
    attack_with(2, "triple-fault-of-the-second-vcpu", EndsInTripleFault, "the second vCPU ends the guest while the first reads", second_dies),
    attack_with(2, "reset-while-the-second-vcpu-works", EndsInReset, "the keyboard controller resets the machine while the other vCPU resets a device", reset_beside_second),
];

const DISK: u64 = FIRST;
/// What the other vCPU flips.
const TARGET: u64 = ARENA_END - 0x1000;

fn disk_queue() -> Place {
    Device::new(0, 1).place_of(0)
}

fn two(b: &mut Bench) -> Outcome {
    if !b.second() {
        return Wrong("no second vCPU");
    }
    poke(TARGET, 0u64);
    smp::run(1, || poke(TARGET, 1u64));
    let came = casemate_guest_base::wait(|| casemate_guest_base::peek::<u64>(TARGET) == 1);
    Outcome::ignored_if(came, "it does not run")
}

/// Lets the other vCPU run `task` while `round` goes on; a device that broke starts anew.
fn against(b: &mut Bench, task: fn(), rounds: u32, round: fn(&mut Bench)) -> Outcome {
    if !b.second() {
        return Wrong("no second vCPU");
    }
    smp::run(1, task);
    for _ in 0..rounds {
        round(b);
    }
    smp::stop(1);
    b.restart();
    goes_on(&b.disk.device)
}

/// After a request of which anything may have come.
fn mend_disk(b: &mut Bench) {
    pause();
    if b.disk.device.is_broken() || b.disk.device.queues[0].used() != b.disk.device.queues[0].made {
        b.disk.device.start();
    }
}

fn flipped_descriptor(b: &mut Bench) -> Outcome {
    // The second descriptor of each chain is where the data goes.
    fn flip() {
        for (address, len) in [
            (ARENA, SECTOR),
            (NOWHERE, SECTOR),
            (ARENA, u32::MAX),
            (u64::MAX - 8, 0x8000_0000),
        ] {
            for n in (1..SIZE as u64).step_by(3) {
                let at = disk_queue().descriptors + 16 * n;
                poke(at, address);
                poke(at + 8, len);
            }
        }
    }
    against(b, flip, 100, |b| {
        let header = b.disk.header(b.disk.scratch, IN, 0);
        let status = writable(b.disk.status_at(), 1);
        for _ in 0..20 {
            b.disk.device.queues[0].offer(&[header, writable(ARENA, SECTOR), status]);
            b.disk.device.kick(0);
        }
        mend_disk(b);
    })
}

fn flipped_chain(b: &mut Bench) -> Outcome {
    fn flip() {
        for (flags, next) in [(1u16, 1u16), (3, 0), (2, 0), (1, 40_000), (4, 0), (1, 63)] {
            for n in 0..u64::from(SIZE) {
                let at = disk_queue().descriptors + 16 * n + 12;
                poke(at, flags);
                poke(at + 2, next);
            }
        }
    }
    against(b, flip, 100, |b| {
        let header = b.disk.header(b.disk.scratch, IN, 0);
        let status = writable(b.disk.status_at(), 1);
        for _ in 0..20 {
            b.disk.device.queues[0].offer(&[header, writable(ARENA, SECTOR), status]);
            b.disk.device.kick(0);
        }
        mend_disk(b);
    })
}

fn flipped_request(b: &mut Bench) -> Outcome {
    fn flip() {
        for (kind, sector) in [
            (IN, 0u64),
            (OUT, 1 << 55),
            (IN, u64::MAX),
            (OUT, 1 << 20),
            (IN, 1),
        ] {
            poke(TARGET, kind);
            poke(TARGET + 8, sector);
        }
    }
    against(b, flip, 100, |b| {
        let status = writable(b.disk.status_at(), 1);
        for _ in 0..20 {
            b.disk.device.queues[0].offer(&[readable(TARGET, 16), writable(ARENA, SECTOR), status]);
        }
        b.disk.device.kick(0);
        mend_disk(b);
    })
}

fn flipped_packet(b: &mut Bench) -> Outcome {
    fn flip() {
        for len in [0u32, 64, 65, u32::MAX, 64] {
            poke(TARGET + 24, len);
            poke(TARGET + 8, if len == 65 { 7u64 } else { 2 });
        }
    }
    Packet::new(RW, 77, NO_PORT).write(TARGET);
    against(b, flip, 200, |b| {
        for op in [REQUEST, RW] {
            poke(TARGET + 30, op);
            for _ in 0..20 {
                b.vsock.device.queues[TX].offer(&[readable(TARGET, HEADER), readable(TARGET, 64)]);
            }
            let _ = b.vsock.device.verdict(TX);
            while b.vsock.receive().is_some() {}
        }
    })
}

fn flipped_index(b: &mut Bench) -> Outcome {
    fn flip() {
        for index in [0u16, 1, 40_000, 64, 65, u16::MAX] {
            poke(disk_queue().available + 2, index);
        }
    }
    against(b, flip, 100, |b| {
        b.disk.device.kick(0);
        pause();
        if b.disk.device.is_broken() {
            b.disk.device.start();
        }
    })
}

fn overwritten_used(b: &mut Bench) -> Outcome {
    fn flip() {
        for n in 0..516 / 4 {
            poke(disk_queue().used + 4 * n, 0xffff_ffffu32);
        }
    }
    against(b, flip, 100, |b| {
        let header = b.disk.header(b.disk.scratch, IN, 0);
        let status = writable(b.disk.status_at(), 1);
        for _ in 0..20 {
            b.disk.device.queues[0].offer(&[header, writable(ARENA, SECTOR), status]);
            b.disk.device.kick(0);
        }
    })
}

fn endless(b: &mut Bench) -> Outcome {
    fn more() {
        let at = disk_queue();
        // Always half a queue ahead of what the device has used.
        let used: u16 = casemate_guest_base::peek(at.used + 2);
        poke(at.available + 2, used.wrapping_add(SIZE as u16 / 2));
    }
    if !b.second() {
        return Wrong("no second vCPU");
    }
    for _ in 0..10 {
        b.disk.device.start();
        let header = b.disk.header(b.disk.scratch, IN, 0);
        let status = writable(b.disk.status_at(), 1);
        let head = b.disk.device.queues[0].chain(&[header, writable(ARENA, SECTOR), status]);
        (0..SIZE).for_each(|_| b.disk.device.queues[0].enter(head));
        smp::run(1, more);
        b.disk.device.kick(0);
        (0..5).for_each(|_| pause());
        // The reset comes through although there is always more to do.
        let reset = b.disk.device.reset();
        smp::stop(1);
        if !reset {
            return Wrong("no reset");
        }
    }
    Ignored
}

fn race_of(b: &mut Bench, task: fn(), rounds: u32) -> Outcome {
    against(b, task, rounds, |b| {
        b.disk.device.start();
        let header = b.disk.header(b.disk.scratch, IN, 0);
        let status = writable(b.disk.status_at(), 1);
        b.disk.device.queues[0].offer(&[header, writable(ARENA, SECTOR), status]);
        b.disk.device.kick(0);
        b.disk.device.set(STATUS, 0);
    })
}

fn notify() {
    poke(DISK + NOTIFY, 0u32);
}

fn resets() {
    Device::new(0, 1).set(STATUS, 0);
    let mut device = Device::new(0, 1);
    device.queues = [0, 1, 2].map(|_| Queue::over(disk_queue()));
    device.set(STATUS, 1);
    device.set(STATUS, 3);
    device.choose(1 << 32);
    device.set(STATUS, 11);
    device.place(0, disk_queue());
    device.set(STATUS, RUNNING);
}

fn sets_up() {
    let device = Device::new(0, 1);
    device.place(0, Place::at(ARENA, SIZE));
    device.set(STATUS, RUNNING | NEEDS_RESET);
}

fn registers(b: &mut Bench) -> Outcome {
    fn all() {
        for register in (0..0x110).step_by(4) {
            let _: u32 = casemate_guest_base::peek(DISK + register);
            let _: u32 = casemate_guest_base::peek(DISK + WINDOW + register);
        }
    }
    against(b, all, 20, |_| all())
}

fn four_notify(b: &mut Bench) -> Outcome {
    if !(1..4).all(smp::start) {
        return Wrong("no four vCPUs");
    }
    (1..4).for_each(|n| smp::run(n, notify));
    for _ in 0..200 {
        if b.disk.check().is_err() {
            return Wrong("the disk does not work");
        }
    }
    (1..4).for_each(smp::stop);
    goes_on(&b.disk.device)
}

fn storm(apic: u8, command: u32) -> Outcome {
    if !smp::start(1) {
        return Wrong("no second vCPU");
    }
    for _ in 0..1_000 {
        smp::send(apic, command);
    }
    Free
}

fn init_startup(b: &mut Bench) -> Outcome {
    if !b.second() {
        return Wrong("no second vCPU");
    }
    for n in 0..500 {
        smp::send(1, INIT);
        smp::send(1, STARTUP | [8, 0x90, 8, 0xff][n % 4]);
    }
    Free
}

fn startup_of_three(b: &mut Bench) -> Outcome {
    for _ in 0..20 {
        for n in 1..4 {
            if !smp::start(n) {
                return Wrong("it does not start");
            }
        }
    }
    if b.disk.check().is_err() {
        return Wrong("the disk does not work");
    }
    Free
}

/// To a shorthand's destinations: 1 oneself, 2 all, 3 all others.
fn shorthand(which: u32, command: u32) -> Outcome {
    if !(1..4).all(smp::start) {
        return Wrong("no four vCPUs");
    }
    for _ in 0..200 {
        smp::send(0, command | which << 18);
    }
    Free
}

fn startup_at(page: u32) -> Outcome {
    for n in 0..512 {
        poke(0x9_0000 + 8 * n, 0u64);
    }
    smp::send(1, INIT);
    smp::send(1, STARTUP | page);
    (0..20).for_each(|_| pause());
    Free
}

fn init_of_first(b: &mut Bench) -> Outcome {
    if !b.second() {
        return Wrong("no second vCPU");
    }
    smp::run(1, || smp::send(0, INIT));
    (0..20).for_each(|_| pause());
    Free
}

fn to_nobody(_: &mut Bench) -> Outcome {
    for apic in 4..=254 {
        for mode in [0, 1, 2, 4, 5, 6] {
            smp::send(apic, mode << 8 | 0x4000 | 0x30);
        }
    }
    Ignored
}

fn every_kind(b: &mut Bench) -> Outcome {
    if !b.second() {
        return Wrong("no second vCPU");
    }
    for mode in 0..8 {
        for vector in (0..256).step_by(5) {
            smp::send(1, mode << 8 | 0x4000 | vector);
            smp::send(1, mode << 8 | 0x4000 | vector | 3 << 18);
        }
    }
    Free
}

/// Ends the guest from the other vCPU while this one works.
fn ends_from_second(b: &mut Bench, task: fn()) -> Outcome {
    if !b.second() {
        return Wrong("no second vCPU");
    }
    smp::run(1, || {});
    // Not through `run`, which waits for the task's end.
    smp::order(1, task);
    for _ in 0..10_000 {
        let _ = b.disk.check();
    }
    Wrong("the guest goes on")
}

fn second_dies(b: &mut Bench) -> Outcome {
    ends_from_second(b, || casemate_guest_base::die())
}

fn reset_beside_second(b: &mut Bench) -> Outcome {
    if !b.second() {
        return Wrong("no second vCPU");
    }
    smp::run(1, || poke(DISK + STATUS, 0u32));
    (0..50).for_each(|_| pause());
    casemate_guest_base::ring0::port_out(0x64, 1, 0xfe);
    Wrong("the guest goes on")
}
