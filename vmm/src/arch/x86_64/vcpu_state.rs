//! Puts a fresh vCPU into its first state.
//!
//! The first vCPU stands at the kernel's entry. The others keep the state after
//! a reset and wait in KVM for the INIT and SIPI that the kernel sends them.

use super::cpuid::{CpuidError, Template};
use super::long_mode;
use kvm_bindings::{Msrs, kvm_lapic_state, kvm_msr_entry};
use kvm_ioctls::VcpuFd;
use thiserror::Error;

/// Model-specific registers (Intel SDM vol. 4).
const MSR_IA32_MISC_ENABLE: u32 = 0x1a0;
const MSR_MTRR_DEF_TYPE: u32 = 0x2ff;
const MISC_ENABLE_FAST_STRING: u64 = 1;
/// MTRRs on, everything write-back.
const MTRR_WRITE_BACK: u64 = 1 << 11 | 6;

/// Local APIC registers (Intel SDM vol. 3, 11.4.1) and delivery modes.
const APIC_LVT_LINT0: usize = 0x350;
const APIC_LVT_LINT1: usize = 0x360;
const DELIVERY_MODE: u32 = 7 << 8;
const DELIVERY_NMI: u32 = 4 << 8;
const DELIVERY_EXT_INT: u32 = 7 << 8;

/// Why a vCPU could not be set up.
#[derive(Debug, Error)]
pub enum VcpuStateError {
    /// CPUID could not be made.
    #[error(transparent)]
    Cpuid(#[from] CpuidError),
    /// KVM refused a part of the state.
    #[error("KVM refuses {what} of vCPU {vcpu}: {source}")]
    Kvm {
        /// Which part.
        what: &'static str,
        /// Which vCPU.
        vcpu: u8,
        /// KVM's answer.
        source: kvm_ioctls::Error,
    },
    /// KVM stopped in the list of MSRs.
    #[error("KVM refuses MSR {msr:#x} of vCPU {vcpu}")]
    Msr {
        /// The MSR.
        msr: u32,
        /// Which vCPU.
        vcpu: u8,
    },
}

/// Sets up vCPU `n`; `entry` is where the first one starts, in long mode.
pub fn set_up(vcpu: &VcpuFd, n: u8, cpuid: &Template, entry: u64) -> Result<(), VcpuStateError> {
    let refused = |what| {
        move |source| VcpuStateError::Kvm {
            what,
            vcpu: n,
            source,
        }
    };
    vcpu.set_cpuid2(&cpuid.for_vcpu(n)?)
        .map_err(refused("CPUID"))?;
    set_msrs(vcpu, n)?;
    let mut lapic = vcpu.get_lapic().map_err(refused("the local APIC"))?;
    set_delivery(&mut lapic, APIC_LVT_LINT0, DELIVERY_EXT_INT);
    set_delivery(&mut lapic, APIC_LVT_LINT1, DELIVERY_NMI);
    vcpu.set_lapic(&lapic).map_err(refused("the local APIC"))?;
    if n == 0 {
        let mut sregs = vcpu.get_sregs().map_err(refused("system registers"))?;
        long_mode::set_system_registers(&mut sregs);
        vcpu.set_sregs(&sregs)
            .map_err(refused("system registers"))?;
        vcpu.set_fpu(&long_mode::floating_point())
            .map_err(refused("the floating-point state"))?;
        vcpu.set_regs(&long_mode::registers(entry))
            .map_err(refused("general registers"))?;
    }
    Ok(())
}

fn set_msrs(vcpu: &VcpuFd, n: u8) -> Result<(), VcpuStateError> {
    let entries = [
        (MSR_IA32_MISC_ENABLE, MISC_ENABLE_FAST_STRING),
        (MSR_MTRR_DEF_TYPE, MTRR_WRITE_BACK),
    ]
    .map(|(index, data)| kvm_msr_entry {
        index,
        data,
        ..Default::default()
    });
    for entry in entries {
        let refused = VcpuStateError::Msr {
            msr: entry.index,
            vcpu: n,
        };
        // One at a time, so that the error can name the one that KVM refuses.
        match Msrs::from_entries(&[entry]).map(|msrs| vcpu.set_msrs(&msrs)) {
            Ok(Ok(1)) => {}
            _ => return Err(refused),
        }
    }
    Ok(())
}

/// Sets the delivery mode of a local vector table entry.
fn set_delivery(lapic: &mut kvm_lapic_state, register: usize, mode: u32) {
    let bytes = [0, 1, 2, 3].map(|n| lapic.regs[register + n] as u8);
    let value = u32::from_le_bytes(bytes) & !DELIVERY_MODE | mode;
    for (n, byte) in value.to_le_bytes().into_iter().enumerate() {
        lapic.regs[register + n] = byte as _;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_delivery_mode_changes() {
        let mut lapic = kvm_lapic_state::default();
        for (n, byte) in [0x12u8, 0xf2, 0x01, 0x80].into_iter().enumerate() {
            lapic.regs[APIC_LVT_LINT0 + n] = byte as _;
        }
        set_delivery(&mut lapic, APIC_LVT_LINT0, DELIVERY_EXT_INT);
        let after = [0, 1, 2, 3].map(|n| lapic.regs[APIC_LVT_LINT0 + n] as u8);
        assert_eq!(after, [0x12, 0xf7, 0x01, 0x80]);
    }
}
