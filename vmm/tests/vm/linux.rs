//! The VMM alone with real kernels: stock Debian ones and the lean one, as ELF and
//! as bzImage. Runs in the test-bed where this machine's KVM cannot run Linux.

use crate::bare::Setup;
use casemate_proto::control::Ended;
use casemate_testbed::{Cache, DebianKernel, LeanKernel, Series, Way, in_kvm_host};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

const ARGUMENTS: &str = "console=ttyS0 quiet pci=off i8042.noaux i8042.nomux i8042.dumbkbd \
     8250.nr_uarts=1 reboot=k panic=1 tsc=reliable";

/// The guest's init: says what it sees, then resets.
const INIT: &str = r#"#!/bin/sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
memory=$(/bin/busybox awk '/MemTotal/ { print $2 }' /proc/meminfo)
devices=$(/bin/busybox ls /sys/bus/acpi/devices | /bin/busybox grep -c LNRO0005)
disk=$(/bin/busybox cat /sys/block/vda/size 2>/dev/null)
problems=$(/bin/busybox dmesg | /bin/busybox grep -cE 'ACPI (Error|BIOS Error)|Call Trace|BUG:|WARNING:')
clock=$(/bin/busybox cat /sys/devices/system/clocksource/clocksource0/current_clocksource)
echo "seen: cpus=$(/bin/busybox nproc) memory=$memory devices=$devices disk=$disk problems=$problems clock=$clock"
/bin/busybox reboot -f
"#;

/// Which image of which kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kernel {
    LeanElf,
    LeanBzImage,
    Debian(Series),
}

impl Kernel {
    fn image(self) -> PathBuf {
        let in_bed = Way::detect() == Way::InsideBed;
        let cache = || Cache::open().unwrap();
        match self {
            Self::LeanElf | Self::LeanBzImage if in_bed => {
                let name = if self == Self::LeanElf {
                    "vmlinux"
                } else {
                    "bzImage"
                };
                Path::new("/casemate/kernels/lean").join(name)
            }
            Self::LeanElf => LeanKernel::get(&cache()).unwrap().vmlinux,
            Self::LeanBzImage => LeanKernel::get(&cache()).unwrap().bzimage,
            Self::Debian(series) if in_bed => {
                let folder = format!("/casemate/kernels/debian-{}/boot", series.name());
                vmlinuz(Path::new(&folder))
            }
            Self::Debian(series) => {
                let kernel = DebianKernel::get(&cache(), series).unwrap();
                vmlinuz(&kernel.root.join("boot"))
            }
        }
    }
}

fn vmlinuz(folder: &Path) -> PathBuf {
    let mut names = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let is_kernel = |path: &PathBuf| {
        path.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("vmlinuz")
    };
    names.find(is_kernel).unwrap()
}

/// Boots a kernel to the init and checks what that saw.
fn boot(kernel: Kernel, vcpus: u8, memory_mib: u32) {
    let mut initrd = tempfile::tempfile().unwrap();
    initrd
        .write_all(&crate::initramfs::with_init(INIT))
        .unwrap();
    let disk = tempfile::tempfile().unwrap();
    disk.set_len(3 << 20).unwrap();
    let mut setup = Setup::new(&kernel.image(), ARGUMENTS, memory_mib)
        .initrd(initrd)
        .disk(disk, false);
    setup.config.vcpus = vcpus;
    setup.config.entropy = true;

    let start = Instant::now();
    let mut vmm = setup.run();
    let seen = vmm.console_until("seen: ");
    let line = seen.lines().find(|line| line.contains("seen: ")).unwrap();
    println!(
        "{kernel:?}, {vcpus} vCPUs, {memory_mib} MiB: {line} after {:?}",
        start.elapsed()
    );
    assert_eq!(vmm.ended(), Ended::Reset);

    let value = |name: &str| {
        let field = line
            .split(' ')
            .find_map(|f| f.strip_prefix(name)?.strip_prefix('='));
        field.unwrap_or_default().trim().to_owned()
    };
    assert_eq!(value("cpus"), vcpus.to_string());
    let seen_kib: u64 = value("memory").parse().unwrap();
    let given_kib = u64::from(memory_mib) << 10;
    // The kernel keeps its own image, tables and a sixteenth at most for itself.
    let least = (given_kib - given_kib / 16).saturating_sub(48 << 10);
    assert!((least..given_kib).contains(&seen_kib), "{seen_kib}");
    assert_eq!(value("devices"), "2");
    assert_eq!(value("problems"), "0", "{seen}");
    // Stock kernels have the drivers as modules, which this initramfs does not load.
    if matches!(kernel, Kernel::LeanElf | Kernel::LeanBzImage) {
        assert_eq!(value("disk"), "6144");
    }
}

#[test]
fn the_lean_kernel_boots() {
    in_kvm_host("linux::the_lean_kernel_boots", &[], || {
        boot(Kernel::LeanElf, 1, 128);
        boot(Kernel::LeanElf, 2, 2 << 10);
        boot(Kernel::LeanElf, 4, 5 << 10);
        boot(Kernel::LeanBzImage, 4, 128);
        boot(Kernel::LeanBzImage, 1, 5 << 10);
    });
}

#[test]
fn debian_6_1_boots() {
    in_kvm_host("linux::debian_6_1_boots", &[], || {
        boot(Kernel::Debian(Series::V6_1), 1, 128);
        boot(Kernel::Debian(Series::V6_1), 4, 2 << 10);
        boot(Kernel::Debian(Series::V6_1), 2, 5 << 10);
    });
}

#[test]
fn debian_6_12_boots() {
    in_kvm_host("linux::debian_6_12_boots", &[], || {
        boot(Kernel::Debian(Series::V6_12), 1, 128);
        boot(Kernel::Debian(Series::V6_12), 4, 2 << 10);
        boot(Kernel::Debian(Series::V6_12), 2, 5 << 10);
    });
}
