//! The state in which a kernel's 64-bit entry wants the first vCPU
//! (Linux, x86/boot, "64-bit boot protocol").

use super::layout::{GDT, PAGE_TABLES, ZERO_PAGE};
use crate::memory::GuestMemory;
use kvm_bindings::{kvm_fpu, kvm_regs, kvm_segment, kvm_sregs};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

/// Code and data selectors that the protocol prescribes.
const BOOT_CS: u16 = 0x10;
const BOOT_DS: u16 = 0x18;
const BOOT_TSS: u16 = 0x20;

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_NE: u64 = 1 << 5;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
const RFLAGS_RESERVED: u64 = 2;

const PAGE: u64 = 4096;
const ENTRIES: u64 = 512;
const PRESENT_WRITABLE: u64 = 3;
const HUGE: u64 = 1 << 7;
/// Page directories of 1 GiB each: the first 4 GiB are mapped.
const DIRECTORIES: u64 = 4;

/// A segment descriptor and what KVM wants to know of it.
struct Descriptor(u64);

impl Descriptor {
    const NULL: Self = Self(0);
    /// Execute, read, accessed; long mode; 4 GiB in pages.
    const CODE: Self = Self(0x00af_9b00_0000_ffff);
    /// Read, write, accessed; 4 GiB in pages.
    const DATA: Self = Self(0x00cf_9300_0000_ffff);
    /// A busy 64-bit TSS of 64 KiB at 0; its upper half is the null descriptor that follows.
    const TSS: Self = Self(0x008f_8b00_0000_ffff);

    fn segment(&self, selector: u16) -> kvm_segment {
        let bit = |n: u32| (self.0 >> n & 1) as u8;
        let limit = (self.0 & 0xffff | self.0 >> 32 & 0xf_0000) as u32;
        let granular = bit(55);
        kvm_segment {
            base: self.0 >> 16 & 0xff_ffff | self.0 >> 32 & 0xff00_0000,
            limit: if granular == 1 {
                limit << 12 | 0xfff
            } else {
                limit
            },
            selector,
            type_: (self.0 >> 40 & 0xf) as u8,
            s: bit(44),
            dpl: (self.0 >> 45 & 3) as u8,
            present: bit(47),
            avl: bit(52),
            l: bit(53),
            db: bit(54),
            g: granular,
            ..Default::default()
        }
    }
}

const TABLE: [Descriptor; 6] = [
    Descriptor::NULL,
    Descriptor::NULL,
    Descriptor::CODE,
    Descriptor::DATA,
    Descriptor::TSS,
    Descriptor::NULL,
];

/// Writes the descriptor table and page tables that map the first 4 GiB onto themselves.
pub fn write_tables(memory: &GuestMemory) -> Result<(), GuestMemoryError> {
    for (n, descriptor) in (0u64..).zip(&TABLE) {
        memory.write_obj(descriptor.0, GuestAddress(GDT + n * 8))?;
    }
    let table = |n: u64| PAGE_TABLES + n * PAGE;
    let put = |table: u64, n: u64, entry: u64| memory.write_obj(entry, GuestAddress(table + n * 8));
    put(table(0), 0, table(1) | PRESENT_WRITABLE)?;
    for directory in 0..DIRECTORIES {
        put(table(1), directory, table(2 + directory) | PRESENT_WRITABLE)?;
        let entries: Vec<u8> = (0..ENTRIES)
            .flat_map(|n| {
                let address = directory << 30 | n << 21;
                (address | HUGE | PRESENT_WRITABLE).to_le_bytes()
            })
            .collect();
        memory.write_slice(&entries, GuestAddress(table(2 + directory)))?;
    }
    Ok(())
}

/// System registers: long mode, paging on, interrupts nowhere.
pub fn set_system_registers(sregs: &mut kvm_sregs) {
    let code = Descriptor::CODE.segment(BOOT_CS);
    let data = Descriptor::DATA.segment(BOOT_DS);
    sregs.cs = code;
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = Descriptor::TSS.segment(BOOT_TSS);
    sregs.gdt.base = GDT;
    sregs.gdt.limit = (TABLE.len() * 8 - 1) as u16;
    sregs.idt.base = 0;
    sregs.idt.limit = 0;
    sregs.cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_PG;
    sregs.cr3 = PAGE_TABLES;
    sregs.cr4 = CR4_PAE;
    sregs.efer = EFER_LME | EFER_LMA;
}

/// General registers: at `entry`, with the zero page in RSI.
pub fn registers(entry: u64) -> kvm_regs {
    kvm_regs {
        rip: entry,
        rsi: ZERO_PAGE,
        rsp: ZERO_PAGE,
        rbp: ZERO_PAGE,
        rflags: RFLAGS_RESERVED,
        ..Default::default()
    }
}

/// The floating-point unit as after `fninit`, all SSE exceptions masked.
pub fn floating_point() -> kvm_fpu {
    kvm_fpu {
        fcw: 0x37f,
        mxcsr: 0x1f80,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory;

    #[test]
    fn segments_are_flat() {
        let code = Descriptor::CODE.segment(BOOT_CS);
        assert_eq!((code.base, code.limit, code.type_), (0, u32::MAX, 11));
        assert_eq!((code.l, code.db, code.s, code.present), (1, 0, 1, 1));
        let data = Descriptor::DATA.segment(BOOT_DS);
        assert_eq!((data.base, data.limit, data.type_), (0, u32::MAX, 3));
        let tss = Descriptor::TSS.segment(BOOT_TSS);
        assert_eq!((tss.type_, tss.s, tss.present), (11, 0, 1));
    }

    /// Walks the tables as the processor does (Intel SDM vol. 3, 4.5).
    fn translate(memory: &GuestMemory, address: u64) -> Option<u64> {
        let mut table = PAGE_TABLES;
        for shift in [39, 30, 21] {
            let n = address >> shift & 0x1ff;
            let entry: u64 = memory.read_obj(GuestAddress(table + n * 8)).unwrap();
            if entry & 1 == 0 {
                return None;
            }
            if entry & HUGE != 0 {
                let mask = (1 << shift) - 1;
                return Some(entry & !0xfff & !mask | address & mask);
            }
            table = entry & !0xfff;
        }
        None
    }

    #[test]
    fn the_first_four_gib_are_mapped_onto_themselves() {
        let memory = memory::map(4).unwrap();
        write_tables(&memory).unwrap();
        for address in [0, 0x7000, 0x10_0000, 0x1234_5678, 0xfee0_0000, 0xffff_ffff] {
            assert_eq!(translate(&memory, address), Some(address), "{address:#x}");
        }
        assert_eq!(translate(&memory, 1 << 32), None);
    }
}
