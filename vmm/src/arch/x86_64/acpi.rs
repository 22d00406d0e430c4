//! The ACPI tables: all that a stock kernel needs to find its processors,
//! interrupt controllers and devices (ACPI 6.5).
//!
//! A hardware-reduced platform: no fixed hardware but the reset and sleep
//! registers of [`crate::legacy::power`].

use super::layout::{
    ACPI, ACPI_POWER, COM1, COM1_GSI, COM1_LEN, HIGH_MEMORY, IOAPIC, LOCAL_APIC, VIRTIO_GSI,
    VIRTIO_MMIO, VIRTIO_MMIO_LEN,
};
use crate::legacy::power::{ACPI_RESET_VALUE, ACPI_S5_TYPE};
use crate::memory::GuestMemory;
use acpi_tables::aml::{
    Device, EISAName, IO, Interrupt, Memory32Fixed, Name, ONE, Package, ResourceTemplate, Scope,
    ZERO,
};
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, aml};
use thiserror::Error;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

const OEM: [u8; 6] = *b"CSMATE";
const OEM_TABLE: [u8; 8] = *b"CASEMATE";
const OEM_REVISION: u32 = 1;
/// FADT, `IAPC_BOOT_ARCH`: there is no VGA, PCIe ASPM or CMOS clock to look for.
const BOOT_ARCH: u16 = 1 << 2 | 1 << 4 | 1 << 5;
/// Length of a table's header, in bytes.
const HEADER: u32 = 36;

/// Why there are no ACPI tables.
#[derive(Debug, Error)]
pub enum AcpiError {
    /// They do not fit into their place.
    #[error("ACPI tables take {0:#x} bytes, more than there is room for")]
    TooLong(usize),
    /// Guest memory does not reach there.
    #[error("guest memory does not hold the ACPI tables: {0}")]
    Memory(#[from] GuestMemoryError),
}

/// Tables laid out one after another from [`ACPI`] on.
struct Tables(Vec<u8>);

impl Tables {
    /// Appends a table and gives its address.
    fn push(&mut self, table: &dyn Aml) -> u64 {
        self.0.resize(self.0.len().next_multiple_of(16), 0);
        let address = ACPI + self.0.len() as u64;
        table.to_aml_bytes(&mut self.0);
        address
    }
}

/// Writes the tables for `vcpus` vCPUs and `virtio` virtio-mmio devices.
pub fn write(memory: &GuestMemory, vcpus: u8, virtio: usize) -> Result<(), AcpiError> {
    let tables = build(vcpus, virtio);
    if ACPI + tables.len() as u64 > HIGH_MEMORY {
        return Err(AcpiError::TooLong(tables.len()));
    }
    memory.write_slice(&tables, GuestAddress(ACPI))?;
    Ok(())
}

/// The tables as they stand at [`ACPI`], the RSDP first.
fn build(vcpus: u8, virtio: usize) -> Vec<u8> {
    let mut tables = Tables(vec![0; Rsdp::len()]);
    let dsdt = tables.push(&Table(dsdt(vcpus, virtio)));
    let fadt = tables.push(&fadt(dsdt));
    let madt = tables.push(&madt(vcpus));
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, OEM_REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = tables.push(&xsdt);
    let mut rsdp = Vec::new();
    Rsdp::new(OEM, xsdt).to_aml_bytes(&mut rsdp);
    tables.0[..rsdp.len()].copy_from_slice(&rsdp);
    tables.0
}

/// A finished table, as bytes.
struct Table(Sdt);

impl Aml for Table {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        sink.vec(self.0.as_slice());
    }
}

fn fadt(dsdt: u64) -> impl Aml {
    let port = |n: u64| {
        GAS::new(
            AddressSpace::SystemIo,
            8,
            0,
            AccessSize::ByteAccess,
            ACPI_POWER + n,
        )
    };
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::Wbinvd)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::Headless)
        .flag(Flags::ResetRegSup)
        .flag(Flags::HwReducedAcpi);
    fadt.iapc_boot_arch = BOOT_ARCH.into();
    fadt.reset_reg = port(0);
    fadt.reset_value = ACPI_RESET_VALUE;
    fadt.sleep_control_reg = port(1);
    fadt.sleep_status_reg = port(2);
    fadt.finalize()
}

fn madt(vcpus: u8) -> MADT {
    let mut madt = MADT::new(
        OEM,
        OEM_TABLE,
        OEM_REVISION,
        LocalInterruptController::Address(LOCAL_APIC),
    );
    for id in 0..vcpus {
        madt.add_structure(ProcessorLocalApic::new(id, id, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(0, IOAPIC, 0));
    madt
}

fn dsdt(vcpus: u8, virtio: usize) -> Sdt {
    let mut dsdt = Sdt::new(*b"DSDT", HEADER, 2, OEM, OEM_TABLE, OEM_REVISION);
    let mut body = Vec::new();
    let zero = ZERO;
    let sleep = Package::new(vec![&ACPI_S5_TYPE, &zero, &zero, &zero]);
    Name::new("_S5_".into(), &sleep).to_aml_bytes(&mut body);

    let mut devices: Vec<Vec<u8>> = Vec::new();
    devices.push(com1());
    devices.extend((0..virtio).map(|n| virtio_mmio(n as u32)));
    devices.extend((0..vcpus).map(processor));
    let scope = Scope::raw("_SB_".into(), devices.concat());
    body.extend_from_slice(&scope);
    dsdt.append_slice(&body);
    dsdt
}

fn bytes(node: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    node.to_aml_bytes(&mut bytes);
    bytes
}

/// The serial port. Interrupts of all devices are exclusive and edge-triggered,
/// active high: an irqfd gives an edge.
fn com1() -> Vec<u8> {
    let ports = IO::new(COM1 as u16, COM1 as u16, 1, COM1_LEN as u8);
    let interrupt = Interrupt::new(true, true, false, false, COM1_GSI);
    bytes(&Device::new(
        "COM1".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0501")),
            &Name::new("_UID".into(), &ZERO),
            &Name::new("_DDN".into(), &"COM1"),
            &Name::new(
                "_CRS".into(),
                &ResourceTemplate::new(vec![&ports, &interrupt]),
            ),
        ],
    ))
}

fn virtio_mmio(n: u32) -> Vec<u8> {
    let base = VIRTIO_MMIO + u64::from(n) * VIRTIO_MMIO_LEN;
    let window = Memory32Fixed::new(true, base as u32, VIRTIO_MMIO_LEN as u32);
    let interrupt = Interrupt::new(true, true, false, false, VIRTIO_GSI + n);
    bytes(&Device::new(
        aml::Path::new(&format!("VR{n:02}")),
        vec![
            &Name::new("_HID".into(), &"LNRO0005"),
            &Name::new("_UID".into(), &n),
            &Name::new("_CCA".into(), &ONE),
            &Name::new(
                "_CRS".into(),
                &ResourceTemplate::new(vec![&window, &interrupt]),
            ),
        ],
    ))
}

fn processor(n: u8) -> Vec<u8> {
    bytes(&Device::new(
        aml::Path::new(&format!("CP{n:02}")),
        vec![
            &Name::new("_HID".into(), &"ACPI0007"),
            &Name::new("_UID".into(), &n),
        ],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::x86_64::layout::MAX_VIRTIO;
    use casemate_proto::fds::MAX_VCPUS;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, &byte| sum.wrapping_add(byte))
    }

    fn table(tables: &[u8], address: u64) -> &[u8] {
        let table = &tables[(address - ACPI) as usize..];
        let len = u32::from_le_bytes(table[4..8].try_into().unwrap());
        &table[..len as usize]
    }

    fn address(bytes: &[u8]) -> u64 {
        u64::from_le_bytes(bytes.try_into().unwrap())
    }

    #[test]
    fn every_table_is_found_and_sums_to_zero() {
        for (vcpus, virtio) in [(1, 0), (4, 3), (MAX_VCPUS as u8, MAX_VIRTIO)] {
            let tables = build(vcpus, virtio);
            assert!(ACPI + tables.len() as u64 <= HIGH_MEMORY);
            assert_eq!(&tables[..8], b"RSD PTR ");
            assert_eq!((sum(&tables[..20]), sum(&tables[..36])), (0, 0));
            let xsdt = table(&tables, address(&tables[24..32]));
            assert_eq!((&xsdt[..4], sum(xsdt)), (&b"XSDT"[..], 0));
            let fadt = table(&tables, address(&xsdt[36..44]));
            assert_eq!((&fadt[..4], sum(fadt)), (&b"FACP"[..], 0));
            let madt = table(&tables, address(&xsdt[44..52]));
            assert_eq!((&madt[..4], sum(madt)), (&b"APIC"[..], 0));
            assert_eq!(madt.len(), 44 + usize::from(vcpus) * 8 + 12);
            let dsdt = table(&tables, address(&fadt[140..148]));
            assert_eq!((&dsdt[..4], sum(dsdt)), (&b"DSDT"[..], 0));
            let named = |name: &[u8]| dsdt.windows(name.len()).filter(|w| *w == name).count();
            assert_eq!(named(b"LNRO0005"), virtio);
            assert_eq!(named(b"ACPI0007"), usize::from(vcpus));
        }
    }
}
