//! The host's KVM: what it must be able to do, and VM and vCPUs at their fixed fds.

use casemate_proto::fds;
use kvm_bindings::{
    KVM_API_VERSION, KVM_CAP_PMU_CAPABILITY, KVM_PIT_SPEAKER_DUMMY, KVM_PMU_CAP_DISABLE, KVMIO,
    kvm_enable_cap, kvm_pit_config, kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, VcpuFd, VmFd};
use nix::fcntl::{FcntlArg, fcntl};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use thiserror::Error;
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};
use vmm_sys_util::ioctl::{_IOC_NONE, ioctl_expr, ioctl_with_val};

use crate::arch::x86_64::layout::{KVM_IDENTITY_MAP, KVM_TSS};
use crate::event::EventFd;
use crate::memory::GuestMemory;

/// What we cannot do without, by the name of the documentation (Linux, virt/kvm/api).
const REQUIRED: [(Cap, &str); 8] = [
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
    (Cap::Pit2, "KVM_CAP_PIT2"),
    (Cap::Irqfd, "KVM_CAP_IRQFD"),
    (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD"),
    (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID"),
    (Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR"),
    (Cap::SetIdentityMapAddr, "KVM_CAP_SET_IDENTITY_MAP_ADDR"),
];

/// What KVM did not do.
#[derive(Debug, Error)]
pub enum KvmError {
    /// Not the KVM this program was written for.
    #[error("/dev/kvm speaks API version {0}, not {KVM_API_VERSION}: this kernel is not supported")]
    ApiVersion(i32),
    /// A capability is missing.
    #[error("/dev/kvm lacks {0}: run `casemate doctor` to see what this host can run")]
    MissingCapability(&'static str),
    /// An ioctl failed.
    #[error("KVM cannot {what}: {source}")]
    Ioctl {
        /// What was asked for.
        what: &'static str,
        /// KVM's answer.
        source: kvm_ioctls::Error,
    },
    /// An fd could not be put at its number.
    #[error("cannot put the {what} at fd {want}: {problem}")]
    Place {
        /// What was to be placed.
        what: &'static str,
        /// Where it belongs.
        want: RawFd,
        /// Why it is not there.
        problem: String,
    },
}

impl KvmError {
    fn ioctl(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> Self {
        move |source| Self::Ioctl { what, source }
    }
}

/// `/dev/kvm`, checked.
pub struct Host(Kvm);

impl Host {
    /// Checks what this KVM can do.
    pub fn new(device: OwnedFd) -> Result<Self, KvmError> {
        // SAFETY: the fd is owned, and given away here.
        let kvm = unsafe { Kvm::from_raw_fd(device.into_raw_fd()) };
        let version = kvm.get_api_version();
        if version != KVM_API_VERSION as i32 {
            return Err(KvmError::ApiVersion(version));
        }
        for (capability, name) in REQUIRED {
            if !kvm.check_extension(capability) {
                return Err(KvmError::MissingCapability(name));
            }
        }
        Ok(Self(kvm))
    }

    /// The device itself.
    pub fn kvm(&self) -> &Kvm {
        &self.0
    }

    /// Makes a VM with interrupt controllers and timer, and places it at [`fds::VM`].
    pub fn create_vm(&self) -> Result<VmFd, KvmError> {
        let made = self
            .0
            .create_vm()
            .map_err(KvmError::ioctl("create a VM (KVM_CREATE_VM)"))?;
        let fd = place("VM", &made, fds::VM)?;
        // SAFETY: `fd` is a VM and gives its number away.
        let vm = unsafe { self.0.create_vmfd_from_rawfd(fd.into_raw_fd()) }
            .map_err(KvmError::ioctl("tell a vCPU's size"))?;
        drop(made);

        vm.set_tss_address(KVM_TSS)
            .map_err(KvmError::ioctl("place the TSS (KVM_SET_TSS_ADDR)"))?;
        vm.set_identity_map_address(KVM_IDENTITY_MAP)
            .map_err(KvmError::ioctl("place the identity map"))?;
        hide_performance_counters(&vm)?;
        vm.create_irq_chip()
            .map_err(KvmError::ioctl("create interrupt controllers"))?;
        vm.create_pit2(kvm_pit_config {
            flags: KVM_PIT_SPEAKER_DUMMY,
            ..Default::default()
        })
        .map_err(KvmError::ioctl("create the timer (KVM_CREATE_PIT2)"))?;
        Ok(vm)
    }
}

/// Performance counters tell a guest more about the host than it needs to know.
/// Where KVM cannot switch them off, CPUID still hides them.
fn hide_performance_counters(vm: &VmFd) -> Result<(), KvmError> {
    let offered = vm.check_extension_raw(KVM_CAP_PMU_CAPABILITY.into());
    if offered <= 0 || offered as u32 & KVM_PMU_CAP_DISABLE == 0 {
        return Ok(());
    }
    vm.enable_cap(&kvm_enable_cap {
        cap: KVM_CAP_PMU_CAPABILITY,
        args: [KVM_PMU_CAP_DISABLE.into(), 0, 0, 0],
        ..Default::default()
    })
    .map_err(KvmError::ioctl("switch off performance counters"))
}

/// Gives the VM its memory, one memslot a region.
pub fn add_memory(vm: &VmFd, memory: &GuestMemory) -> Result<(), KvmError> {
    for (slot, region) in (0..).zip(memory.iter()) {
        let memslot = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: region.start_addr().0,
            memory_size: region.len(),
            userspace_addr: region.as_ptr() as u64,
        };
        // SAFETY: the region is mapped at that address with that length, and guest
        // memory is never unmapped (see `memory::map`).
        unsafe { vm.set_user_memory_region(memslot) }.map_err(KvmError::ioctl(
            "map guest memory (KVM_SET_USER_MEMORY_REGION)",
        ))?;
    }
    Ok(())
}

/// Lets `event` raise an edge on pin `gsi` of the interrupt controllers (KVM_IRQFD).
pub fn add_irqfd(vm: &VmFd, event: &EventFd, gsi: u32) -> Result<(), KvmError> {
    vm.register_irqfd(event, gsi)
        .map_err(KvmError::ioctl("wire an interrupt (KVM_IRQFD)"))
}

/// Lets KVM signal `event` when the guest writes `value`, 4 bytes long, to MMIO
/// address `address` (KVM_IOEVENTFD).
pub fn add_ioeventfd(vm: &VmFd, event: &EventFd, address: u64, value: u32) -> Result<(), KvmError> {
    vm.register_ioevent(event, &IoEventAddress::Mmio(address), value)
        .map_err(KvmError::ioctl("wire a notification (KVM_IOEVENTFD)"))
}

/// Linux, virt/kvm/api 4.7. kvm-ioctls has it too, but maps the vCPU's page before
/// the fd is at its number, which our filter refuses.
const KVM_CREATE_VCPU: libc::c_ulong = ioctl_expr(_IOC_NONE, KVMIO, 0x41, 0);

/// Makes vCPU `n` and places it at [`fds::VCPU_BASE`]` + n`.
pub fn create_vcpu(vm: &VmFd, n: u8) -> Result<VcpuFd, KvmError> {
    let refused = KvmError::ioctl("create a vCPU (KVM_CREATE_VCPU)");
    // SAFETY: `vm` is a VM, and the request takes a number and no pointer.
    let made = unsafe { ioctl_with_val(vm, KVM_CREATE_VCPU, n.into()) };
    if made < 0 {
        return Err(refused(kvm_ioctls::Error::last()));
    }
    // SAFETY: KVM has just made this fd; nobody else knows its number.
    let made = unsafe { OwnedFd::from_raw_fd(made) };
    let fd = place("vCPU", &made, fds::VCPU_BASE + i32::from(n))?;
    // SAFETY: `fd` is a vCPU of `vm` and gives its number away.
    unsafe { vm.create_vcpu_from_rawfd(fd.into_raw_fd()) }
        .map_err(KvmError::ioctl("map a vCPU's shared page"))
}

/// Duplicates `fd` to exactly `want`, which must be free.
fn place(what: &'static str, fd: &impl AsRawFd, want: RawFd) -> Result<OwnedFd, KvmError> {
    let failed = |problem: String| KvmError::Place {
        what,
        want,
        problem,
    };
    // SAFETY: `fd` is open as long as its owner lives, which is longer than this call.
    let fd = unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) };
    let got = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(want))
        .map_err(|e| failed(io::Error::from(e).to_string()))?;
    // SAFETY: fcntl has just made this fd; nobody else knows its number.
    let got = unsafe { OwnedFd::from_raw_fd(got) };
    if got.as_raw_fd() != want {
        return Err(failed("another file stands there".to_owned()));
    }
    Ok(got)
}
