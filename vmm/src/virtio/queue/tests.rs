//! Honest rings against the model of `virtio-queue`, hostile ones against the rules.

use super::*;
use crate::virtio::Mem;
use crate::virtio::testing::{FREE, MEMORY, Ring, memory};
use proptest::prelude::*;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{GuestAddress, GuestMemoryBackend};

const SIZE: u16 = 16;

fn device(mem: &Mem, ring: &Ring, event_idx: bool) -> Virtqueue {
    let layout = Layout::new(mem, SIZE, ring.at).unwrap();
    Virtqueue::new(layout, event_idx, Progress::default())
}

fn setup(event_idx: bool) -> (Mem, Ring, Virtqueue) {
    let mem = memory();
    let ring = Ring::new(&mem, 0, SIZE, event_idx);
    let queue = device(&mem, &ring, event_idx);
    (mem, ring, queue)
}

fn first(queue: &mut Virtqueue) -> Result<bool, Broken> {
    queue.pop(&mut Chain::new())
}

#[test]
fn an_available_index_that_jumps_is_broken() {
    for (by, broken) in [
        (SIZE, false),
        (SIZE + 1, true),
        (u16::MAX, true),
        (0x8000, true),
    ] {
        let (mem, mut ring, mut queue) = setup(true);
        ring.advance(&mem, by);
        assert_eq!(first(&mut queue).is_err(), broken, "{by}");
    }
}

#[test]
fn the_driver_owns_no_more_than_the_queue_has() {
    let (mem, mut ring, mut queue) = setup(true);
    let mut chain = Chain::new();
    for _ in 0..SIZE {
        ring.offer(&mem, &[(FREE, 1, true)]);
        assert!(queue.pop(&mut chain).unwrap());
    }
    // All are taken and none used: one more can't be.
    ring.advance(&mem, 1);
    assert!(matches!(
        first(&mut queue),
        Err(Broken::AvailableJumps { .. })
    ));
}

#[test]
fn a_head_beyond_the_table_is_broken() {
    for head in [SIZE, SIZE + 1, u16::MAX] {
        let (mem, mut ring, mut queue) = setup(false);
        ring.offer_head(&mem, head);
        assert_eq!(
            first(&mut queue),
            Err(Broken::Index {
                index: head,
                size: SIZE
            })
        );
    }
}

#[test]
fn a_next_beyond_the_table_is_broken() {
    let (mem, mut ring, mut queue) = setup(false);
    ring.descriptor(&mem, 3, FREE, 1, 1, SIZE);
    ring.offer_head(&mem, 3);
    assert_eq!(
        first(&mut queue),
        Err(Broken::Index {
            index: SIZE,
            size: SIZE
        })
    );
}

#[test]
fn loops_end() {
    for (from, to) in [(0, 0), (0, 1)] {
        let (mem, mut ring, mut queue) = setup(false);
        ring.descriptor(&mem, from, FREE, 1, 1, to);
        ring.descriptor(&mem, to, FREE, 1, 1, from);
        ring.offer_head(&mem, from);
        assert_eq!(first(&mut queue), Err(Broken::Loop { head: from }));
    }
}

#[test]
fn indirect_order_and_length_are_judged() {
    let (mem, mut ring, mut queue) = setup(false);
    ring.descriptor(&mem, 0, FREE, 16, 4, 0);
    ring.offer_head(&mem, 0);
    assert_eq!(first(&mut queue), Err(Broken::Indirect { index: 0 }));

    let (mem, mut ring, mut queue) = setup(false);
    ring.offer(&mem, &[(FREE, 1, true), (FREE, 1, false)]);
    assert!(matches!(first(&mut queue), Err(Broken::Order { .. })));

    let (mem, mut ring, mut queue) = setup(false);
    ring.offer(&mem, &[(FREE, u32::MAX, false), (FREE, 1, true)]);
    assert!(matches!(first(&mut queue), Err(Broken::TooLong { .. })));
}

#[test]
fn buffers_outside_memory_are_found_when_used() {
    for (address, len) in [
        (MEMORY as u64, 1),
        (MEMORY as u64 - 1, 2),
        (u64::MAX, 1),
        (u64::MAX, 9),
    ] {
        let (mem, mut ring, mut queue) = setup(false);
        ring.offer(&mem, &[(address, len, true)]);
        let mut chain = Chain::new();
        assert!(queue.pop(&mut chain).unwrap());
        let outcome = chain.writable().write(&mem, &vec![1; len as usize]);
        assert!(
            matches!(outcome, Err(Broken::Outside { .. })),
            "{address:#x}"
        );
    }
}

#[test]
fn a_buffer_may_cross_regions() {
    let ranges = [
        (GuestAddress(0), 0x1_0000),
        (GuestAddress(0x1_0000), 0x1_0000),
    ];
    let mem = Mem::from_ranges(&ranges).unwrap();
    assert_eq!(mem.num_regions(), 2);
    let mut ring = Ring::new(&mem, 0, SIZE, false);
    let mut queue = device(&mem, &ring, false);
    ring.offer(&mem, &[(0xfffe, 4, true)]);
    let mut chain = Chain::new();
    assert!(queue.pop(&mut chain).unwrap());
    chain.writable().write(&mem, &[1, 2, 3, 4]).unwrap();
    assert_eq!(
        mem.read_obj::<u32>(GuestAddress(0xfffe)).unwrap(),
        0x0403_0201
    );
}

#[test]
fn one_interrupt_a_batch_and_none_unwanted() {
    for event_idx in [false, true] {
        let (mem, mut ring, mut queue) = setup(event_idx);
        let mut chain = Chain::new();
        for _ in 0..3 {
            ring.offer(&mem, &[(FREE, 1, true)]);
            assert!(queue.pop(&mut chain).unwrap());
            queue.push(&chain, 1).unwrap();
        }
        assert_eq!(ring.used(&mem), None);
        queue.publish().unwrap();
        assert!(queue.wants_interrupt().unwrap());
        assert!(!queue.wants_interrupt().unwrap());
        // The driver polls: with the event index it leaves the mark behind,
        // without it sets the flag.
        if !event_idx {
            mem.write_obj(1u16, GuestAddress(ring.at.available))
                .unwrap();
        }
        ring.offer(&mem, &[(FREE, 1, true)]);
        assert!(queue.pop(&mut chain).unwrap());
        queue.push(&chain, 1).unwrap();
        queue.publish().unwrap();
        assert!(!queue.wants_interrupt().unwrap());
    }
}

#[test]
fn arming_sees_what_came_meanwhile() {
    for event_idx in [false, true] {
        let (mem, mut ring, mut queue) = setup(event_idx);
        queue.suppress().unwrap();
        assert!(!queue.arm().unwrap());
        queue.suppress().unwrap();
        ring.offer(&mem, &[(FREE, 1, true)]);
        assert!(queue.arm().unwrap());
        let mut chain = Chain::new();
        assert!(queue.pop(&mut chain).unwrap());
        queue.unpop();
        assert!(queue.arm().unwrap());
        assert!(queue.pop(&mut chain).unwrap());
        assert!(!queue.arm().unwrap());
    }
}

proptest! {
    /// On rings an honest driver writes, ours and the model take the same chains.
    #[test]
    fn agrees_with_the_model(
        rounds in prop::collection::vec(
            prop::collection::vec((1u64..64, 1u32..5000, any::<bool>()), 1..6), 1..60),
        event_idx: bool,
    ) {
        let (mem, mut ring, mut ours) = setup(event_idx);
        let mut model = Queue::new(SIZE).unwrap();
        model.try_set_desc_table_address(GuestAddress(ring.at.descriptors)).unwrap();
        model.try_set_avail_ring_address(GuestAddress(ring.at.available)).unwrap();
        model.try_set_used_ring_address(GuestAddress(ring.at.used)).unwrap();
        model.set_event_idx(event_idx);
        model.set_ready(true);
        let mut chain = Chain::new();
        for mut buffers in rounds {
            buffers.sort_by_key(|b| b.2);
            let buffers: Vec<_> = buffers.iter().map(|b| (FREE + 4096 * b.0, b.1, b.2)).collect();
            let head = ring.offer(&mem, &buffers);

            prop_assert!(ours.pop(&mut chain).unwrap());
            let theirs = model.iter(&mem).unwrap().next().unwrap();
            prop_assert_eq!((chain.head(), theirs.head_index()), (head, head));
            let theirs: Vec<_> = theirs.map(|d| (d.addr(), d.len())).collect();
            let our: Vec<_> = chain.segments.iter().map(|s| (s.address, s.len)).collect();
            prop_assert_eq!(our, theirs);

            ours.push(&chain, 7).unwrap();
            ours.publish().unwrap();
            prop_assert_eq!(ring.used(&mem), Some((head, 7)));
            model.add_used(&mem, head, 7).unwrap();
            prop_assert_eq!(ours.progress(), Progress {
                next_available: model.next_avail(), next_used: model.next_used(),
            });
        }
    }

    /// Whatever stands in the rings: chains are within bounds, and the work ends.
    #[test]
    fn hostile_rings_are_bounded(
        table in prop::collection::vec((any::<u64>(), any::<u32>(), 0u16..8, 0u16..20), SIZE as usize),
        heads in prop::collection::vec(0u16..20, SIZE as usize),
        index in 0u16..40,
        flips in prop::collection::vec((0u64..0x400, any::<u8>()), 0..20),
    ) {
        let (mem, ring, mut queue) = setup(true);
        for (n, (address, len, flags, next)) in (0..).zip(table) {
            ring.descriptor(&mem, n, address, len, flags, next);
        }
        for (n, head) in (0..).zip(heads) {
            mem.write_obj(head, GuestAddress(ring.at.available + 4 + 2 * n)).unwrap();
        }
        mem.write_obj(index, GuestAddress(ring.at.available + 2)).unwrap();
        let mut chain = Chain::new();
        let mut flips = flips.into_iter();
        let mut taken = 0;
        while let Ok(true) = queue.pop(&mut chain) {
            taken += 1;
            prop_assert!(taken <= SIZE);
            prop_assert!(chain.head() < SIZE);
            prop_assert!(chain.segments.len() <= SIZE.into());
            let sum: u64 = chain.segments.iter().map(|s| u64::from(s.len)).sum();
            prop_assert_eq!(sum, u64::from(chain.readable_len()) + u64::from(chain.writable_len()));
            prop_assert!(sum <= u32::MAX.into());
            for slice in chain.writable().slices(&mem).take(64).flatten() {
                prop_assert!(slice.len() <= MEMORY);
            }
            // Another vCPU changes the table between two chains.
            if let Some((at, value)) = flips.next() {
                mem.write_obj(value, GuestAddress(ring.at.descriptors + at % 0x100)).unwrap();
            }
        }
    }

    /// A cursor walks exactly its bytes, however it is cut.
    #[test]
    fn cursors_cover_their_bytes(
        lens in prop::collection::vec(1u32..100, 1..8), cuts in prop::collection::vec(0u32..150, 0..10),
    ) {
        let (mem, mut ring, mut queue) = setup(false);
        let mut next = FREE;
        let buffers: Vec<_> = lens.iter().map(|&len| { next += 200; (next, len, false) }).collect();
        let expected: Vec<u8> = (0..lens.iter().sum::<u32>()).map(|n| n as u8).collect();
        let mut rest = &expected[..];
        for &(at, len, _) in &buffers {
            let (now, later) = rest.split_at(len as usize);
            mem.write_slice(now, GuestAddress(at)).unwrap();
            rest = later;
        }
        ring.offer(&mem, &buffers);
        let mut chain = Chain::new();
        prop_assert!(queue.pop(&mut chain).unwrap());
        let (mut cursor, mut seen) = (chain.readable(), Vec::new());
        for cut in cuts {
            let mut part = cursor.take(cut);
            let mut bytes = vec![0; part.left() as usize];
            part.read(&mem, &mut bytes).unwrap();
            prop_assert_eq!(part.read(&mem, &mut [0]), Err(Broken::Short));
            seen.extend(bytes);
        }
        prop_assert_eq!(expected.len() - seen.len(), cursor.left() as usize);
        prop_assert_eq!(&expected[..seen.len()], &seen[..]);
    }
}
