//! Landlock (landlock(7)): no path, no TCP port, no abstract socket and no signal to the
//! outside, whatever the namespaces let through.
//!
//! Everything that the kernel's ABI can forbid is forbidden, with one exception: the VMM's
//! binary itself, by its inode, may be read and executed, since that happens after this
//! step. The VMM has no path to it; it is writable by nobody here, and nothing else can be
//! executed.

use super::{Observation, Step, StepError};
use crate::child::{Jail, Note};
use crate::readback::Seen;
use casemate_proto::cell::Layer;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, PathBeneath,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::BorrowedFd;

/// The step.
pub const STEP: Step = Step {
    name: "landlock",
    layer: Some(Layer::Landlock),
    apply,
};

/// Oldest ABI with which a cell starts: 1 (Linux 5.13) forbids every path. What later ones
/// add (4: TCP ports, 5: device ioctls, 6: abstract sockets and signals) is forbidden where
/// the kernel can, and by the empty namespaces in any case.
pub const MIN_ABI: ABI = ABI::V1;

/// Newest ABI known here.
const MAX_ABI: ABI = ABI::V7;

/// A port that anybody may bind in the cell's own network namespace.
const PORT: u16 = 4096;

const REMEDY: &str = "run a kernel with CONFIG_SECURITY_LANDLOCK, with landlock in its lsm= \
                      list, Landlock ABI 1 (Linux 5.13) or later";

fn apply(jail: &mut Jail<'_>) -> Result<(), StepError> {
    let failed = |e: RulesetError| match e {
        // The hard requirement below: all that MIN_ABI can forbid.
        RulesetError::HandleAccesses(_) => StepError::new(
            "restricting with Landlock",
            "the kernel has none, or it is switched off",
            REMEDY,
        ),
        e => StepError::new("restricting with Landlock", e, REMEDY),
    };
    // SAFETY: the binary's fd stays open until the exec.
    let vmm = unsafe { BorrowedFd::borrow_raw(jail.vmm) };
    let status = restrict(vmm).map_err(failed)?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => Err(StepError::new(
            "restricting with Landlock",
            "the kernel enforces nothing",
            REMEDY,
        )),
        (
            _,
            LandlockStatus::Available {
                effective_abi,
                kernel_abi,
            },
        ) => {
            let abi = kernel_abi.map_or(effective_abi.to_string(), |abi| abi.to_string());
            let probed = probe(effective_abi).map(|tried| format!("ABI {abi}; refused: {tried}"));
            jail.note(&Note::Landlock(probed));
            Ok(())
        }
        _ => Err(StepError::new(
            "restricting with Landlock",
            "the kernel has none",
            REMEDY,
        )),
    }
}

fn restrict(vmm: BorrowedFd<'_>) -> Result<landlock::RestrictionStatus, RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(MIN_ABI))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(MAX_ABI))?
        .handle_access(AccessNet::from_all(MAX_ABI))?
        .scope(Scope::from_all(MAX_ABI))?
        .create()?
        // execve(2) opens the file for reading, too.
        .add_rule(PathBeneath::new(
            vmm,
            AccessFs::Execute | AccessFs::ReadFile,
        ))?
        // That is the layer before's.
        .no_new_privs(false)
        .restrict_self()
}

/// Tries what must not work any more, and returns what that was. `Err` names what worked.
fn probe(abi: ABI) -> Result<&'static str, String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match open("/", flags, Mode::empty()) {
        Err(Errno::ACCESS) => {}
        Err(e) => return Err(format!("opening / was answered with {e}, not with EACCES")),
        Ok(_) => return Err("opening / worked".to_owned()),
    }
    if abi < ABI::V4 {
        return Ok("opening /");
    }
    match TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)) {
        Err(e) if e.raw_os_error() == Some(libc::EACCES) => Ok("opening /, binding a TCP port"),
        Err(e) => Err(format!("binding TCP port {PORT} was answered with {e}")),
        Ok(_) => Err(format!("binding TCP port {PORT} worked")),
    }
}

/// The kernel shows a process' Landlock domain nowhere; so the child tried, between
/// restricting itself and becoming the VMM, what the domain forbids.
pub fn read_back(seen: &Seen<'_>) -> Observation {
    let declared = "no path but the VMM's binary, TCP port, abstract socket or outside signal";
    let observed = match &seen.notes.landlock {
        Some(result) => result.clone(),
        None => Err("not in force".to_owned()),
    };
    Observation::of(declared, observed)
}
