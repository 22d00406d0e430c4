//! Opens every file of a run and makes the jailer's `Launch` of them. What is
//! opened here is all the VMM ever gets.

use super::kernel::Kernel;
use super::rootfs::Root;
use super::session::Wires;
use super::validate::Plan;
use super::{cmdline, limits};
use crate::binaries::Binaries;
use casemate_jailer::client::Attached;
use casemate_proto::agent::{PORT_CONTROL, PORT_STDERR, PORT_STDIN, PORT_STDOUT};
use casemate_proto::cell::{FdRole, Launch};
use casemate_proto::control::{DiskConfig, StreamConfig, VmConfig};
use casemate_proto::size::MIB;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use thiserror::Error;

/// Why a run cannot be put together.
#[derive(Debug, Error)]
pub enum AssembleError {
    /// A file of ours cannot be opened.
    #[error("{path}: {source}; {remedy}")]
    Open {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// No socket or pipe can be had.
    #[error("no {what} can be had: {source}; raise the limit on open files (ulimit -n)")]
    Descriptor {
        /// "socket" or "pipe".
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The guest is too small for its kernel.
    #[error(
        "--memory {memory_mib}M is too little for the kernel {kernel}, which needs {need_mib} MiB: \
         give --memory {need_mib}M or more"
    )]
    LittleMemory {
        /// Which kernel.
        kernel: String,
        /// Asked for, in MiB.
        memory_mib: u32,
        /// Needed, in MiB.
        need_mib: u64,
    },
}

/// A run, ready to be launched.
#[derive(Debug)]
pub struct Assembly {
    /// The message.
    pub launch: Launch,
    /// The fds that go with it.
    pub attached: Attached,
    /// Our ends.
    pub wires: Wires,
}

/// Beside kernel and initramfs, in bytes: the kernel's own first allocations.
const BOOT_ROOM: u64 = 4 * MIB;

/// Whether the guest's memory holds a kernel that takes `needs` bytes, and an
/// initramfs. That is there twice while the kernel unpacks it.
pub fn check_memory(
    plan: &Plan,
    kernel: &str,
    needs: u64,
    initrd_len: u64,
) -> Result<(), AssembleError> {
    let need = needs
        .saturating_add(2 * initrd_len)
        .saturating_add(BOOT_ROOM);
    if need > u64::from(plan.memory_mib) * MIB {
        return Err(AssembleError::LittleMemory {
            kernel: kernel.to_owned(),
            memory_mib: plan.memory_mib,
            need_mib: need.div_ceil(MIB),
        });
    }
    Ok(())
}

/// Puts it together.
pub fn assemble(
    plan: &Plan,
    kernel: Kernel,
    root: Root,
    binaries: &Binaries,
    run_dir: &Path,
    verbose: bool,
) -> Result<Assembly, AssembleError> {
    let mut attached = Attached::new();
    attached.push(FdRole::Vmm, open_vmm(&binaries.vmm)?);
    attached.push(FdRole::Kvm, open_kvm()?);
    attached.push(FdRole::Kernel, kernel.file);
    attached.push(FdRole::Initrd, kernel.initrd);
    let mut disks = Vec::new();
    if let Some(image) = root.image {
        attached.push(FdRole::Disk(0), image);
        disks.push(DiskConfig {
            read_only: true,
            serial: "root".to_owned(),
        });
    }
    let mut streams = Vec::new();
    let mut stream = |port| {
        let (near, far) = UnixStream::pair().map_err(descriptor("socket"))?;
        attached.push(FdRole::Stream(streams.len() as u8), OwnedFd::from(far));
        streams.push(StreamConfig { port });
        Ok::<_, AssembleError>(near)
    };
    let control = stream(PORT_CONTROL)?;
    let stdin = stream(PORT_STDIN)?;
    let stdout = stream(PORT_STDOUT)?;
    let stderr = match plan.tty {
        true => None,
        false => Some(stream(PORT_STDERR)?),
    };
    let (console, far) = text_pipe()?;
    attached.push(FdRole::Console, far);
    let (log, far) = text_pipe()?;
    attached.push(FdRole::Log, far);
    let vm = VmConfig {
        vcpus: plan.vcpus,
        memory_mib: plan.memory_mib,
        cmdline: cmdline::compose(root.format, verbose, plan.cmdline_append.as_deref()),
        initrd: true,
        disks,
        streams,
        entropy: true,
    };
    Ok(Assembly {
        launch: Launch {
            tenant: plan.tenant.clone(),
            id: plan.id.clone(),
            run_dir: run_dir.to_owned(),
            audit: None,
            limits: limits::of(&vm),
            vm,
            timeout_ms: plan.timeout.map(|t| t.as_millis() as u64),
            allow_missing: plan.allow_missing.clone(),
            leave_out: plan.leave_out.clone(),
            roles: attached.roles().to_vec(),
        },
        attached,
        wires: Wires {
            control,
            stdin,
            stdout,
            stderr,
            console,
            log,
        },
    })
}

fn open_vmm(path: &Path) -> Result<File, AssembleError> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_CLOEXEC)
        .open(path)
        .map_err(|source| AssembleError::Open {
            path: path.display().to_string(),
            source,
            remedy: "install casemate-vmm beside casemate",
        })
}

fn open_kvm() -> Result<File, AssembleError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_CLOEXEC)
        .open("/dev/kvm")
        .map_err(|source| AssembleError::Open {
            path: "/dev/kvm".to_owned(),
            source,
            remedy: "see `casemate doctor`",
        })
}

/// A pipe that its writer never waits on: a guest that floods loses text, not time.
fn text_pipe() -> Result<(File, OwnedFd), AssembleError> {
    let failed = |e: nix::Error| descriptor("pipe")(e.into());
    let (near, far) = pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
    fcntl(&far, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(failed)?;
    Ok((near.into(), far))
}

fn descriptor(what: &'static str) -> impl Fn(io::Error) -> AssembleError {
    move |source| AssembleError::Descriptor { what, source }
}
