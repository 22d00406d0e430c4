//! Loads a kernel and an initramfs into guest memory.

use super::image::{self, Image, ImageError};
use super::layout::HIGH_MEMORY;
use crate::memory::{self, GuestMemory};
use linux_loader::loader::bootparam::setup_header;
use linux_loader::loader::{BzImage, Elf, Error as LoaderError, KernelLoader};
use std::fs::File;
use std::io::{self, Seek};
use thiserror::Error;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryRegion};

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;
/// Offset of the 64-bit entry from the start of a bzImage's code (Linux, x86/boot).
const BZIMAGE_ENTRY: u64 = 0x200;
/// Highest address of an initramfs where the kernel does not tell one.
const INITRD_MAX: u64 = 0x7fff_ffff;

/// Why a kernel or an initramfs could not be loaded.
#[derive(Debug, Error)]
pub enum KernelError {
    /// The image is no kernel for us.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Guest memory is too small.
    #[error(
        "guest memory of {have_mib} MiB does not hold the kernel{and_initrd}: give at least {need_mib} MiB",
        and_initrd = if *.initrd { " and its initramfs" } else { "" }
    )]
    TooLittleMemory {
        /// Guest memory, in MiB.
        have_mib: u64,
        /// The least that holds both, in MiB.
        need_mib: u64,
        /// Whether there is an initramfs.
        initrd: bool,
    },
    /// No amount of memory would do.
    #[error("{what} is too large: it must end below {limit_mib} MiB of guest memory")]
    TooLarge {
        /// "kernel" or "initramfs".
        what: &'static str,
        /// The limit, in MiB.
        limit_mib: u64,
    },
    /// The loader stopped.
    #[error("kernel cannot be loaded, it may have changed while it was read: {0:?}")]
    Loader(LoaderError),
    /// The initramfs has no bytes.
    #[error("initramfs is empty: build it again with `casemate kernel import`")]
    EmptyInitrd,
    /// The initramfs is no regular file.
    #[error("initramfs is not a regular file: build it again with `casemate kernel import`")]
    InitrdNotRegular,
    /// The initramfs cannot be read.
    #[error("initramfs cannot be read: {0}")]
    InitrdIo(#[from] io::Error),
    /// The initramfs became shorter.
    #[error("initramfs cannot be read whole, it may have changed while it was read: {0}")]
    InitrdMemory(#[from] GuestMemoryError),
}

/// Where an initramfs was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Initrd {
    /// Guest-physical address, page-aligned.
    pub address: u64,
    /// Length in bytes.
    pub len: u64,
}

/// A kernel in guest memory.
#[derive(Debug)]
pub struct Loaded {
    /// Guest-physical address of the 64-bit entry.
    pub entry: u64,
    /// A bzImage's own setup header.
    pub setup_header: Option<setup_header>,
    /// The initramfs.
    pub initrd: Option<Initrd>,
}

/// Loads both. Nothing is written to guest memory before all of it is known to fit.
pub fn load(
    memory: &GuestMemory,
    kernel: &mut File,
    initrd: Option<&mut File>,
) -> Result<Loaded, KernelError> {
    let image = image::inspect(kernel)?;
    let initrd = match initrd {
        None => None,
        Some(file) => {
            let meta = file.metadata()?;
            if !meta.is_file() {
                return Err(KernelError::InitrdNotRegular);
            }
            Some((file, meta.len()))
        }
    };
    let (kernel_end, initrd_max) = match image {
        Image::Elf { end } => (end, INITRD_MAX),
        Image::BzImage { end, initrd_max } => (end, initrd_max),
    };
    let low_end = low_memory_end(memory);
    let total_mib = memory.iter().map(|r| r.len()).sum::<u64>() / MIB;
    let place = place(
        low_end,
        total_mib,
        kernel_end,
        initrd.as_ref().map(|&(_, len)| len),
        initrd_max,
    )?;
    // An offset of 0 leaves the addresses as they are and keeps the loader from
    // walking the image's notes, which we have no use for.
    let loaded = match image {
        Image::Elf { .. } => Elf::load(
            memory,
            Some(GuestAddress(0)),
            kernel,
            Some(GuestAddress(HIGH_MEMORY)),
        ),
        Image::BzImage { .. } => {
            BzImage::load(memory, None, kernel, Some(GuestAddress(HIGH_MEMORY)))
        }
    }
    .map_err(KernelError::Loader)?;
    let entry = match image {
        Image::Elf { .. } => loaded.kernel_load.0,
        Image::BzImage { .. } => loaded.kernel_load.0 + BZIMAGE_ENTRY,
    };
    let initrd = match (initrd, place) {
        (Some((file, _)), Some(place)) => {
            file.rewind()?;
            memory.read_exact_volatile_from(
                GuestAddress(place.address),
                file,
                place.len as usize,
            )?;
            Some(place)
        }
        _ => None,
    };
    Ok(Loaded {
        entry,
        setup_header: loaded.setup_header,
        initrd,
    })
}

fn low_memory_end(memory: &GuestMemory) -> u64 {
    memory
        .iter()
        .find(|region| region.start_addr().0 == 0)
        .map_or(0, |region| region.len())
}

/// Finds the initramfs's place, as high in low memory as the kernel takes it,
/// and checks that both fit.
fn place(
    low_end: u64,
    total_mib: u64,
    kernel_end: u64,
    initrd_len: Option<u64>,
    initrd_max: u64,
) -> Result<Option<Initrd>, KernelError> {
    let too_large = |what, limit: u64| KernelError::TooLarge {
        what,
        limit_mib: limit / MIB,
    };
    if kernel_end > memory::MMIO_GAP_START {
        return Err(too_large("kernel", memory::MMIO_GAP_START));
    }
    let kernel_pages = kernel_end.next_multiple_of(PAGE);
    let limit = (initrd_max + 1).min(memory::MMIO_GAP_START);
    let need = match initrd_len {
        None => kernel_pages,
        Some(0) => return Err(KernelError::EmptyInitrd),
        Some(len) => len
            .checked_next_multiple_of(PAGE)
            .and_then(|len| len.checked_add(kernel_pages))
            .filter(|&need| need <= limit)
            .ok_or(too_large("initramfs", limit))?,
    };
    if need > low_end {
        return Err(KernelError::TooLittleMemory {
            have_mib: total_mib,
            need_mib: need.div_ceil(MIB),
            initrd: initrd_len.is_some(),
        });
    }
    Ok(initrd_len.map(|len| Initrd {
        address: (limit.min(low_end) - len) & !(PAGE - 1),
        len,
    }))
}

#[cfg(test)]
#[path = "kernel_tests.rs"]
mod tests;
