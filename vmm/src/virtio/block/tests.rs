//! The disk as a driver sees it, honest and not.

use super::*;
use crate::virtio::testing::{Driver, FREE, MEMORY};
use casemate_proto::control::DiskConfig;
use proptest::prelude::*;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use tempfile::NamedTempFile;
use virtio_bindings::virtio_mmio::*;

const HEADER: u64 = FREE;
const STATUS: u64 = FREE + 0x100;
const DATA: u64 = FREE + 0x1000;
const SECTORS: u64 = 256;

fn image() -> (NamedTempFile, Vec<u8>) {
    let image = NamedTempFile::new().unwrap();
    let bytes: Vec<u8> = (0..SECTORS * SECTOR)
        .map(|n| (n / 7 + n % 251) as u8)
        .collect();
    image.as_file().write_all_at(&bytes, 0).unwrap();
    (image, bytes)
}

fn block(image: &NamedTempFile, read_only: bool) -> Block {
    let file: File = OpenOptions::new()
        .read(true)
        .write(!read_only)
        .open(image.path())
        .unwrap();
    let config = DiskConfig {
        read_only,
        serial: "root".into(),
    };
    Block::new(Disk::new(file, &config).unwrap())
}

fn started(read_only: bool) -> (Driver, NamedTempFile, Vec<u8>) {
    let (image, bytes) = image();
    (Driver::started(block(&image, read_only), 64), image, bytes)
}

/// Sends one request with these data buffers; returns status and used length.
fn request(driver: &mut Driver, kind: u32, sector: u64, data: &[(u64, u32)]) -> (u8, u32) {
    let mut header = [0; 16];
    header[..4].copy_from_slice(&kind.to_le_bytes());
    header[8..].copy_from_slice(&sector.to_le_bytes());
    driver.poke(HEADER, &header);
    driver.poke(STATUS, &[0xee]);
    let writable = kind != VIRTIO_BLK_T_OUT;
    let data = data.iter().map(|&(at, len)| (at, len, writable));
    let buffers: Vec<_> = [(HEADER, 16, false)]
        .into_iter()
        .chain(data)
        .chain([(STATUS, 1, true)])
        .collect();
    let used = driver.transact(0, &buffers);
    (driver.peek(STATUS, 1)[0], used)
}

#[test]
fn tells_its_shape() {
    for read_only in [false, true] {
        let (mut driver, ..) = started(read_only);
        assert_eq!(u64::from_le_bytes(driver.config(0)), SECTORS);
        assert_eq!(u32::from_le_bytes(driver.config(12)), 254);
        assert_eq!(u32::from_le_bytes(driver.config(20)), 512);
        assert_eq!(driver.offered() & 1 << VIRTIO_BLK_F_RO != 0, read_only);
    }
}

#[test]
fn reads_scattered() {
    let (mut driver, _image, bytes) = started(true);
    let parts = [(DATA, 512), (DATA + 0x2001, 1000), (DATA + 0x4000, 24)];
    assert_eq!(request(&mut driver, VIRTIO_BLK_T_IN, 3, &parts), (0, 1537));
    let seen: Vec<u8> = parts
        .iter()
        .flat_map(|&(at, len)| driver.peek(at, len as usize))
        .collect();
    assert_eq!(seen, bytes[3 * 512..6 * 512]);
}

#[test]
fn writes_and_flushes() {
    let (mut driver, image, mut bytes) = started(false);
    driver.poke(DATA, &[0x5a; 1024]);
    assert_eq!(
        request(&mut driver, VIRTIO_BLK_T_OUT, 254, &[(DATA, 1024)]),
        (0, 1)
    );
    assert_eq!(request(&mut driver, VIRTIO_BLK_T_FLUSH, 0, &[]), (0, 1));
    bytes[254 * 512..].fill(0x5a);
    assert_eq!(std::fs::read(image.path()).unwrap(), bytes);
}

#[test]
fn a_driver_without_flush_is_served_too() {
    let (image, _) = image();
    let mut driver = Driver::new(block(&image, false));
    driver.start(!(1 << VIRTIO_BLK_F_FLUSH), 64);
    driver.poke(DATA, &[0x5a; 512]);
    assert_eq!(
        request(&mut driver, VIRTIO_BLK_T_OUT, 0, &[(DATA, 512)]),
        (0, 1)
    );
    assert_eq!(std::fs::read(image.path()).unwrap()[..512], [0x5a; 512]);
}

#[test]
fn tells_its_serial() {
    let (mut driver, ..) = started(true);
    assert_eq!(
        request(&mut driver, VIRTIO_BLK_T_GET_ID, 0, &[(DATA, 20)]),
        (0, 21)
    );
    assert_eq!(driver.peek(DATA, 5), b"root\0");
    assert_eq!(
        request(&mut driver, VIRTIO_BLK_T_GET_ID, 0, &[(DATA, 19)]),
        (1, 0)
    );
    assert_eq!(
        request(&mut driver, VIRTIO_BLK_T_GET_ID, 0, &[(DATA, 64)]),
        (0, 20)
    );
}

#[test]
fn refuses_what_it_does_not_know() {
    let (mut driver, ..) = started(false);
    for kind in [
        2,
        5,
        VIRTIO_BLK_T_DISCARD,
        VIRTIO_BLK_T_WRITE_ZEROES,
        0x8000_0000,
        u32::MAX,
    ] {
        assert_eq!(request(&mut driver, kind, 0, &[(DATA, 512)]).0, 2, "{kind}");
    }
}

#[test]
fn sectors_beyond_the_disk_are_errors() {
    let (mut driver, image, bytes) = started(false);
    for sector in [
        SECTORS,
        SECTORS - 1,
        u64::MAX,
        u64::MAX / 512,
        1 << 55,
        (1 << 55) + 1,
    ] {
        for kind in [VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT] {
            let (status, _) = request(&mut driver, kind, sector, &[(DATA, 1024)]);
            assert_eq!(status, 1, "{kind} {sector:#x}");
        }
    }
    assert_eq!(std::fs::read(image.path()).unwrap(), bytes);
}

#[test]
fn odd_lengths_are_errors() {
    let (mut driver, ..) = started(false);
    for len in [1, 511, 513] {
        assert_eq!(
            request(&mut driver, VIRTIO_BLK_T_IN, 0, &[(DATA, len)]),
            (1, 0)
        );
        assert_eq!(
            request(&mut driver, VIRTIO_BLK_T_OUT, 0, &[(DATA, len)]),
            (1, 1)
        );
    }
    assert_eq!(request(&mut driver, VIRTIO_BLK_T_IN, 0, &[]), (1, 1));
}

/// Cloud Hypervisor: a read-only disk was writable when RO was not negotiated.
#[test]
fn read_only_holds_whatever_was_negotiated() {
    let (image, bytes) = image();
    let mut driver = Driver::new(block(&image, true));
    for features in [u64::MAX, !(1 << VIRTIO_BLK_F_RO)] {
        driver.start(features, 64);
        driver.poke(DATA, &[0x5a; 512]);
        assert_eq!(
            request(&mut driver, VIRTIO_BLK_T_OUT, 0, &[(DATA, 512)]),
            (1, 1)
        );
        assert_eq!(
            request(&mut driver, VIRTIO_BLK_T_IN, 0, &[(DATA, 512)]),
            (0, 513)
        );
    }
    assert_eq!(std::fs::read(image.path()).unwrap(), bytes);
}

#[test]
fn a_disk_that_shrinks_gives_errors() {
    let (mut driver, image, bytes) = started(false);
    image.as_file().set_len(100 * 512 + 17).unwrap();
    assert_eq!(
        request(&mut driver, VIRTIO_BLK_T_IN, 99, &[(DATA, 512)]),
        (0, 513)
    );
    for (sector, len) in [(100, 512), (99, 1024), (200, 512)] {
        assert_eq!(
            request(&mut driver, VIRTIO_BLK_T_IN, sector, &[(DATA, len)]),
            (1, 0)
        );
    }
    assert_eq!(driver.peek(DATA, 512), bytes[99 * 512..100 * 512]);
    assert_eq!(driver.status(), 15);
}

/// The same buffer many times: no more data moves than the limits promised.
#[test]
fn requests_do_not_amplify() {
    let (image, _) = image();
    image.as_file().set_len(1 << 30).unwrap();
    let mut driver = Driver::started(block(&image, true), 64);
    let most = [(DATA, 1 << 20); 15];
    let (status, used) = request(&mut driver, VIRTIO_BLK_T_IN, 0, &most);
    assert_eq!((status, used), (0, (15 << 20) + 1));
    let beyond = [(DATA, 1 << 20); 16];
    assert_eq!(request(&mut driver, VIRTIO_BLK_T_IN, 0, &beyond), (1, 0));
}

#[test]
fn chains_that_cannot_be_answered_break_the_queue() {
    let (mut driver, ..) = started(false);
    let outside = MEMORY as u64;
    for buffers in [
        &[(HEADER, 15, false), (STATUS, 1, true)][..],
        &[(HEADER, 16, false)],
        &[(HEADER, 16, true)],
        &[(HEADER, 16, false), (STATUS, 0, true)],
        &[(outside, 16, false), (STATUS, 1, true)],
        &[(outside - 8, 16, false), (STATUS, 1, true)],
        &[(HEADER, 16, false), (outside, 512, true), (STATUS, 1, true)],
        &[(HEADER, 16, false), (DATA, 512, true), (u64::MAX, 1, true)],
    ] {
        driver.start(u64::MAX, 64);
        driver.poke(HEADER, &[0; 16]);
        driver.offer(0, buffers);
        driver.kick(0);
        driver.wait_broken();
        assert_eq!(driver.used(0), None);
    }
    driver.start(u64::MAX, 64);
    assert_eq!(
        request(&mut driver, VIRTIO_BLK_T_IN, 0, &[(DATA, 512)]),
        (0, 513)
    );
}

/// CVE-2026-45782: a reset with I/O in flight. Afterwards nothing writes to the
/// guest's memory any more.
#[test]
fn reset_with_requests_in_flight() {
    let (image, _) = image();
    image.as_file().set_len(1 << 30).unwrap();
    let mut driver = Driver::new(block(&image, true));
    for round in 0..50 {
        driver.start(u64::MAX, 64);
        driver.poke(HEADER, &[0; 16]);
        for _ in 0..21 {
            driver.offer(
                0,
                &[
                    (HEADER, 16, false),
                    (DATA, 1 << 20, true),
                    (STATUS, 1, true),
                ],
            );
        }
        driver.kick(0);
        for _ in 0..round {
            std::thread::yield_now();
        }
        driver.set(VIRTIO_MMIO_STATUS, 0);
        let (used, at) = (driver.queues[0].at.used, 1 << 20);
        driver.poke(DATA, &vec![0xaa; at]);
        driver.poke(used, &[0xaa; 64]);
        std::thread::yield_now();
        assert!(driver.peek(DATA, at).iter().all(|&b| b == 0xaa));
        assert_eq!(driver.peek(used, 64), [0xaa; 64]);
    }
    driver.start(u64::MAX, 64);
    assert_eq!(
        request(&mut driver, VIRTIO_BLK_T_IN, 0, &[(DATA, 512)]),
        (0, 513)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// The disk against an array of bytes.
    #[test]
    fn is_an_array_of_sectors(
        requests in prop::collection::vec(
            (any::<bool>(), 0..SECTORS + 2, 1u32..9, 1u32..4, any::<u8>()), 1..40),
    ) {
        let (mut driver, image, mut model) = started(false);
        for (write, sector, sectors, parts, byte) in requests {
            let len = sectors * 512;
            let mut data: Vec<_> = (1..parts).map(|n| (DATA + 0x1_0000 * u64::from(n), 100)).collect();
            data.push((DATA, len - 100 * (parts - 1)));
            let at = (sector * 512) as usize;
            let inside = sector + u64::from(sectors) <= SECTORS;
            if write {
                for &(at, len) in &data {
                    driver.poke(at, &vec![byte; len as usize]);
                }
                let (status, _) = request(&mut driver, VIRTIO_BLK_T_OUT, sector, &data);
                prop_assert_eq!(status == 0, inside);
                if inside {
                    model[at..at + len as usize].fill(byte);
                }
            } else {
                let (status, used) = request(&mut driver, VIRTIO_BLK_T_IN, sector, &data);
                prop_assert_eq!(status == 0, inside);
                if inside {
                    prop_assert_eq!(used, len + 1);
                    let seen: Vec<u8> = data.iter()
                        .flat_map(|&(at, len)| driver.peek(at, len as usize)).collect();
                    prop_assert_eq!(&seen[..], &model[at..at + len as usize]);
                }
            }
        }
        prop_assert_eq!(std::fs::read(image.path()).unwrap(), model);
    }
}
