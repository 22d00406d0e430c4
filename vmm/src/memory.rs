//! Guest memory: where it lies in the guest and how it is mapped here.
//!
//! ```text
//! guest-physical
//! 0 ─────────── 3 GiB ──────── 4 GiB ───────────────
//! │ low memory  │  MMIO gap    │ high memory …
//! ```
//! Each region is one anonymous private mapping between two guard pages, so
//! that an access that leaves a region by mistake ends the VMM, and not in
//! another mapping. Memory is not reserved: the host gives a page when the
//! guest first touches it, and the cell's cgroup limits the sum.

use crate::unless_off::unless_off;
use std::io;
use thiserror::Error;
use vm_memory::mmap::{FromRangesError, MmapRegionBuilder};
use vm_memory::{
    GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap,
};

/// Guest memory as every part of the VMM shares it.
pub type GuestMemory = GuestMemoryMmap<()>;

/// First address of the gap in which devices, IOAPIC and local APICs stand.
pub const MMIO_GAP_START: u64 = 0xc000_0000;
/// First address after the gap.
pub const MMIO_GAP_END: u64 = 1 << 32;
/// Most guest memory, in MiB.
pub const MAX_MEMORY_MIB: u32 = 64 << 10;

const MIB: u64 = 1 << 20;
const PAGE: usize = 4096;
/// Regions are aligned to this in the VMM, so that the host can back them with huge pages.
const HUGE_PAGE: usize = 2 << 20;

/// Why there is no guest memory.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// Not a size that a guest can have.
    #[error("guest memory of {0} MiB: give 1 to {MAX_MEMORY_MIB} MiB")]
    Size(u32),
    /// The host refused the mapping.
    #[error(
        "cannot map {bytes} bytes of guest memory: {source} (give less memory, or see the limit on address space)"
    )]
    Map {
        /// Length of the region, in bytes.
        bytes: u64,
        /// The error of mmap(2).
        source: io::Error,
    },
    /// The regions do not form a memory.
    #[error("guest memory: {0}")]
    Regions(#[from] FromRangesError),
}

/// One contiguous range of guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First guest-physical address.
    pub start: u64,
    /// Length in bytes, never 0.
    pub len: u64,
}

impl Range {
    /// First address after the range.
    pub fn end(self) -> u64 {
        self.start + self.len
    }
}

/// The ranges that `memory_mib` MiB of guest memory take, in order.
pub fn layout(memory_mib: u32) -> Result<Vec<Range>, MemoryError> {
    if memory_mib == 0 || memory_mib > MAX_MEMORY_MIB {
        return Err(MemoryError::Size(memory_mib));
    }
    let bytes = u64::from(memory_mib) * MIB;
    let low = bytes.min(MMIO_GAP_START);
    let mut ranges = vec![Range { start: 0, len: low }];
    if bytes > low {
        ranges.push(Range {
            start: MMIO_GAP_END,
            len: bytes - low,
        });
    }
    Ok(ranges)
}

/// Maps `memory_mib` MiB of guest memory. The mappings last as long as the process.
pub fn map(memory_mib: u32) -> Result<GuestMemory, MemoryError> {
    let mut regions = Vec::new();
    for range in layout(memory_mib)? {
        let map_error = |source| MemoryError::Map {
            bytes: range.len,
            source,
        };
        let len = usize::try_from(range.len).map_err(|e| map_error(io::Error::other(e)))?;
        let address = map_guarded(len).map_err(map_error)?;
        // SAFETY: `map_guarded` made a mapping of `len` bytes at `address` that is
        // never unmapped.
        let region = unsafe {
            MmapRegionBuilder::new(len)
                .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
                .with_mmap_flags(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE)
                .with_raw_mmap_pointer(address)
        }
        .build()
        .map_err(FromRangesError::MmapRegion)?;
        regions.push(
            GuestRegionMmap::new(region, GuestAddress(range.start))
                .ok_or(FromRangesError::InvalidGuestRegion)?,
        );
    }
    Ok(GuestMemory::from_regions(regions).map_err(FromRangesError::from)?)
}

/// The mappings of guest memory in this process: (host virtual address, length in bytes).
pub fn host_ranges(memory: &GuestMemory) -> Vec<(u64, u64)> {
    memory
        .iter()
        .map(|region| (region.as_ptr() as u64, region.len()))
        .collect()
}

/// Reserves room for `len` bytes with at least one inaccessible page on either
/// side, and makes the middle readable and writable.
fn map_guarded(len: usize) -> io::Result<*mut u8> {
    let room = len
        .checked_add(HUGE_PAGE + 2 * PAGE)
        .ok_or(io::ErrorKind::OutOfMemory)?;
    let guard = match unless_off!("guard-pages", true) {
        true => libc::PROT_NONE,
        false => libc::PROT_READ | libc::PROT_WRITE,
    };
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), room, guard, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let start = (base as usize + PAGE).next_multiple_of(HUGE_PAGE);
    // SAFETY: [start, start + len) lies inside the mapping made above, which nobody
    // else knows of.
    let done = unsafe {
        libc::mprotect(
            start as *mut libc::c_void,
            len,
            libc::PROT_READ | libc::PROT_WRITE,
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(start as *mut u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use vm_memory::Bytes;

    #[test]
    fn refuses_nothing_and_too_much() {
        for bad in [0, MAX_MEMORY_MIB + 1, u32::MAX] {
            assert!(matches!(layout(bad), Err(MemoryError::Size(_))), "{bad}");
        }
    }

    #[test]
    fn five_gib_go_around_the_gap() {
        assert_eq!(
            layout(5 << 10).unwrap(),
            [
                Range {
                    start: 0,
                    len: 3 << 30
                },
                Range {
                    start: 4 << 30,
                    len: 2 << 30
                },
            ]
        );
    }

    #[test]
    fn memory_reads_back_and_is_guarded() {
        let memory = map(8).unwrap();
        let last = GuestAddress(8 * MIB - 1);
        memory.write_obj(0x5au8, last).unwrap();
        assert_eq!(memory.read_obj::<u8>(last).unwrap(), 0x5a);
        assert!(memory.read_obj::<u16>(last).is_err());
        let (start, len) = host_ranges(&memory)[0];
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let protection_of = |address: u64| {
            maps.lines().find_map(|line| {
                let (range, rest) = line.split_once(' ')?;
                let (from, to) = range.split_once('-')?;
                let from = u64::from_str_radix(from, 16).ok()?;
                let to = u64::from_str_radix(to, 16).ok()?;
                (from..to).contains(&address).then(|| rest[..4].to_owned())
            })
        };
        assert_eq!(protection_of(start).as_deref(), Some("rw-p"));
        assert_eq!(protection_of(start - 1).as_deref(), Some("---p"));
        assert_eq!(protection_of(start + len).as_deref(), Some("---p"));
    }

    proptest! {
        #[test]
        fn layout_gives_every_byte_once_and_none_in_the_gap(mib in 1..=MAX_MEMORY_MIB) {
            let ranges = layout(mib).unwrap();
            prop_assert_eq!(ranges.iter().map(|r| r.len).sum::<u64>(), u64::from(mib) * MIB);
            prop_assert_eq!(ranges[0].start, 0);
            for range in &ranges {
                prop_assert!(range.len > 0);
                prop_assert!(range.end() <= MMIO_GAP_START || range.start >= MMIO_GAP_END);
            }
            for pair in ranges.windows(2) {
                prop_assert!(pair[0].end() <= pair[1].start);
            }
        }
    }
}
