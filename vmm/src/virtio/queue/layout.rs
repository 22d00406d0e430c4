//! Where a queue lies in guest memory, judged once and then frozen.

use super::super::Mem;
use crate::unless_off::unless_off;
use std::sync::Arc;
use thiserror::Error;
use vm_memory::{
    GuestAddress, GuestMemoryBackend, GuestMemoryRegion, MmapRegion, VolatileMemory, VolatileSlice,
};

/// One of a queue's three areas (virtio 1.2 §2.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The descriptor table.
    Descriptors,
    /// The driver area: the available ring.
    Available,
    /// The device area: the used ring.
    Used,
}

impl Part {
    /// Required alignment in bytes (virtio 1.2 §2.7).
    fn alignment(self) -> u64 {
        match self {
            Self::Descriptors => 16,
            Self::Available => 2,
            Self::Used => 4,
        }
    }

    /// Length in bytes for a queue of `size` entries; the event index is
    /// included whether it was negotiated or not.
    fn len(self, size: u16) -> usize {
        let size = usize::from(size);
        match self {
            Self::Descriptors => 16 * size,
            Self::Available => 6 + 2 * size,
            Self::Used => 6 + 8 * size,
        }
    }
}

/// Why a queue can't be made ready.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum LayoutError {
    /// Zero, not a power of two, or more than offered.
    #[error("queue size {size} is not a power of two from 1 to {max}")]
    Size {
        /// As written by the driver.
        size: u32,
        /// As offered.
        max: u16,
    },
    /// A misaligned area.
    #[error("queue area {part:?} at {address:#x} is misaligned")]
    Misaligned {
        /// Which.
        part: Part,
        /// Guest physical.
        address: u64,
    },
    /// An area that is not wholly in one piece of guest memory.
    #[error("queue area {part:?} at {address:#x} is outside guest memory")]
    Outside {
        /// Which.
        part: Part,
        /// Guest physical.
        address: u64,
    },
}

/// A queue's place as the driver wrote it: untrusted until [`Layout::new`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Placement {
    /// Number of entries.
    pub size: u32,
    /// Guest physical address of the descriptor table.
    pub descriptors: u64,
    /// Guest physical address of the available ring.
    pub available: u64,
    /// Guest physical address of the used ring.
    pub used: u64,
}

/// A queue's place in guest memory: size a power of two within the offer, all
/// areas aligned and wholly inside memory. Cannot be changed once made.
#[derive(Debug, Clone)]
pub struct Layout {
    placement: Placement,
    size: u16,
    pub(super) descriptors: Area,
    pub(super) available: Area,
    pub(super) used: Area,
}

impl Layout {
    /// Judges what the driver wrote.
    pub fn new(mem: &Mem, max: u16, placement: Placement) -> Result<Self, LayoutError> {
        let bad_size = LayoutError::Size {
            size: placement.size,
            max,
        };
        let size = u16::try_from(placement.size).map_err(|_| bad_size)?;
        if unless_off!("queue-size-power-of-two", !size.is_power_of_two())
            || unless_off!("queue-size-offer", size > max)
        {
            return Err(bad_size);
        }
        let area = |part: Part, address: u64| Area::find(mem, part, address, size);
        Ok(Self {
            placement,
            size,
            descriptors: area(Part::Descriptors, placement.descriptors)?,
            available: area(Part::Available, placement.available)?,
            used: area(Part::Used, placement.used)?,
        })
    }

    /// Number of entries.
    pub fn size(&self) -> u16 {
        self.size
    }

    /// What the driver wrote.
    pub fn placement(&self) -> Placement {
        self.placement
    }
}

/// A stretch of guest memory found once, so that the rings' accesses need no
/// look-up. Holds the mapping.
#[derive(Debug, Clone)]
pub(super) struct Area {
    mapping: Arc<MmapRegion>,
    offset: usize,
    len: usize,
}

impl Area {
    fn find(mem: &Mem, part: Part, address: u64, size: u16) -> Result<Self, LayoutError> {
        if unless_off!("queue-alignment", !address.is_multiple_of(part.alignment())) {
            return Err(LayoutError::Misaligned { part, address });
        }
        let outside = LayoutError::Outside { part, address };
        let (region, start) = mem.to_region_addr(GuestAddress(address)).ok_or(outside)?;
        let len = part.len(size);
        if unless_off!("queue-inside-memory", region.get_slice(start, len).is_err()) {
            return Err(outside);
        }
        Ok(Self {
            mapping: region.get_mmap(),
            offset: start.0 as usize,
            len,
        })
    }

    /// The memory. Inside the mapping, as [`Self::find`] saw.
    pub(super) fn slice(&self) -> VolatileSlice<'_> {
        self.mapping
            .get_slice(self.offset, self.len)
            .expect("an area lies inside its mapping")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: Placement = Placement {
        size: 16,
        descriptors: 0x1000,
        available: 0x2000,
        used: 0x3000,
    };

    fn mem() -> Mem {
        Mem::from_ranges(&[(GuestAddress(0), 0x4000), (GuestAddress(0x8000), 0x1000)]).unwrap()
    }

    fn refused(placement: Placement) -> LayoutError {
        Layout::new(&mem(), 256, placement).unwrap_err()
    }

    #[test]
    fn takes_a_good_one() {
        assert_eq!(Layout::new(&mem(), 256, GOOD).unwrap().placement(), GOOD);
    }

    #[test]
    fn refuses_sizes() {
        for size in [0, 3, 24, 512, 0x1_0000, 0x1_0010, u32::MAX] {
            assert_eq!(
                refused(Placement { size, ..GOOD }),
                LayoutError::Size { size, max: 256 }
            );
        }
    }

    #[test]
    fn refuses_places() {
        for (placement, part) in [
            (
                Placement {
                    descriptors: 0x1008,
                    ..GOOD
                },
                Part::Descriptors,
            ),
            (
                Placement {
                    available: 0x2001,
                    ..GOOD
                },
                Part::Available,
            ),
            (
                Placement {
                    used: 0x3002,
                    ..GOOD
                },
                Part::Used,
            ),
        ] {
            assert!(
                matches!(refused(placement), LayoutError::Misaligned { part: p, .. } if p == part)
            );
        }
        for (placement, part) in [
            (
                Placement {
                    descriptors: 0x3f10,
                    ..GOOD
                },
                Part::Descriptors,
            ),
            (
                Placement {
                    available: 0x4000,
                    ..GOOD
                },
                Part::Available,
            ),
            (
                Placement {
                    used: u64::MAX - 3,
                    ..GOOD
                },
                Part::Used,
            ),
        ] {
            assert!(
                matches!(refused(placement), LayoutError::Outside { part: p, .. } if p == part)
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_lies_inside(
            size in 0u32..600, descriptors in 0u64..0xa000, available in 0u64..0xa000, used in 0u64..0xa000,
        ) {
            let placement = Placement { size, descriptors, available, used };
            if let Ok(layout) = Layout::new(&mem(), 256, placement) {
                for area in [&layout.descriptors, &layout.available, &layout.used] {
                    prop_assert_eq!(area.slice().len(), area.len);
                }
            }
        }
    }
}
