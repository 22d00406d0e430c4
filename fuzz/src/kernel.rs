//! The VMM's loader over guest memory, and what must hold when it took a kernel.

use casemate_vmm::arch::x86_64::kernel::{self, Loaded};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::os::unix::fs::FileExt;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// Guest memory, in bytes.
const MEMORY: u64 = 4 << 20;
/// Kernels are loaded from here on.
const HIGH_MEMORY: u64 = 1 << 20;
/// Compared as a whole: a loop over bytes would be instrumented, and slow.
static ZEROES: [u8; HIGH_MEMORY as usize] = [0; HIGH_MEMORY as usize];

/// A file in memory with these bytes.
pub fn file(bytes: &[u8]) -> File {
    let fd = memfd_create(c"fuzz", MFdFlags::MFD_CLOEXEC).expect("a memfd");
    let file = File::from(fd);
    file.write_all_at(bytes, 0).expect("bytes in a memfd");
    file
}

/// Loads a kernel, and an initramfs of so many bytes.
pub fn load(image: &[u8], initrd_len: Option<usize>) -> Option<Loaded> {
    let regions = [(GuestAddress(0), MEMORY as usize)];
    let memory = GuestMemoryMmap::<()>::from_ranges(&regions).expect("guest memory");
    let mut initrd = initrd_len.map(|len| file(&vec![0xa5; len]));
    let loaded = kernel::load(&memory, &mut file(image), initrd.as_mut()).ok();

    // Whatever the image is, what the VMM writes there itself lies untouched.
    let mut low = vec![0xff; HIGH_MEMORY as usize];
    memory
        .read_slice(&mut low, GuestAddress(0))
        .expect("low memory");
    assert!(low == ZEROES[..], "loaded below 1 MiB");

    let loaded = loaded?;
    assert_eq!(loaded.initrd.is_some(), initrd_len.is_some());
    if let (Some(place), Some(len)) = (loaded.initrd, initrd_len) {
        assert_eq!(place.len, len as u64);
        assert!(place.address >= HIGH_MEMORY && place.address % 4096 == 0);
        let mut bytes = vec![0; len];
        memory
            .read_slice(&mut bytes, GuestAddress(place.address))
            .expect("the initramfs");
        assert!(bytes == vec![0xa5; len], "the initramfs is damaged");
    }
    Some(loaded)
}
