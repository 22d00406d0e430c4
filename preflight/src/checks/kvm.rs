//! `/dev/kvm`: there, permitted, of the right version, with what the VMM uses,
//! and able to run a guest's kernel.

use crate::check::Check;
use crate::full_kvm::{self, Verdict};
use casemate_proto::cell::Layer;
use kvm_ioctls::{Cap, Kvm};
use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::os::fd::IntoRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

const DEVICE: &str = "/dev/kvm";
/// The only version there is (Documentation/virt/kvm/api.rst, KVM_GET_API_VERSION).
const API_VERSION: i32 = 12;

/// What the VMM uses, by the names of the KVM API documentation.
const NEEDED: [(&str, Cap); 9] = [
    ("KVM_CAP_IRQCHIP", Cap::Irqchip),
    ("KVM_CAP_USER_MEMORY", Cap::UserMemory),
    ("KVM_CAP_SET_TSS_ADDR", Cap::SetTssAddr),
    ("KVM_CAP_EXT_CPUID", Cap::ExtCpuid),
    ("KVM_CAP_PIT2", Cap::Pit2),
    ("KVM_CAP_IRQFD", Cap::Irqfd),
    ("KVM_CAP_IOEVENTFD", Cap::Ioeventfd),
    ("KVM_CAP_MP_STATE", Cap::MpState),
    ("KVM_CAP_IMMEDIATE_EXIT", Cap::ImmediateExit),
];

/// The checks, as far as each makes sense after the one before.
pub fn all() -> Vec<Check> {
    let kvm = match open() {
        Ok(kvm) => kvm,
        Err(check) => return vec![*check],
    };
    let mut checks = vec![Check::ok(
        "kvm",
        format!("{DEVICE} is there and may be used"),
        "guests are isolated by the CPU",
    )];
    checks.push(api(&kvm));
    checks.push(capabilities(&kvm));
    checks.push(full(&kvm));
    checks
}

fn open() -> Result<Kvm, Box<Check>> {
    let fail = |found: String, remedy: &str| {
        Box::new(Check::fail("kvm", found, "no guest can run", remedy))
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK)
        .open(DEVICE)
        .map_err(|e| cannot_open(&e))?;
    match file.metadata() {
        Ok(meta) if meta.file_type().is_char_device() => {}
        _ => {
            return Err(fail(
                format!("{DEVICE} is no character device"),
                "remove it and load the kvm modules, udev makes it anew",
            ));
        }
    }
    // SAFETY: the fd is an open character device that we own and hand over.
    Ok(unsafe { <Kvm as std::os::fd::FromRawFd>::from_raw_fd(file.into_raw_fd()) })
}

fn cannot_open(e: &io::Error) -> Box<Check> {
    let (found, remedy) = match e.kind() {
        ErrorKind::NotFound => (
            format!("{DEVICE} is missing"),
            "load kvm-intel or kvm-amd (modprobe); switch virtualisation on in the firmware; \
             in a virtual machine, ask its host for nested virtualisation",
        ),
        ErrorKind::PermissionDenied => (
            format!("{DEVICE} may not be opened"),
            "run as root or as a member of the group kvm; in a container, pass the device in",
        ),
        _ => (
            format!("{DEVICE} cannot be opened ({e})"),
            "load kvm-intel or kvm-amd (modprobe) and look at dmesg",
        ),
    };
    Box::new(Check::fail("kvm", found, "no guest can run", remedy))
}

fn api(kvm: &Kvm) -> Check {
    match kvm.get_api_version() {
        API_VERSION => Check::ok(
            "kvm-api",
            format!("version {API_VERSION}"),
            "is the stable interface of KVM",
        ),
        other => Check::fail(
            "kvm-api",
            format!("version {other} where {API_VERSION} is needed"),
            "no guest can run",
            "check that /dev/kvm is Linux' KVM",
        ),
    }
}

fn capabilities(kvm: &Kvm) -> Check {
    let absent: Vec<&str> = NEEDED
        .iter()
        .filter(|(_, cap)| !kvm.check_extension(*cap))
        .map(|&(name, _)| name)
        .collect();
    if absent.is_empty() {
        Check::ok(
            "kvm-capabilities",
            format!(
                "all {} needed, and up to {} vCPUs a guest",
                NEEDED.len(),
                kvm.get_max_vcpus()
            ),
            "the VMM has what it needs of KVM",
        )
    } else {
        Check::fail(
            "kvm-capabilities",
            format!("{} missing", absent.join(", ")),
            "the VMM cannot build a guest",
            "run a kernel with a complete KVM",
        )
    }
}

fn full(kvm: &Kvm) -> Check {
    let name = "full-kvm";
    let consequence = "this KVM cannot run a guest kernel";
    let found = match full_kvm::probe(kvm) {
        Verdict::Full { instructions } => {
            return Check::ok(
                name,
                format!("ran {}", instructions.join(", ")),
                "KVM can run a guest kernel",
            );
        }
        Verdict::Stopped { at, how } => {
            format!("{DEVICE} is there, but KVM_RUN of `{at}` in ring 0 ended in {how}")
        }
        Verdict::Hung { limit } => format!(
            "{DEVICE} is there, but a dozen guest instructions did not end within {} ms",
            limit.as_millis()
        ),
        Verdict::Unbuilt { what } => format!("{DEVICE} is there, but {what}"),
    };
    Check::fail(
        name,
        found,
        consequence,
        "use a machine with hardware or fully nested virtualisation \
         (to develop Casemate, `cargo xtask testbed -- CMD` gives one)",
    )
    .missing([Layer::FullKvm])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_or_forbidden_device_has_its_own_words() {
        let words = |errno| cannot_open(&io::Error::from_raw_os_error(errno)).to_string();
        assert!(words(libc::ENOENT).contains("is missing"));
        assert!(words(libc::EACCES).contains("group kvm"));
        assert!(words(libc::EIO).contains("cannot be opened"));
    }
}
