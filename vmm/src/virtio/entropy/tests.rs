//! Entropy as a driver sees it, honest and not.

use super::*;
use crate::virtio::testing::{Driver, FREE, MEMORY};

fn driver() -> Driver {
    Driver::started(Entropy::new(), 64)
}

#[test]
fn fills_all_and_nothing_else() {
    let mut driver = driver();
    for (first, second) in [(1, 1), (64, 7), (4096, 4097), (16, 60_000)] {
        let at = FREE + 0x2_0000;
        driver.poke(FREE, &[0; 0x2_0000 + 0x1_0000]);
        let used = driver.transact(0, &[(FREE, first, true), (at, second, true)]);
        assert_eq!(used, first + second);
        let bytes = driver.peek(at, second as usize + 16);
        let (filled, rest) = bytes.split_at(second as usize);
        assert_eq!(rest, [0; 16]);
        // 100 zero bytes in a row do not happen.
        assert!(!filled.windows(100).any(|w| w.iter().all(|&b| b == 0)));
    }
    assert_ne!(driver.peek(FREE, 16), [0; 16]);
}

#[test]
fn no_two_answers_are_alike() {
    let mut driver = driver();
    driver.transact(0, &[(FREE, 32, true)]);
    let first = driver.peek(FREE, 32);
    driver.transact(0, &[(FREE, 32, true)]);
    assert_ne!(driver.peek(FREE, 32), first);
}

/// FC #5762: overlapping descriptors ate host memory.
#[test]
fn overlapping_descriptors_are_bounded() {
    let mut driver = driver();
    let huge = MEMORY as u32 - FREE as u32;
    assert_eq!(driver.transact(0, &[(FREE, huge, true); 64]), MAX_REQUEST);
    assert_eq!(driver.transact(0, &[(FREE, 60_000, true); 8]), MAX_REQUEST);
}

#[test]
fn nothing_to_fill_is_answered() {
    let mut driver = driver();
    assert_eq!(driver.transact(0, &[(FREE, 16, false)]), 0);
    assert_eq!(driver.transact(0, &[(FREE, 0, true)]), 0);
    assert_eq!(
        driver.transact(0, &[(FREE, 16, false), (FREE + 64, 8, true)]),
        8
    );
}

#[test]
fn buffers_outside_memory_break_the_queue() {
    let mut driver = driver();
    for address in [MEMORY as u64, MEMORY as u64 - 1, u64::MAX - 1] {
        driver.start(u64::MAX, 64);
        driver.offer(0, &[(address, 2, true)]);
        driver.kick(0);
        driver.wait_broken();
    }
    driver.start(u64::MAX, 64);
    assert_eq!(driver.transact(0, &[(FREE, 16, true)]), 16);
}

#[test]
fn many_at_once() {
    let mut driver = driver();
    for round in 0..50 {
        for n in 0..64 {
            driver.offer(0, &[(FREE + 64 * n, 64, true)]);
        }
        driver.kick(0);
        for _ in 0..64 {
            assert_eq!(driver.wait_used(0).1, 64, "{round}");
        }
    }
}
