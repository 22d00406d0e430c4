//! The zero page: what the boot loader tells the kernel (Linux, x86/zero-page and
//! x86/boot).

use super::kernel::Loaded;
use super::layout::{ACPI, CMDLINE, CMDLINE_MAX, CONVENTIONAL_END, EBDA, HIGH_MEMORY, ZERO_PAGE};
use crate::memory::GuestMemory;
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use thiserror::Error;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryRegion};

/// Memory the kernel may use.
const E820_RAM: u32 = 1;
/// Memory the kernel must leave alone.
const E820_RESERVED: u32 = 2;
/// A loader without a number of its own.
const LOADER_UNDEFINED: u8 = 0xff;

/// Why a kernel could not be told its surroundings.
#[derive(Debug, Error)]
pub enum BootParamsError {
    /// The command line is too long.
    #[error("kernel command line is {0} bytes long: give at most {CMDLINE_MAX}")]
    CmdlineTooLong(usize),
    /// A NUL would end the command line early.
    #[error("kernel command line has a NUL at byte {0}: leave it out")]
    CmdlineNul(usize),
    /// Guest memory ends below what boot needs.
    #[error("guest memory does not hold the zero page: {0}")]
    Memory(#[from] GuestMemoryError),
}

/// Checks a kernel's command line without writing it.
pub fn check_cmdline(cmdline: &str) -> Result<(), BootParamsError> {
    if cmdline.len() > CMDLINE_MAX {
        return Err(BootParamsError::CmdlineTooLong(cmdline.len()));
    }
    match cmdline.find('\0') {
        Some(at) => Err(BootParamsError::CmdlineNul(at)),
        None => Ok(()),
    }
}

/// The memory map as the kernel is to see it.
fn e820(memory: &GuestMemory) -> Vec<boot_e820_entry> {
    let entry = |from: u64, to: u64, r#type| boot_e820_entry {
        addr: from,
        size: to - from,
        r#type,
    };
    let mut map = vec![
        entry(0, EBDA, E820_RAM),
        entry(EBDA, CONVENTIONAL_END, E820_RESERVED),
        entry(ACPI, HIGH_MEMORY, E820_RESERVED),
    ];
    for region in memory.iter() {
        let from = region.start_addr().0.max(HIGH_MEMORY);
        let to = region.start_addr().0 + region.len();
        if to > from {
            map.push(entry(from, to, E820_RAM));
        }
    }
    map
}

/// Writes command line and zero page.
pub fn write(memory: &GuestMemory, cmdline: &str, kernel: &Loaded) -> Result<(), BootParamsError> {
    check_cmdline(cmdline)?;
    memory.write_slice(cmdline.as_bytes(), GuestAddress(CMDLINE))?;
    memory.write_obj(0u8, GuestAddress(CMDLINE + cmdline.len() as u64))?;

    let mut params = boot_params {
        hdr: kernel.setup_header.unwrap_or(setup_header {
            boot_flag: 0xaa55,
            header: 0x5372_6448,
            version: 0x20f,
            kernel_alignment: 0x100_0000,
            ..Default::default()
        }),
        acpi_rsdp_addr: ACPI,
        ..Default::default()
    };
    params.hdr.type_of_loader = LOADER_UNDEFINED;
    params.hdr.cmd_line_ptr = CMDLINE as u32;
    params.hdr.cmdline_size = CMDLINE_MAX as u32;
    if let Some(initrd) = kernel.initrd {
        // Both are below 4 GiB: the initramfs stands in low memory.
        params.hdr.ramdisk_image = initrd.address as u32;
        params.hdr.ramdisk_size = initrd.len as u32;
    }
    let map = e820(memory);
    params.e820_entries = map.len() as u8;
    params.e820_table[..map.len()].copy_from_slice(&map);
    memory.write_obj(params, GuestAddress(ZERO_PAGE))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::x86_64::kernel::Initrd;
    use crate::memory;
    use proptest::prelude::*;

    fn loaded() -> Loaded {
        Loaded {
            entry: 0x20_0000,
            setup_header: None,
            initrd: Some(Initrd {
                address: 0x40_0000,
                len: 77,
            }),
        }
    }

    #[test]
    fn the_kernel_finds_everything() {
        let memory = memory::map(16).unwrap();
        write(&memory, "quiet console=ttyS0", &loaded()).unwrap();
        let params: boot_params = memory.read_obj(GuestAddress(ZERO_PAGE)).unwrap();
        let (hdr, rsdp) = (params.hdr, params.acpi_rsdp_addr);
        let mut line = [0; 20];
        memory
            .read_slice(&mut line, GuestAddress(u64::from(hdr.cmd_line_ptr)))
            .unwrap();
        assert_eq!(&line, b"quiet console=ttyS0\0");
        let (image, size) = (hdr.ramdisk_image, hdr.ramdisk_size);
        assert_eq!((image, size, rsdp), (0x40_0000, 77, ACPI));
    }

    #[test]
    fn refuses_command_lines_that_would_be_cut() {
        let memory = memory::map(16).unwrap();
        for bad in ["x".repeat(CMDLINE_MAX + 1), "a\0b".to_owned()] {
            assert!(write(&memory, &bad, &loaded()).is_err());
        }
        write(&memory, &"x".repeat(CMDLINE_MAX), &loaded()).unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn the_map_is_sorted_and_offers_only_memory(mib in 2u32..9000) {
            let memory = memory::map(mib).unwrap();
            let map = e820(&memory);
            for pair in map.windows(2) {
                prop_assert!(pair[0].addr + pair[0].size <= pair[1].addr);
            }
            for entry in map.iter().filter(|e| e.r#type == E820_RAM) {
                let (addr, size) = (entry.addr, entry.size);
                prop_assert!(memory.check_range(GuestAddress(addr), size as usize));
                prop_assert!(addr + size <= EBDA || addr >= HIGH_MEMORY);
            }
            let total: u64 = map.iter().filter(|e| e.addr >= HIGH_MEMORY).map(|e| e.size).sum();
            prop_assert_eq!(total, (u64::from(mib) << 20) - HIGH_MEMORY);
        }
    }
}
