//! Attacks on the processor's own state: model-specific and control registers, and
//! instructions that a KVM may not know. What comes of them differs between processors
//! and KVMs; where that is so, the guest has a VM of its own and the VMM must not suffer.

use super::{Attack, attack};
use crate::bench::{ARENA, Bench, MEMORY_END, NOWHERE};
use crate::driver::mmio::FIRST;
use crate::outcome::Outcome::{self, *};
use casemate_guest_base::ring0::{Service, call, read_msr, write_msr};
use casemate_guest_base::{die, halt, poke};
use core::arch::global_asm;

global_asm!(include_str!("vcpu.s"));

macro_rules! services {
    ($($name:ident)*) => { unsafe extern "C" { $(fn $name();)* } };
}
services! {
    bad_cr0 bad_cr3 bad_cr4 bad_cr8 bad_xsetbv bad_int3 bad_cmpxchg16b bad_xrstor bad_vmcall
    bad_vmrun bad_vmxon bad_rdpmc bad_mwait bad_dr7 bad_ud2 bad_invd bad_sysret bad_far_call
    bad_ltr bad_lgdt bad_monitor bad_wrpkru bad_smi bad_task_switch bad_invlpg bad_loop
    bad_cpuid bad_page_tables bad_mov_to_cs bad_int_nothing bad_sti_halt
}

#[rustfmt::skip] // A line an attack: this is a list to be read.
pub const ATTACKS: &[Attack] = &[
    attack("msr-unknown-read", Fault, "an MSR that does not exist", |_| read(0xdead_beef)),
    attack("msr-unknown-written", Fault, "an MSR that does not exist", |_| written(0xdead_beef, 0)),
    attack("msr-efer-reserved", Fault, "reserved bits of EFER", |_| written(0xc000_0080, u64::MAX)),
    attack("msr-apic-base-reserved", Fault, "reserved bits of the local APIC's base", |_| written(0x1b, u64::MAX)),
    attack("msr-mtrr-type-reserved", Fault, "a memory type that does not exist", |_| written(0x2ff, 0x2)),
    attack("msr-pat-reserved", Free, "eight memory types that do not exist", |_| free_msr(0x277, 0x0202_0202_0202_0202)),
    attack("msr-scan", Ignored, "each MSR below 0x1000 and from 0xc0000000 is read", msr_scan),
    attack("msr-microcode", Free, "a microcode update from the gap", |_| free_msr(0x79, NOWHERE)),
    attack("msr-apic-base-moved", Free, "the local APIC moves over memory", |_| free_msr(0x1b, ARENA | 0x900)),
    attack("msr-apic-base-over-a-device", Free, "the local APIC moves over a device's registers", |_| free_msr(0x1b, FIRST | 0x900)),
    attack("msr-apic-off", Free, "the local APIC is switched off", |_| free_msr(0x1b, 0xfee0_0000)),
    attack("msr-x2apic", Free, "the local APIC's other face", |_| free_msr(0x1b, 0xfee0_0d00)),
    attack("msr-performance-counters", Free, "event selections and counters", |_| all_msrs(&[0xc1, 0x186, 0x38f, 0x38d, 0x3f1, 0xc001_0000, 0xc001_0200])),
    attack("msr-debug-and-branches", Free, "branch tracing, last branches", |_| all_msrs(&[0x1d9, 0x1c8, 0x570, 0xc001_102a, 0xc001_1031])),
    attack("msr-speculation", Free, "speculation control, flush commands", |_| all_msrs(&[0x48, 0x49, 0x10a, 0x122, 0x123, 0xc001_011f])),
    attack("msr-machine-checks", Free, "machine check banks", |_| all_msrs(&[0x17a, 0x17b, 0x400, 0x401, 0x402, 0x403, 0x47f])),
    attack("msr-virtualisation", Free, "VMX and SVM capabilities", |_| all_msrs(&[0x3a, 0x480, 0x48b, 0xc001_0114, 0xc001_0117])),
    attack("msr-kvm-clock-outside-memory", Free, "the clock's page is in the gap", |_| kvm_msrs(NOWHERE | 1)),
    attack("msr-kvm-pages-beyond-memory", Free, "the first page that is no memory", |_| kvm_msrs(MEMORY_END | 1)),
    attack("msr-kvm-pages-over-rings", Free, "KVM's pages over the disk's rings", |_| kvm_msrs(0x100_0000 | 1)),
    attack("msr-kvm-pages-at-the-end-of-all", Free, "KVM's pages at 2⁶⁴", |_| kvm_msrs(u64::MAX)),
    attack("msr-hyper-v", Free, "Hyper-V's registers, which are not offered", |_| all_msrs(&[0x4000_0000, 0x4000_0001, 0x4000_0003, 0x4000_0070, 0x4000_0080, 0x4000_0104])),
    attack("msr-xen", Free, "Xen's hypercall page", |_| free_msr(0x4000_0000, ARENA)),
    attack("cr0-reserved", Free, "the upper half of CR0", |_| free(bad_cr0, u64::MAX, 0)),
    attack("cr0-paging-without-protection", Fault, "PG without PE", |_| service(bad_cr0, 0x8000_0000, 0)),
    attack("cr0-paging-off", Free, "long mode without paging", |_| free(bad_cr0, 0x31, 0)),
    attack("cr3-reserved", Fault, "bits of CR3 beyond the address", |_| service(bad_cr3, 1 << 62 | 0x7000, 0)),
    attack("cr4-reserved", Fault, "reserved bits of CR4", |_| service(bad_cr4, u64::MAX, 0)),
    attack("cr4-virtualisation", Free, "VMX on", |_| free(bad_cr4, 0x2620, 0)),
    attack("cr4-no-physical-address-extension", Fault, "long mode without PAE", |_| service(bad_cr4, 0x600, 0)),
    attack("cr8-reserved", Fault, "a task priority beyond 15", |_| service(bad_cr8, u64::MAX, 0)),
    attack("xcr0-junk", Free, "every state component there could be", |_| free(bad_xsetbv, 0, u64::MAX)),
    attack("xcr-unknown", Free, "XCR 7", |_| free(bad_xsetbv, 7, 1)),
    attack("dr7-reserved", Fault, "the upper half of DR7", |_| service(bad_dr7, u64::MAX, 0)),
    attack("breakpoint", Free, "int3 without a handler: software KVM cannot carry it out", |_| free(bad_int3, 0, 0)),
    attack("interrupt-without-a-gate", Free, "int 200", |_| free(bad_int_nothing, 0, 0)),
    attack("bound-range-interrupt", Free, "int 5 without a handler", |_| free(bad_task_switch, 0, 0)),
    attack("invalid-opcode", Fault, "ud2", |_| service(bad_ud2, 0, 0)),
    attack("load-code-segment", Free, "mov to CS, which does not exist", |_| free(bad_mov_to_cs, 0, 0)),
    attack("cmpxchg16b", Free, "an instruction that software KVM does not know", |_| free(bad_cmpxchg16b, ARENA, 0)),
    attack("cmpxchg16b-on-a-device", Free, "the same on registers", |_| free(bad_cmpxchg16b, FIRST, 0)),
    attack("xrstor-junk", Free, "a processor state of ones", xrstor_junk),
    attack("xrstor-from-a-device", Free, "a processor state out of registers", |_| free(bad_xrstor, FIRST, 0)),
    attack("hypercall-unknown", Free, "hypercall 2⁶⁴-1", |_| free(bad_vmcall, u64::MAX, 0)),
    attack("hypercall-map-range", Free, "hypercall 12 with junk", |_| free(bad_vmcall, 12, 0)),
    attack("hypercall-storm", Free, "hypercalls 0 to 20", hypercalls),
    attack("vmrun-outside-memory", Free, "a nested guest out of the gap", |_| free(bad_vmrun, NOWHERE, 0)),
    attack("vmxon", Free, "VMX operation", |_| free(bad_vmxon, ARENA, 0)),
    attack("performance-counter-read", Free, "a counter that does not exist", |_| free(bad_rdpmc, 0x4000_0000, 0)),
    attack("monitor-a-device", Free, "monitor of a register", |_| free(bad_monitor, FIRST, 0)),
    attack("mwait-with-junk", Free, "mwait with every extension", |_| free(bad_mwait, 0, 0)),
    attack("caches-thrown-away", Free, "invd and wbinvd", |_| free(bad_invd, 0, 0)),
    attack("sysret-to-nowhere", Free, "a non-canonical address", |_| free(bad_sysret, 0x8000_0000_0000_0000, 0)),
    attack("far-return-beyond-the-table", Free, "a selector that does not exist", |_| free(bad_far_call, ARENA, 0)),
    attack("task-register-beyond-the-table", Fault, "a selector that does not exist", |_| service(bad_ltr, 0x4b8, 0)),
    attack("descriptor-table-in-a-device", Free, "the GDT in registers", descriptor_table),
    attack("page-tables-in-a-device", Free, "CR3 leads to registers", |_| free(bad_page_tables, FIRST, 0)),
    attack("page-tables-outside-memory", Free, "CR3 leads to the gap", |_| free(bad_page_tables, NOWHERE, 0)),
    attack("page-tables-beyond-memory", Free, "CR3 leads behind memory", |_| free(bad_page_tables, MEMORY_END, 0)),
    attack("protection-keys", Free, "wrpkru", |_| free(bad_wrpkru, 0, 0)),
    attack("system-management-interrupt-port", Free, "port 0xb2", |_| free(bad_smi, 0, 0)),
    attack("translations-flushed", Free, "invlpg of 2 GiB", |_| free(bad_invlpg, 0, 0)),
    attack("long-in-ring-0", Ignored, "200,000 instructions that an interpreting KVM carries out one by one", long_loop),
    attack("cpuid-everything", Ignored, "every leaf of every range", cpuid_all),
    attack("interrupts-on-without-handlers", Free, "sti and hlt", |_| free(bad_sti_halt, 0, 0)),
    attack("halt-for-ever", Free, "hlt with interrupts off", |_| halt()),
    attack("triple-fault", EndsInTripleFault, "a fault without handlers", |_| die()),
];

/// Calls a service that must fault.
fn service(service: Service, a: u64, b: u64) -> Outcome {
    // SAFETY: an attack on this guest by itself is the purpose.
    match unsafe { call(service, a, b, 0) } {
        Err(_) => Fault,
        Ok(_) => Wrong("no fault"),
    }
}

/// Calls a service of which anything may come.
fn free(service: Service, a: u64, b: u64) -> Outcome {
    // SAFETY: as above.
    let _ = unsafe { call(service, a, b, 0) };
    Free
}

fn read(msr: u32) -> Outcome {
    match read_msr(msr) {
        Err(_) => Fault,
        Ok(_) => Wrong("no fault"),
    }
}

fn written(msr: u32, value: u64) -> Outcome {
    // SAFETY: as above.
    match unsafe { write_msr(msr, value) } {
        Err(_) => Fault,
        Ok(_) => Wrong("no fault"),
    }
}

fn free_msr(msr: u32, value: u64) -> Outcome {
    // SAFETY: as above.
    let _ = unsafe { write_msr(msr, value) };
    Free
}

/// Reads each, then writes ones, zeroes and a bit to it.
fn all_msrs(msrs: &[u32]) -> Outcome {
    for &msr in msrs {
        let before = read_msr(msr);
        for value in [u64::MAX, 1, 0x41_0000] {
            free_msr(msr, value);
        }
        if let Ok(value) = before {
            free_msr(msr, value);
        }
    }
    Free
}

/// KVM's own registers: clocks, asynchronous page faults, stolen time, end of interrupt.
fn kvm_msrs(page: u64) -> Outcome {
    for msr in [
        0x11,
        0x12,
        0x4b56_4d00,
        0x4b56_4d01,
        0x4b56_4d02,
        0x4b56_4d03,
        0x4b56_4d04,
        0x4b56_4d05,
        0x4b56_4d06,
    ] {
        for offset in [0, 2, 62, 4094] {
            free_msr(msr, page.wrapping_add(offset));
        }
    }
    Free
}

fn msr_scan(_: &mut Bench) -> Outcome {
    for msr in (0..0x1000).chain(0xc000_0000..0xc000_0200) {
        let _ = read_msr(msr);
    }
    Ignored
}

fn xrstor_junk(_: &mut Bench) -> Outcome {
    (0..512).for_each(|n| poke(ARENA + 8 * n, u64::MAX));
    free(bad_xrstor, ARENA, 0)
}

fn hypercalls(_: &mut Bench) -> Outcome {
    (0..20).for_each(|number| {
        free(bad_vmcall, number, 0);
    });
    Free
}

fn descriptor_table(_: &mut Bench) -> Outcome {
    poke(ARENA, 0xffffu16);
    poke(ARENA + 2, FIRST);
    free(bad_lgdt, ARENA, 0)
}

fn long_loop(_: &mut Bench) -> Outcome {
    free(bad_loop, 200_000, 0);
    Ignored
}

fn cpuid_all(_: &mut Bench) -> Outcome {
    for range in [0u64, 0x4000_0000, 0x8000_0000, 0xffff_0000] {
        for leaf in 0..0x40 {
            for part in [0, 1, 63, u64::from(u32::MAX)] {
                free(bad_cpuid, range + leaf, part);
            }
        }
    }
    Ignored
}
