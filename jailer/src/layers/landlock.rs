//! Landlock (landlock(7)): no path but the policy's mounts, no TCP port but the policy's, and
//! as the policy says no abstract socket and no signal to the outside, whatever the mounts
//! and namespaces let through.
//!
//! Everything that the kernel's ABI can forbid is forbidden, but what the mounts are for. A
//! VMM has none; its binary itself, by its inode, may be read and executed, since that
//! happens after this step. The VMM has no path to it; it is writable by nobody here, and
//! nothing else can be executed.

use super::{AT_START, LAST, Observation, Step, StepError, dev, root};
use crate::child::{Jail, Note};
use crate::plan::Plan;
use crate::readback::Seen;
use casemate_policy::{Mount, MountKind, Proc};
use casemate_proto::cell::Layer;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort,
    PathBeneath, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope,
};
use rustix::fs::{Mode, OFlags, fstat, open, openat};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{BorrowedFd, OwnedFd};
use thiserror::Error;

/// The step.
pub const STEP: Step = Step {
    name: "landlock",
    who: LAST,
    layer: Some(Layer::Landlock),
    apply,
};

/// Newest ABI known here.
const MAX_ABI: ABI = ABI::V7;

/// First port that is tried; anybody may bind it in the cell's own network namespace.
const PORT: u16 = 4096;

const REMEDY: &str = "run a kernel with CONFIG_SECURITY_LANDLOCK, with landlock in its lsm= \
                      list, of the Landlock ABI that the policy asks for (1: Linux 5.13)";

fn apply(jail: &mut Jail<'_>) -> Result<(), StepError> {
    let failed = |e: RulesetError| match e {
        // The hard requirement below: all that the policy's least ABI can forbid.
        RulesetError::HandleAccesses(_) => StepError::new(
            "restricting with Landlock",
            "the kernel has none that is new enough, or it is switched off",
            REMEDY,
        ),
        e => StepError::new("restricting with Landlock", e, REMEDY),
    };
    let forbidden = jail.forbidden.take();
    let status = restrict(jail).map_err(|e| match e {
        Unruled::Ruleset(e) => failed(e),
        e @ Unruled::Path { .. } => StepError::new(
            "restricting with Landlock",
            e,
            "raise ulimit -n, and see that the path stays as it is during the start",
        ),
    })?;
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
            let probed = probe(forbidden.as_ref(), effective_abi, jail.plan)
                .map(|tried| format!("ABI {abi}; refused: {tried}"));
            jail.note(Note::Landlock(probed));
            Ok(())
        }
        _ => Err(StepError::new(
            "restricting with Landlock",
            "the kernel has none",
            REMEDY,
        )),
    }
}

/// Why there is no ruleset. A rule that is silently left out would deny what the policy
/// allows, which is safe and looks like the program's own fault.
#[derive(Debug, Error)]
enum Unruled {
    #[error(transparent)]
    Ruleset(#[from] RulesetError),
    #[error("looking at {path}: {source}")]
    Path { path: String, source: Errno },
}

fn restrict(jail: &Jail<'_>) -> Result<landlock::RestrictionStatus, Unruled> {
    let policy = &jail.plan.policy.landlock;
    let least = ABI::from(policy.min_abi as i32);
    let files = |abi| match policy.ioctl_dev {
        true => AccessFs::from_all(abi) & !BitFlags::from(AccessFs::IoctlDev),
        false => AccessFs::from_all(abi),
    };
    let ports = |abi| match policy.connect_any {
        true => AccessNet::from_all(abi) & !BitFlags::from(AccessNet::ConnectTcp),
        false => AccessNet::from_all(abi),
    };
    let mut scopes = BitFlags::EMPTY;
    if policy.scope_abstract_socket {
        scopes |= Scope::AbstractUnixSocket;
    }
    if policy.scope_signal {
        scopes |= Scope::Signal;
    }
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(files(least))?;
    if least >= ABI::V4 {
        ruleset = ruleset.handle_access(ports(least))?;
    }
    if least >= ABI::V6 && !scopes.is_empty() {
        ruleset = ruleset.scope(scopes)?;
    }
    ruleset = ruleset
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(files(MAX_ABI))?
        .handle_access(ports(MAX_ABI))?;
    if !scopes.is_empty() {
        ruleset = ruleset.scope(scopes)?;
    }
    let mut created = ruleset.create()?;
    if let Some(binary) = jail.binary {
        // SAFETY: the binary's fd stays open until the exec.
        let binary = unsafe { BorrowedFd::borrow_raw(binary) };
        // execve(2) opens the file for reading, too.
        created = created.add_rule(PathBeneath::new(
            binary,
            AccessFs::Execute | AccessFs::ReadFile,
        ))?;
    } else {
        created = add_paths(created, jail.plan, &jail.absent)?;
        created = add_ports(created, jail.plan)?;
    }
    // That is the layer before's.
    Ok(created.no_new_privs(false).restrict_self()?)
}

/// What a mount is for, and `/` itself to be listed.
fn add_paths(
    mut created: RulesetCreated,
    plan: &Plan,
    absent: &BTreeSet<usize>,
) -> Result<RulesetCreated, Unruled> {
    let filesystem = &plan.policy.filesystem;
    let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    created = allow(created, "/", AccessFs::ReadDir.into())?;
    for (at, mount) in filesystem.mounts.iter().enumerate() {
        if !absent.contains(&at) {
            created = allow(created, &mount.jail, rights(mount))?;
        }
    }
    if filesystem.dev {
        created = allow(created, dev::PATH, read | AccessFs::WriteFile)?;
    }
    if filesystem.proc == Proc::Pids {
        created = allow(created, root::PROC, read)?;
    }
    Ok(created)
}

fn rights(mount: &Mount) -> BitFlags<AccessFs> {
    let all = AccessFs::from_all(MAX_ABI)
        & !(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev);
    match mount.kind {
        MountKind::Ro => AccessFs::from_read(MAX_ABI),
        MountKind::Rw | MountKind::Tmpfs { .. } => all & !BitFlags::from(AccessFs::Execute),
        MountKind::RwExec => all,
    }
}

fn allow(
    created: RulesetCreated,
    path: &str,
    mut rights: BitFlags<AccessFs>,
) -> Result<RulesetCreated, Unruled> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let unruled = |source| Unruled::Path {
        path: path.to_owned(),
        source,
    };
    let fd = match open(path, flags, Mode::empty()) {
        Ok(fd) => fd,
        // What is not there needs no rule: nothing more is allowed without it.
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(created),
        Err(e) => return Err(unruled(e)),
    };
    if fstat(&fd).map_err(unruled)?.st_mode & libc::S_IFMT != libc::S_IFDIR {
        rights &= AccessFs::from_file(MAX_ABI);
    }
    Ok(created.add_rule(PathBeneath::new(fd, rights))?)
}

fn add_ports(mut created: RulesetCreated, plan: &Plan) -> Result<RulesetCreated, RulesetError> {
    let policy = &plan.policy.landlock;
    for &port in policy.bind_tcp.iter() {
        created = created.add_rule(NetPort::new(port, AccessNet::BindTcp))?;
    }
    if !policy.connect_any {
        for &port in policy.connect_tcp.iter() {
            created = created.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
        }
    }
    Ok(created)
}

/// Tries what must not work any more, and returns what that was. `Err` names what worked.
///
/// `forbidden` is a directory that is nowhere mounted: nothing but Landlock forbids it.
fn probe(forbidden: Option<&OwnedFd>, abi: ABI, plan: &Plan) -> Result<String, String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let (opened, what) = match forbidden {
        None => (open("/", flags, Mode::empty()), "opening /"),
        Some(forbidden) => (
            openat(forbidden, ".", flags, Mode::empty()),
            "opening a directory of no mount by its fd",
        ),
    };
    match opened {
        Err(Errno::ACCESS) => {}
        Err(e) => return Err(format!("{what} was answered with {e}, not with EACCES")),
        Ok(_) => return Err(format!("{what} worked")),
    }
    if abi < ABI::V4 {
        return Ok(what.to_owned());
    }
    let taken = &plan.policy.landlock.bind_tcp;
    let Some(port) = (PORT..).find(|port| !taken.contains(port)) else {
        return Ok(what.to_owned());
    };
    match TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)) {
        Err(e) if e.raw_os_error() == Some(libc::EACCES) => {
            Ok(format!("{what}, binding TCP port {port}"))
        }
        Err(e) => Err(format!("binding TCP port {port} was answered with {e}")),
        Ok(_) => Err(format!("binding TCP port {port} worked")),
    }
}

/// The kernel shows a process' Landlock domain nowhere; so the child tried, between
/// restricting itself and becoming the VMM, what the domain forbids.
pub fn read_back(seen: &Seen<'_>) -> Observation {
    let declared = match seen.plan.vm() {
        Some(_) => "no path but the VMM's binary, TCP port, abstract socket or outside signal",
        None => "no path but the mounts', no TCP port but the policy's",
    };
    let observed = match &seen.notes.landlock {
        Some(result) => result.clone(),
        None if seen.held_at_start(Layer::Landlock) => Ok(AT_START.to_owned()),
        None => Err("not in force".to_owned()),
    };
    Observation::of(declared, observed)
}
