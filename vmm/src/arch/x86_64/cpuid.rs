//! What the guest's CPUID says: the host's processor as KVM supports it, with a
//! topology of our own and without performance counters.
//!
//! The topology is one package with one core a vCPU and one thread a core; the
//! local APIC's id is the vCPU's number. Intel SDM vol. 2A, CPUID; AMD APM vol. 3,
//! appendix E.

use kvm_bindings::{
    CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2,
};
use kvm_ioctls::{Cap, Kvm};
use thiserror::Error;

/// Why there is no CPUID.
#[derive(Debug, Error)]
pub enum CpuidError {
    /// KVM does not tell what it supports.
    #[error("KVM does not tell which CPUID it supports: {0}")]
    Supported(kvm_ioctls::Error),
    /// More leaves than KVM takes.
    #[error("CPUID has too many leaves for KVM: {0:?}")]
    TooMany(vmm_sys_util::fam::Error),
}

/// Processor features of leaf 1.
mod leaf1 {
    pub const ECX_PDCM: u32 = 1 << 15;
    pub const ECX_X2APIC: u32 = 1 << 21;
    pub const ECX_TSC_DEADLINE: u32 = 1 << 24;
    pub const ECX_HYPERVISOR: u32 = 1 << 31;
    pub const EDX_HTT: u32 = 1 << 28;
    /// Cache line that CLFLUSH flushes, in units of 8 bytes.
    pub const EBX_CLFLUSH: u32 = 8 << 8;
}

/// AMD's performance counter features in leaf 0x8000_0001, ECX.
const AMD_PERF_COUNTERS: u32 = 1 << 23 | 1 << 24 | 1 << 28;
/// Topology leaves that we write ourselves or leave out.
const TOPOLOGY: [u32; 3] = [0xb, 0x1f, 0x8000_0026];
/// Performance counter leaves: Intel's, AMD's.
const PERF_COUNTERS: [u32; 2] = [0xa, 0x8000_0022];

/// CPUID for every vCPU of a VM.
#[derive(Debug, Clone)]
pub struct Template {
    leaves: Vec<kvm_cpuid_entry2>,
    vcpus: u8,
}

impl Template {
    /// Asks KVM what it supports, and shapes it for `vcpus` vCPUs.
    pub fn new(kvm: &Kvm, vcpus: u8) -> Result<Self, CpuidError> {
        let supported = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(CpuidError::Supported)?;
        // KVM's local APIC has the deadline timer whether the host's has or not, and
        // old kernels do not say so among the supported features.
        let deadline = kvm.check_extension(Cap::TscDeadlineTimer);
        Ok(Self::shape(supported.as_slice(), vcpus, deadline))
    }

    fn shape(supported: &[kvm_cpuid_entry2], vcpus: u8, deadline: bool) -> Self {
        let highest = supported
            .iter()
            .find(|leaf| leaf.function == 0)
            .map_or(0, |leaf| leaf.eax);
        let ids = ApicIds::of(vcpus);
        let mut leaves: Vec<_> = supported
            .iter()
            .filter(|leaf| !TOPOLOGY.contains(&leaf.function))
            .copied()
            .collect();
        for leaf in &mut leaves {
            shape_leaf(leaf, ids, deadline);
        }
        if highest >= 0xb {
            leaves.extend(ids.extended_topology());
        }
        Self { leaves, vcpus }
    }

    /// Bits of a guest-physical address; 36 where the processor does not tell.
    pub fn physical_bits(&self) -> u8 {
        self.leaves
            .iter()
            .find(|leaf| leaf.function == 0x8000_0008)
            .map_or(36, |leaf| leaf.eax as u8)
    }

    /// The CPUID of vCPU `n`.
    pub fn for_vcpu(&self, n: u8) -> Result<CpuId, CpuidError> {
        debug_assert!(n < self.vcpus);
        let id = u32::from(n);
        let mut leaves = self.leaves.clone();
        for leaf in &mut leaves {
            match leaf.function {
                1 => leaf.ebx = leaf.ebx & 0x00ff_ffff | id << 24,
                0xb => leaf.edx = id,
                0x8000_001e => {
                    leaf.eax = id;
                    leaf.ebx = id & 0xff;
                }
                _ => {}
            }
        }
        CpuId::from_entries(&leaves).map_err(CpuidError::TooMany)
    }
}

/// How local APIC ids are given out.
#[derive(Clone, Copy)]
struct ApicIds {
    vcpus: u32,
    /// Bits of an id that number the core.
    core_bits: u32,
}

impl ApicIds {
    fn of(vcpus: u8) -> Self {
        let vcpus = u32::from(vcpus.max(1));
        Self {
            vcpus,
            core_bits: vcpus.next_power_of_two().trailing_zeros(),
        }
    }

    /// Leaf 0xb: thread level, core level, end.
    fn extended_topology(self) -> [kvm_cpuid_entry2; 3] {
        const THREAD: u32 = 1 << 8;
        const CORE: u32 = 2 << 8;
        let level = |index, eax, ebx, kind| kvm_cpuid_entry2 {
            function: 0xb,
            index,
            flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
            eax,
            ebx,
            ecx: kind | index,
            ..Default::default()
        };
        [
            level(0, 0, 1, THREAD),
            level(1, self.core_bits, self.vcpus, CORE),
            level(2, 0, 0, 0),
        ]
    }
}

fn shape_leaf(leaf: &mut kvm_cpuid_entry2, ids: ApicIds, deadline: bool) {
    let ApicIds { vcpus, core_bits } = ids;
    match leaf.function {
        1 => {
            leaf.ebx = leaf.ebx & 0xff | leaf1::EBX_CLFLUSH | (1 << core_bits) << 16;
            leaf.ecx &= !leaf1::ECX_PDCM;
            leaf.ecx |= leaf1::ECX_HYPERVISOR | leaf1::ECX_X2APIC;
            if deadline {
                leaf.ecx |= leaf1::ECX_TSC_DEADLINE;
            }
            leaf.edx &= !leaf1::EDX_HTT;
            if vcpus > 1 {
                leaf.edx |= leaf1::EDX_HTT;
            }
        }
        // Caches, Intel's and AMD's leaf: the first two levels are a core's own, the
        // third is everybody's.
        4 | 0x8000_001d if leaf.eax & 0x1f != 0 => {
            let sharing = if leaf.eax >> 5 & 7 >= 3 { vcpus - 1 } else { 0 };
            leaf.eax = leaf.eax & 0x3fff | sharing << 14;
            if leaf.function == 4 {
                leaf.eax |= ((1 << core_bits) - 1) << 26;
            }
        }
        0x8000_0001 => leaf.ecx &= !AMD_PERF_COUNTERS,
        0x8000_0008 => leaf.ecx = leaf.ecx & !0xf0ff | core_bits << 12 | (vcpus - 1),
        0x8000_001e => (leaf.eax, leaf.ebx, leaf.ecx, leaf.edx) = (0, 0, 0, 0),
        f if PERF_COUNTERS.contains(&f) => {
            (leaf.eax, leaf.ebx, leaf.ecx, leaf.edx) = (0, 0, 0, 0);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(function: u32, index: u32, regs: [u32; 4]) -> kvm_cpuid_entry2 {
        let [eax, ebx, ecx, edx] = regs;
        kvm_cpuid_entry2 {
            function,
            index,
            eax,
            ebx,
            ecx,
            edx,
            ..Default::default()
        }
    }

    fn host() -> Vec<kvm_cpuid_entry2> {
        vec![
            entry(0, 0, [0x1f, 0, 0, 0]),
            entry(1, 0, [0, 0xaabb_ccdd, leaf1::ECX_PDCM, leaf1::EDX_HTT]),
            entry(4, 0, [0xffff_ff21, 0, 0, 0]),
            entry(4, 3, [0xffff_ff63, 0, 0, 0]),
            entry(0xa, 0, [0x0830_0802, 0, 0, 0x603]),
            entry(0xb, 0, [1, 2, 0x100, 99]),
            entry(0x1f, 0, [1, 2, 0x100, 99]),
            entry(0x8000_0001, 0, [0, 0, u32::MAX, 0]),
            entry(0x8000_0008, 0, [0x3028, 0, 0x703f, 0]),
            entry(0x8000_001e, 0, [9, 9, 9, 9]),
        ]
    }

    fn find(cpuid: &CpuId, function: u32, index: u32) -> kvm_cpuid_entry2 {
        *cpuid
            .as_slice()
            .iter()
            .find(|leaf| (leaf.function, leaf.index) == (function, index))
            .unwrap()
    }

    #[test]
    fn every_topology_leaf_tells_the_same() {
        for (vcpus, bits) in [(1, 0), (2, 1), (3, 2), (4, 2), (32, 5)] {
            let template = Template::shape(&host(), vcpus, true);
            for n in 0..vcpus {
                let cpuid = template.for_vcpu(n).unwrap();
                let id = u32::from(n);
                let count = u32::from(vcpus);
                let one = find(&cpuid, 1, 0);
                assert_eq!((one.ebx >> 24, one.ebx >> 16 & 0xff), (id, 1 << bits));
                assert_eq!(one.edx & leaf1::EDX_HTT != 0, vcpus > 1);
                let core = find(&cpuid, 0xb, 1);
                assert_eq!((core.eax, core.ebx, core.ecx), (bits, count, 0x201));
                assert_eq!((core.edx, find(&cpuid, 0xb, 0).edx), (id, id));
                let amd = find(&cpuid, 0x8000_0008, 0);
                assert_eq!((amd.ecx & 0xff, amd.ecx >> 12 & 0xf), (count - 1, bits));
                assert_eq!(find(&cpuid, 0x8000_001e, 0).eax, id);
                assert_eq!(find(&cpuid, 4, 0).eax >> 14 & 0xfff, 0);
                assert_eq!(find(&cpuid, 4, 3).eax >> 14 & 0xfff, count - 1);
                assert!(cpuid.as_slice().iter().all(|leaf| leaf.function != 0x1f));
            }
        }
    }

    #[test]
    fn performance_counters_are_hidden_and_the_hypervisor_is_not() {
        let template = Template::shape(&host(), 1, false);
        let cpuid = template.for_vcpu(0).unwrap();
        let one = find(&cpuid, 1, 0);
        assert_eq!(one.ecx, leaf1::ECX_HYPERVISOR | leaf1::ECX_X2APIC);
        assert_eq!(find(&cpuid, 0xa, 0).eax, 0);
        assert_eq!(find(&cpuid, 0x8000_0001, 0).ecx & AMD_PERF_COUNTERS, 0);
        assert_eq!(template.physical_bits(), 40);
    }

    proptest! {
        #[test]
        fn any_host_is_shaped_without_overflow(
            leaves in prop::collection::vec(
                (prop_oneof![0u32..0x20, 0x8000_0000u32..0x8000_0030], any::<[u32; 4]>()), 0..40),
            vcpus in 1u8..=32,
        ) {
            let host: Vec<_> = leaves.into_iter().map(|(f, regs)| entry(f, 0, regs)).collect();
            let template = Template::shape(&host, vcpus, true);
            for n in 0..vcpus {
                prop_assert!(template.for_vcpu(n).is_ok());
            }
        }
    }
}
