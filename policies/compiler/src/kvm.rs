//! The numbers of KVM's ioctls, made as `<linux/kvm.h>` makes them: from the
//! direction, the type byte 0xAE, the number, and the size of the structure.

use kvm_bindings::*;
use std::mem::size_of;

const KVMIO: u64 = 0xAE;
const WRITE: u64 = 1;
const READ: u64 = 2;

/// `_IOC` of `<asm-generic/ioctl.h>`.
const fn ioc(direction: u64, number: u64, size: usize) -> u64 {
    (direction << 30) | ((size as u64) << 16) | (KVMIO << 8) | number
}

macro_rules! ioctls {
    ($($name:ident = $number:literal $($direction:ident $structure:ty)?;)*) => {
        &[$((stringify!($name), ioctls!(@ $number $($direction $structure)?))),*]
    };
    (@ $number:literal) => { ioc(0, $number, 0) };
    (@ $number:literal w $structure:ty) => { ioc(WRITE, $number, size_of::<$structure>()) };
    (@ $number:literal r $structure:ty) => { ioc(READ, $number, size_of::<$structure>()) };
    (@ $number:literal rw $structure:ty) => { ioc(READ | WRITE, $number, size_of::<$structure>()) };
}

/// Names and numbers; `w` is `_IOW` (the kernel reads the structure), `r` `_IOR`.
pub(crate) static IOCTLS: &[(&str, u64)] = ioctls! {
    // On /dev/kvm.
    KVM_GET_API_VERSION = 0x00;
    KVM_CREATE_VM = 0x01;
    KVM_GET_MSR_INDEX_LIST = 0x02 rw kvm_msr_list;
    KVM_CHECK_EXTENSION = 0x03;
    KVM_GET_VCPU_MMAP_SIZE = 0x04;
    KVM_GET_SUPPORTED_CPUID = 0x05 rw kvm_cpuid2;
    KVM_GET_MSR_FEATURE_INDEX_LIST = 0x0a rw kvm_msr_list;

    // On a VM.
    KVM_CREATE_VCPU = 0x41;
    KVM_GET_DIRTY_LOG = 0x42 w kvm_dirty_log;
    KVM_SET_USER_MEMORY_REGION = 0x46 w kvm_userspace_memory_region;
    KVM_SET_TSS_ADDR = 0x47;
    KVM_SET_IDENTITY_MAP_ADDR = 0x48 w u64;
    KVM_SET_USER_MEMORY_REGION2 = 0x49 w kvm_userspace_memory_region2;
    KVM_CREATE_IRQCHIP = 0x60;
    KVM_IRQ_LINE = 0x61 w kvm_irq_level;
    KVM_GET_IRQCHIP = 0x62 rw kvm_irqchip;
    KVM_SET_IRQCHIP = 0x63 r kvm_irqchip;
    KVM_SET_GSI_ROUTING = 0x6a w kvm_irq_routing;
    KVM_IRQFD = 0x76 w kvm_irqfd;
    KVM_CREATE_PIT2 = 0x77 w kvm_pit_config;
    KVM_SET_BOOT_CPU_ID = 0x78;
    KVM_IOEVENTFD = 0x79 w kvm_ioeventfd;
    KVM_SET_CLOCK = 0x7b w kvm_clock_data;
    KVM_GET_CLOCK = 0x7c r kvm_clock_data;
    KVM_GET_PIT2 = 0x9f r kvm_pit_state2;
    KVM_SET_PIT2 = 0xa0 w kvm_pit_state2;
    KVM_ENABLE_CAP = 0xa3 w kvm_enable_cap;
    KVM_SIGNAL_MSI = 0xa5 w kvm_msi;
    KVM_X86_SET_MSR_FILTER = 0xc6 w kvm_msr_filter;

    // On a vCPU.
    KVM_RUN = 0x80;
    KVM_GET_REGS = 0x81 r kvm_regs;
    KVM_SET_REGS = 0x82 w kvm_regs;
    KVM_GET_SREGS = 0x83 r kvm_sregs;
    KVM_SET_SREGS = 0x84 w kvm_sregs;
    KVM_GET_MSRS = 0x88 rw kvm_msrs;
    KVM_SET_MSRS = 0x89 w kvm_msrs;
    KVM_GET_FPU = 0x8c r kvm_fpu;
    KVM_SET_FPU = 0x8d w kvm_fpu;
    KVM_GET_LAPIC = 0x8e r kvm_lapic_state;
    KVM_SET_LAPIC = 0x8f w kvm_lapic_state;
    KVM_SET_CPUID2 = 0x90 w kvm_cpuid2;
    KVM_GET_CPUID2 = 0x91 rw kvm_cpuid2;
    KVM_GET_MP_STATE = 0x98 r kvm_mp_state;
    KVM_SET_MP_STATE = 0x99 w kvm_mp_state;
    KVM_GET_VCPU_EVENTS = 0x9f r kvm_vcpu_events;
    KVM_SET_VCPU_EVENTS = 0xa0 w kvm_vcpu_events;
    KVM_GET_DEBUGREGS = 0xa1 r kvm_debugregs;
    KVM_SET_DEBUGREGS = 0xa2 w kvm_debugregs;
    KVM_SET_TSC_KHZ = 0xa2;
    KVM_GET_TSC_KHZ = 0xa3;
    KVM_GET_XSAVE = 0xa4 r kvm_xsave;
    KVM_SET_XSAVE = 0xa5 w kvm_xsave;
    KVM_GET_XCRS = 0xa6 r kvm_xcrs;
    KVM_SET_XCRS = 0xa7 w kvm_xcrs;
    KVM_KVMCLOCK_CTRL = 0xad;
    KVM_GET_XSAVE2 = 0xcf r kvm_xsave;
};

#[cfg(test)]
mod tests {
    use super::*;

    /// Figures of the header as a C compiler expands them.
    #[test]
    fn numbers_are_those_of_the_header() {
        for (name, number) in [
            ("KVM_RUN", 0xae80),
            ("KVM_CREATE_VM", 0xae01),
            ("KVM_SET_USER_MEMORY_REGION", 0x4020_ae46),
            ("KVM_GET_SUPPORTED_CPUID", 0xc008_ae05),
            ("KVM_SET_REGS", 0x4090_ae82),
            ("KVM_GET_XSAVE", 0x9000_aea4),
        ] {
            assert!(IOCTLS.contains(&(name, number)), "{name}");
        }
    }
}
