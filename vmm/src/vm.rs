//! Puts a VM together: memory, kernel, devices, vCPUs.

use crate::arch::x86_64::acpi::{self, AcpiError};
use crate::arch::x86_64::boot_params::{self, BootParamsError};
use crate::arch::x86_64::cpuid::{self, CpuidError};
use crate::arch::x86_64::kernel::{self, KernelError};
use crate::arch::x86_64::layout::{
    ACPI_POWER, ACPI_POWER_LEN, COM1, COM1_GSI, COM1_LEN, I8042, I8042_LEN,
};
use crate::arch::x86_64::long_mode;
use crate::arch::x86_64::vcpu_state::{self, VcpuStateError};
use crate::bus::BusError;
use crate::devices::{self, DeviceError};
use crate::event::{EventError, event_fd};
use crate::exit::Exit;
use crate::kvm::{self, Host, KvmError};
use crate::legacy::power::{AcpiPower, I8042 as Keyboard};
use crate::legacy::serial::Serial;
use crate::memory::{self, GuestMemory, MemoryError};
use crate::process::Inherited;
use crate::thread::{Muster, ThreadError};
use crate::vcpu::{Buses, Vcpu};
use casemate_policies::{Role, ThreadClass, filter};
use casemate_proto::control::{Ended, VmConfig};
use casemate_proto::fds;
use kvm_ioctls::VmFd;
use std::fs::File;
use std::sync::{Arc, Mutex};
use thiserror::Error;
use vm_memory::GuestMemoryError;

/// Why a VM was not built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// No vCPUs, or too many.
    #[error("{0} vCPUs: give 1 to {max}", max = fds::MAX_VCPUS)]
    Vcpus(u8),
    /// More vCPUs than this host's KVM can give.
    #[error("{want} vCPUs: this host's KVM gives at most {most}")]
    HostVcpus {
        /// As configured.
        want: u8,
        /// KVM's limit.
        most: usize,
    },
    /// More memory than the processor can address.
    #[error("guest memory of {mib} MiB: this processor addresses only {bits} bits")]
    AddressBits {
        /// As configured.
        mib: u32,
        /// Physical address bits.
        bits: u8,
    },
    /// Guest memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Kernel or initramfs.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Command line or zero page.
    #[error(transparent)]
    BootParams(#[from] BootParamsError),
    /// ACPI tables.
    #[error(transparent)]
    Acpi(#[from] AcpiError),
    /// Page tables.
    #[error("guest memory does not hold the page tables: {0}")]
    Tables(#[from] GuestMemoryError),
    /// KVM.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// CPUID.
    #[error(transparent)]
    Cpuid(#[from] CpuidError),
    /// A vCPU's state.
    #[error(transparent)]
    VcpuState(#[from] VcpuStateError),
    /// An event fd.
    #[error(transparent)]
    Event(#[from] EventError),
    /// A bus.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// A virtio device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A thread.
    #[error(transparent)]
    Thread(#[from] ThreadError),
}

impl BuildError {
    /// Whether it is the user's to mend: the configuration or an image.
    fn is_refusal(&self) -> bool {
        match self {
            Self::Vcpus(_) | Self::HostVcpus { .. } | Self::AddressBits { .. } => true,
            Self::Memory(error) => matches!(error, MemoryError::Size(_)),
            Self::Kernel(_) => true,
            Self::BootParams(error) => !matches!(error, BootParamsError::Memory(_)),
            Self::Device(error) => error.is_refusal(),
            _ => false,
        }
    }
}

impl From<BuildError> for Ended {
    fn from(error: BuildError) -> Self {
        let message = error.to_string();
        if error.is_refusal() {
            Self::Refused { message }
        } else {
            Self::Failed { message }
        }
    }
}

/// A VM that is ready to run. It lasts as long as the process.
pub struct Vm {
    /// Threads of devices and vCPUs, in the order in which they were started.
    pub threads: Vec<String>,
    /// Guest memory.
    pub memory: GuestMemory,
    muster: Muster,
    /// Keeps memslots, irqfds and ioeventfds in place.
    _fd: VmFd,
}

impl Vm {
    /// Builds the VM that `config` describes out of `given`. All its threads are
    /// confined when it returns, and the vCPUs wait for [`Vm::release`].
    pub fn build(config: &VmConfig, given: Inherited, exit: &Exit) -> Result<Self, BuildError> {
        check(config)?;
        let host = Host::new(given.kvm)?;
        let most = host.kvm().get_max_vcpus();
        if usize::from(config.vcpus) > most {
            return Err(BuildError::HostVcpus {
                want: config.vcpus,
                most,
            });
        }
        let cpuid = cpuid::Template::new(host.kvm(), config.vcpus)?;
        let memory = memory::map(config.memory_mib)?;
        check_address_bits(config.memory_mib, cpuid.physical_bits())?;
        let entry = load(config, &memory, given.kernel, given.initrd)?;

        let vm = host.create_vm()?;
        kvm::add_memory(&vm, &memory)?;
        let mut buses = Buses::default();
        add_legacy(&mut buses, &vm, given.console, exit)?;
        let mut threads = devices::add_all(
            &vm,
            &mut buses.mmio,
            &memory,
            config,
            given.disks,
            given.streams,
        )?;
        acpi::write(&memory, config.vcpus, threads.len())?;

        let buses = Arc::new(buses);
        let mut muster = Muster::new();
        for n in 0..config.vcpus {
            let fd = kvm::create_vcpu(&vm, n)?;
            vcpu_state::set_up(&fd, n, &cpuid, entry)?;
            let filter = filter(ThreadClass::Vcpu).bind(Role::Vcpu, fds::VCPU_BASE + i32::from(n));
            let vcpu = Vcpu::new(n, fd, Arc::clone(&buses), exit.clone());
            muster.spawn(&format!("vcpu{n}"), filter, move |gate| vcpu.run(&gate))?;
        }
        muster.wait_confined()?;
        threads.extend_from_slice(muster.names());
        Ok(Self {
            threads,
            memory,
            muster,
            _fd: vm,
        })
    }

    /// Lets the vCPUs run.
    pub fn release(&self) {
        self.muster.open_gate();
    }
}

fn check(config: &VmConfig) -> Result<(), BuildError> {
    if config.vcpus == 0 || usize::from(config.vcpus) > fds::MAX_VCPUS {
        return Err(BuildError::Vcpus(config.vcpus));
    }
    memory::layout(config.memory_mib)?;
    boot_params::check_cmdline(&config.cmdline)?;
    devices::check(config)?;
    Ok(())
}

fn check_address_bits(mib: u32, bits: u8) -> Result<(), BuildError> {
    let end = memory::layout(mib)?.last().map_or(0, |range| range.end());
    if u32::from(bits) < u64::BITS && end > 1 << bits {
        return Err(BuildError::AddressBits { mib, bits });
    }
    Ok(())
}

/// Fills guest memory with all that a kernel finds at its start, and gives its entry.
fn load(
    config: &VmConfig,
    memory: &GuestMemory,
    mut kernel: File,
    mut initrd: Option<File>,
) -> Result<u64, BuildError> {
    let loaded = kernel::load(memory, &mut kernel, initrd.as_mut())?;
    boot_params::write(memory, &config.cmdline, &loaded)?;
    long_mode::write_tables(memory)?;
    Ok(loaded.entry)
}

fn add_legacy(buses: &mut Buses, vm: &VmFd, console: File, exit: &Exit) -> Result<(), BuildError> {
    let interrupt = event_fd()?;
    kvm::add_irqfd(vm, &interrupt, COM1_GSI)?;
    let serial = Arc::new(Mutex::new(Serial::new(interrupt, console)));
    buses.pio.insert(COM1, COM1_LEN, serial.clone())?;
    buses.serial = Some(serial);
    let keyboard = Arc::new(Mutex::new(Keyboard::new(exit.clone())));
    buses.pio.insert(I8042, I8042_LEN, keyboard)?;
    let power = Arc::new(Mutex::new(AcpiPower::new(exit.clone())));
    buses.pio.insert(ACPI_POWER, ACPI_POWER_LEN, power)?;
    Ok(())
}
