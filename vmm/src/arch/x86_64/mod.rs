//! x86-64: from a kernel image to a vCPU that stands at its 64-bit entry.

pub mod acpi;
pub mod boot_params;
pub mod cpuid;
pub mod image;
pub mod kernel;
pub mod layout;
pub mod long_mode;
pub mod vcpu_state;
