//! Where things stand in the guest's physical address space.
//!
//! ```text
//! 0x0000_0500  GDT                       0x0009_fc00  EBDA (reserved)
//! 0x0000_7000  zero page                 0x000e_0000  ACPI tables (reserved)
//! 0x0000_9000  page tables (6 pages)     0x0010_0000  kernel and up
//! 0x0002_0000  command line              top of low memory: initramfs
//! 0xd000_0000  virtio-mmio windows       0xfec0_0000  IOAPIC
//! 0xfee0_0000  local APICs               0xfffb_c000  KVM's own pages
//! ```

use crate::memory::MMIO_GAP_START;

/// The global descriptor table.
pub const GDT: u64 = 0x500;
/// `struct boot_params` (Linux, x86/zero-page).
pub const ZERO_PAGE: u64 = 0x7000;
/// Page tables: PML4, PDPT and four page directories.
pub const PAGE_TABLES: u64 = 0x9000;
/// The kernel's command line, with its NUL.
pub const CMDLINE: u64 = 0x2_0000;
/// Longest command line in bytes, without the NUL (Linux `COMMAND_LINE_SIZE` is 2048).
pub const CMDLINE_MAX: usize = 2047;
/// Extended BIOS data area; conventional memory ends here.
pub const EBDA: u64 = 0x9_fc00;
/// First address after conventional memory.
pub const CONVENTIONAL_END: u64 = 0xa_0000;
/// ACPI tables, the RSDP first: where a BIOS has its read-only memory.
pub const ACPI: u64 = 0xe_0000;
/// First address after the ACPI tables; kernels are loaded from here on.
pub const HIGH_MEMORY: u64 = 0x10_0000;

/// First virtio-mmio window; window `n` is at `VIRTIO_MMIO + n * VIRTIO_MMIO_LEN`.
pub const VIRTIO_MMIO: u64 = 0xd000_0000;
/// Length of a virtio-mmio window, in bytes.
pub const VIRTIO_MMIO_LEN: u64 = 0x1000;
/// GSI of the first virtio device; device `n` has `VIRTIO_GSI + n`, edge-triggered.
pub const VIRTIO_GSI: u32 = 5;
/// Pins of KVM's IOAPIC.
pub const IOAPIC_PINS: u32 = 24;
/// Most virtio-mmio devices: one pin each.
pub const MAX_VIRTIO: usize = (IOAPIC_PINS - VIRTIO_GSI) as usize;
/// KVM's IOAPIC.
pub const IOAPIC: u32 = 0xfec0_0000;
/// The local APICs.
pub const LOCAL_APIC: u32 = 0xfee0_0000;
/// One page for KVM's identity map (Intel only).
pub const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;
/// Three pages for KVM's real-mode TSS (Intel only).
pub const KVM_TSS: usize = 0xfffb_d000;

/// First port of COM1.
pub const COM1: u64 = 0x3f8;
/// Ports of COM1.
pub const COM1_LEN: u64 = 8;
/// GSI of COM1, edge-triggered.
pub const COM1_GSI: u32 = 4;
/// First port of the keyboard controller.
pub const I8042: u64 = 0x60;
/// Ports of the keyboard controller.
pub const I8042_LEN: u64 = 5;
/// ACPI reset, sleep control and sleep status registers, one port each.
pub const ACPI_POWER: u64 = 0x600;
/// Ports of the ACPI power registers.
pub const ACPI_POWER_LEN: u64 = 3;

const _: () = {
    assert!(VIRTIO_MMIO >= MMIO_GAP_START);
    assert!(VIRTIO_MMIO + MAX_VIRTIO as u64 * VIRTIO_MMIO_LEN <= IOAPIC as u64);
    assert!(PAGE_TABLES + 6 * 4096 <= CMDLINE);
    assert!(ZERO_PAGE + 4096 <= PAGE_TABLES);
};
