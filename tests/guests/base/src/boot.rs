//! Linux's `struct boot_params`, as far as this guest reads it (x86/zero-page).

use core::slice;

/// One range of the memory map.
#[derive(Clone, Copy)]
pub struct Range {
    /// First address.
    pub address: u64,
    /// Length in bytes.
    pub len: u64,
    /// 1: memory; 2: reserved.
    pub kind: u32,
}

/// The zero page.
pub struct ZeroPage(*const u8);

impl ZeroPage {
    /// # Safety
    /// `page` points to a `struct boot_params` that does not change, and all that it
    /// points to is mapped.
    pub unsafe fn new(page: *const u8) -> Self {
        Self(page)
    }

    fn read<T: Copy>(&self, offset: usize) -> T {
        // SAFETY: inside of the zero page, by the contract of `new`.
        unsafe { self.0.add(offset).cast::<T>().read_unaligned() }
    }

    fn bytes(&self, address: u64, len: usize) -> &[u8] {
        if len == 0 {
            return &[];
        }
        // SAFETY: mapped and not changing, by the contract of `new`.
        unsafe { slice::from_raw_parts(address as *const u8, len) }
    }

    /// The command line without its NUL.
    pub fn cmdline(&self) -> &[u8] {
        let line = self.bytes(self.read::<u32>(0x228).into(), 2048);
        line.split(|&byte| byte == 0).next().unwrap_or_default()
    }

    /// The memory map.
    pub fn memory_map(&self) -> impl Iterator<Item = Range> + '_ {
        (0..self.read::<u8>(0x1e8).into()).map(|n: usize| {
            let at = 0x2d0 + n * 20;
            Range {
                address: self.read(at),
                len: self.read(at + 8),
                kind: self.read(at + 16),
            }
        })
    }

    /// Whether the ACPI root pointer has its signature and sums to 0.
    pub fn rsdp_is_valid(&self) -> bool {
        let rsdp = self.bytes(self.read(0x70), 36);
        rsdp.starts_with(b"RSD PTR ") && rsdp.iter().fold(0u8, |s, &b| s.wrapping_add(b)) == 0
    }

    /// The initramfs; empty where there is none.
    pub fn initrd(&self) -> &[u8] {
        let len: u32 = self.read(0x21c);
        self.bytes(self.read::<u32>(0x218).into(), len as usize)
    }
}
