//! The registers and the life-cycle, with a device that echoes.

use super::*;
use crate::virtio::device::{Active, COMMON_FEATURES, ConfigSpace, DeviceType, Identity};
use crate::virtio::queue::{Broken, Chain, Placement};
use crate::virtio::testing::{Driver, FREE, MEMORY, Ring, memory, unconfined};
use crate::virtio::worker::{Events, Next};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const QUEUES: [u16; 2] = [64, 16];

/// What happens to a [`Device`], seen from outside.
#[derive(Default)]
struct Echo {
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    activated: AtomicUsize,
    reset: AtomicUsize,
    kicked: AtomicUsize,
}

/// Uses every chain for its readable length.
struct Device {
    active: Option<Active>,
    counts: Arc<Counts>,
}

impl Echo {
    fn device(&self) -> Device {
        Device {
            active: None,
            counts: self.counts.clone(),
        }
    }

    fn count(&self, of: impl Fn(&Counts) -> &AtomicUsize) -> usize {
        of(&self.counts).load(Ordering::SeqCst)
    }
}

impl VirtioDevice for Device {
    fn identity(&self) -> Identity {
        Identity {
            device_type: DeviceType::Entropy,
            features: COMMON_FEATURES | 1,
            queue_sizes: QUEUES.to_vec(),
            config: ConfigSpace::new(vec![1, 2, 3, 4, 5]),
        }
    }

    fn activate(&mut self, active: Active) {
        self.active = Some(active);
        self.counts.activated.fetch_add(1, Ordering::SeqCst);
    }

    fn kicked(&mut self, queue: usize, _: &Events) -> Result<Next, Broken> {
        self.counts.kicked.fetch_add(1, Ordering::SeqCst);
        let active = self.active.as_mut().expect("only while active");
        let mut chain = Chain::new();
        loop {
            while active.queues[queue].pop(&mut chain)? {
                active.queues[queue].push(&chain, chain.readable_len())?;
            }
            active.flush(queue)?;
            if !active.queues[queue].arm()? {
                return Ok(Next::Wait);
            }
        }
    }

    fn reset(&mut self, _: &Events) {
        self.active = None;
        self.counts.reset.fetch_add(1, Ordering::SeqCst);
    }
}

fn driver() -> (Driver, Echo) {
    let echo = Echo::default();
    (Driver::new(echo.device()), echo)
}

fn placement(driver: &Driver, queue: u32) -> Placement {
    Ring::new(&driver.mem, queue, 16, true).at
}

#[test]
fn says_what_it_is() {
    let (mut driver, _) = driver();
    assert_eq!(driver.get(VIRTIO_MMIO_MAGIC_VALUE), 0x7472_6976);
    assert_eq!(driver.get(VIRTIO_MMIO_VERSION), 2);
    assert_eq!(driver.get(VIRTIO_MMIO_DEVICE_ID), 4);
    assert_eq!(driver.offered(), COMMON_FEATURES | 1);
    assert_eq!(driver.get(VIRTIO_MMIO_SHM_LEN_LOW), u32::MAX);
    assert_eq!(driver.config::<5>(0), [1, 2, 3, 4, 5]);
    assert_eq!(driver.config::<4>(3), [4, 5, 0, 0]);
    assert_eq!(driver.config::<1>(1), [2]);
    assert_eq!(driver.config::<8>(0xef8), [0; 8]);
}

#[test]
fn carries_requests_and_interrupts() {
    for features in [u64::MAX, !(1 << 29)] {
        let (mut driver, _) = driver();
        driver.start(features, 16);
        for n in 1..100 {
            assert_eq!(driver.transact(1, &[(FREE, n, false), (FREE, 4, true)]), n);
        }
        assert_eq!(driver.get(VIRTIO_MMIO_INTERRUPT_STATUS), 1);
        assert!(driver.mmio.transport().interrupt().line().read().is_ok());
        driver.set(VIRTIO_MMIO_INTERRUPT_ACK, 1);
        assert_eq!(driver.get(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
        assert_eq!(driver.mmio.refused(), 0);
    }
}

#[test]
fn wrong_widths_and_places_do_nothing() {
    let (mut driver, _) = driver();
    for (offset, len) in [
        (0, 1),
        (0, 2),
        (0, 8),
        (2, 4),
        (0xfe, 4),
        (0x28, 4),
        (0x0c0, 4),
    ] {
        let mut data = vec![0xff; len];
        driver.mmio.read(offset, &mut data);
        assert_eq!(data, vec![0; len], "{offset:#x}");
    }
    let before = driver.mmio.refused();
    for (offset, data) in [
        (0x70u64, &[1u8][..]),
        (0x70, &[1, 0]),
        (0x70, &[1, 0, 0, 0, 0, 0, 0, 0]),
        (0x71, &[1, 0, 0, 0]),
        (0x100, &[9, 9, 9, 9]),
        (u64::MAX, &[1, 0, 0, 0]),
        (0x70, &[]),
    ] {
        driver.mmio.write(offset, data);
    }
    assert_eq!(driver.mmio.refused(), before + 7);
    assert_eq!(driver.status(), 0);
    assert_eq!(driver.config::<1>(0), [1]);
}

/// Cloud Hypervisor: queue_select out of range panicked.
#[test]
fn queue_select_out_of_range_is_harmless() {
    let (mut driver, _) = driver();
    driver.negotiate(u64::MAX);
    for queue in [2, 3, 0x1_0000, u32::MAX] {
        let at = placement(&driver, 0);
        assert!(!driver.place(queue, at));
        assert_eq!(driver.get(VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
        driver.set(VIRTIO_MMIO_QUEUE_NOTIFY, queue);
    }
    driver.set(VIRTIO_MMIO_QUEUE_SEL, 0);
    assert_eq!(driver.get(VIRTIO_MMIO_QUEUE_NUM_MAX), 64);
}

/// CVE-2026-5747: a queue rewritten after activation.
#[test]
fn queues_are_frozen_at_activation() {
    let (mut driver, echo) = driver();
    driver.start(u64::MAX, 16);
    let refused = driver.mmio.refused();
    for queue in [0, 1] {
        driver.set(VIRTIO_MMIO_QUEUE_SEL, queue);
        for register in [0x38, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4] {
            driver.set(register, 0xffff_ffff);
        }
        driver.set(VIRTIO_MMIO_QUEUE_READY, 0);
        assert_eq!(driver.get(VIRTIO_MMIO_QUEUE_READY), 1);
    }
    driver.set(VIRTIO_MMIO_DRIVER_FEATURES, 0);
    assert_eq!(driver.mmio.refused(), refused + 17);
    assert_eq!(driver.transact(0, &[(FREE, 8, false)]), 8);
    assert_eq!(echo.count(|c| &c.activated), 1);
}

#[test]
fn a_ready_queue_is_frozen_until_unready() {
    let (mut driver, _) = driver();
    driver.negotiate(u64::MAX);
    let at = placement(&driver, 0);
    assert!(driver.place(0, at));
    assert!(driver.place(0, Placement { size: 3, ..at }));
    driver.set(VIRTIO_MMIO_QUEUE_READY, 0);
    assert_eq!(driver.get(VIRTIO_MMIO_QUEUE_READY), 0);
    assert!(!driver.place(0, Placement { size: 3, ..at }));
    assert!(!driver.place(
        0,
        Placement {
            used: MEMORY as u64,
            ..at
        }
    ));
    assert!(!driver.place(
        0,
        Placement {
            descriptors: 8,
            ..at
        }
    ));
    assert!(!driver.place(0, Placement { size: 128, ..at }));
    assert!(driver.place(0, at));
}

#[test]
fn queues_cannot_be_set_up_before_the_features_are() {
    let (mut driver, _) = driver();
    let at = placement(&driver, 0);
    for status in [0, 1, 3] {
        driver.set(VIRTIO_MMIO_STATUS, status);
        assert!(!driver.place(0, at));
    }
}

#[test]
fn features_must_be_offered_and_modern() {
    let (mut driver, _) = driver();
    for features in [0u64, 1, 1 << 32 | 1 << 5, 1 << 32 | 1 << 63, u64::MAX] {
        for status in [0, 1, 3] {
            driver.set(VIRTIO_MMIO_STATUS, status);
        }
        for half in [0, 1, 2, u32::MAX] {
            driver.set(VIRTIO_MMIO_DRIVER_FEATURES_SEL, half);
            driver.set(
                VIRTIO_MMIO_DRIVER_FEATURES,
                (features >> (32 * (half & 1))) as u32,
            );
        }
        driver.set(VIRTIO_MMIO_STATUS, 11);
        assert_eq!(driver.status(), 3, "{features:#x}");
        driver.set(VIRTIO_MMIO_STATUS, 15);
        assert_eq!(driver.status(), 3, "{features:#x}");
    }
    driver.negotiate(u64::MAX);
}

#[test]
fn no_step_is_skipped() {
    let (mut driver, echo) = driver();
    for skipping in [2, 4, 8, 11, 15, 0x40, 0x100, 0x8000_0001] {
        driver.set(VIRTIO_MMIO_STATUS, skipping);
        assert_eq!(driver.status(), 0, "{skipping:#x}");
    }
    driver.set(VIRTIO_MMIO_STATUS, 1);
    for status in [15, 2, 9] {
        driver.set(VIRTIO_MMIO_STATUS, status);
        assert_eq!(driver.status(), 1);
    }
    assert_eq!(echo.count(|c| &c.activated), 0);
}

#[test]
fn a_queue_that_is_not_ready_needs_a_reset() {
    let (mut driver, echo) = driver();
    driver.negotiate(u64::MAX);
    let at = placement(&driver, 0);
    assert!(driver.place(0, at));
    driver.set(VIRTIO_MMIO_STATUS, 15);
    driver.wait_broken();
    assert_eq!(echo.count(|c| &c.activated), 0);
    driver.start(u64::MAX, 16);
    assert_eq!(driver.transact(0, &[(FREE, 8, false)]), 8);
}

#[test]
fn a_broken_queue_needs_a_reset_and_then_works() {
    type Attack = fn(&mut Ring, &Mem);
    let attacks: [(&str, Attack); 4] = [
        ("avail index jumps", |ring, mem| ring.advance(mem, 17)),
        ("avail index far ahead", |ring, mem| {
            ring.advance(mem, 0x8000)
        }),
        ("head out of range", |ring, mem| ring.offer_head(mem, 16)),
        ("loop", |ring, mem| {
            ring.descriptor(mem, 5, FREE, 1, 1, 5);
            ring.offer_head(mem, 5);
        }),
    ];
    let (mut driver, echo) = driver();
    for (round, (name, attack)) in (1..).zip(attacks) {
        driver.start(u64::MAX, 16);
        let mem = driver.mem.clone();
        attack(&mut driver.queues[0], &mem);
        driver.kick(0);
        driver.wait_broken();
        assert_eq!(driver.status(), 15 | 0x40, "{name}");
        // Given up already, and deaf from now on.
        assert_eq!(echo.count(|c| &c.reset), round, "{name}");
        let kicked = echo.count(|c| &c.kicked);
        driver.kick(0);
        driver.set(VIRTIO_MMIO_STATUS, 0);
        assert_eq!(driver.status(), 0);
        assert_eq!(driver.get(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
        assert_eq!(echo.count(|c| &c.kicked), kicked, "{name}");
    }
    driver.start(u64::MAX, 16);
    assert_eq!(driver.transact(0, &[(FREE, 8, false)]), 8);
}

#[test]
fn reset_takes_the_queues_back_and_they_can_come_again() {
    let (mut driver, echo) = driver();
    for round in 1..=20 {
        driver.start(u64::MAX, 16);
        for _ in 0..10 {
            driver.offer(0, &[(FREE, 8, false)]);
        }
        driver.kick(0);
        driver.set(VIRTIO_MMIO_STATUS, 0);
        assert_eq!(echo.count(|c| &c.reset), round);
        assert_eq!(driver.status(), 0);
        driver.set(VIRTIO_MMIO_QUEUE_SEL, 0);
        assert_eq!(driver.get(VIRTIO_MMIO_QUEUE_READY), 0);
    }
}

#[test]
fn a_kick_before_its_time_is_neither_acted_on_nor_lost() {
    let (mut driver, echo) = driver();
    for _ in 0..100 {
        driver.kick(0);
    }
    driver.negotiate(u64::MAX);
    for queue in [0, 1] {
        let ring = Ring::new(&driver.mem, queue, 16, true);
        assert!(driver.place(queue, ring.at));
        driver.queues.push(ring);
    }
    driver.offer(0, &[(FREE, 3, false)]);
    driver.kick(0);
    assert_eq!(echo.count(|c| &c.kicked), 0);
    driver.set(VIRTIO_MMIO_STATUS, 15);
    assert_eq!(driver.wait_used(0).1, 3);
}

#[test]
fn an_unconfined_worker_does_not_start() {
    let confine: Confine = Box::new(|| Err("no filter for you".into()));
    let error = MmioTransport::new("rng", Echo::default().device(), memory(), confine).unwrap_err();
    assert!(matches!(error, WorkerError::Confine { .. }));
    assert_eq!(
        error.to_string(),
        "device rng: cannot confine its thread: no filter for you"
    );
    let _ = MmioTransport::new("rng", Echo::default().device(), memory(), unconfined()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Any sequence of accesses: no panic, status only as the state machine allows,
    /// and a proper start still works afterwards.
    #[test]
    fn any_accesses_are_survived(
        accesses in prop::collection::vec((
            prop_oneof![0u64..0x110, (0u64..0x44).prop_map(|r| r * 4), any::<u64>()],
            prop_oneof![Just(4usize), 0usize..9],
            prop_oneof![0u64..16, any::<u64>(), (0u64..MEMORY as u64)],
            any::<bool>(),
        ), 0..200),
    ) {
        let (mut driver, _) = driver();
        for (offset, len, value, write) in accesses {
            let mut data = value.to_le_bytes().to_vec();
            data.resize(len, 0);
            if write {
                driver.mmio.write(offset, &data);
            } else {
                driver.mmio.read(offset, &mut data);
            }
            let status = driver.status() & 0x3f;
            prop_assert!([0, 1, 3, 11, 15].contains(&status), "{:#x}", status);
        }
        driver.start(u64::MAX, 16);
        prop_assert_eq!(driver.transact(0, &[(FREE, 8, false)]), 8);
    }
}
