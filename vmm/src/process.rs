//! What the process is given and what it gives up: the inherited fds, and Landlock.

use crate::layer_off::left_out;
use casemate_proto::cell::Layer;
use casemate_proto::control::VmConfig;
use casemate_proto::fds;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, Scope,
};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{SockType, getsockopt, sockopt};
use nix::sys::stat::{FileStat, SFlag, fstat, major, minor};
use std::ffi::CStr;
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use thiserror::Error;

/// Device numbers (Linux, admin-guide/devices).
const DEV_NULL: (u64, u64) = (1, 3);
const DEV_KVM: (u64, u64) = (10, 232);
/// Fds from here on are left to the supervisor's read-back.
const LAST_LOOKED_AT: RawFd = fds::EVENT_BASE + 64;

/// What is wrong with the process as it was started.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// An fd is not what its number promises.
    #[error("layer fds: fd {fd} is not {want}: start the VMM through the jailer")]
    WrongFd {
        /// The fd.
        fd: RawFd,
        /// What belongs there.
        want: &'static str,
    },
    /// An fd that nobody promised.
    #[error(
        "layer fds: fd {0} is open and not among the documented: start the VMM through the jailer"
    )]
    Undocumented(RawFd),
    /// The configuration speaks of other fds than there are.
    #[error(
        "layer fds: the configuration asks for {wanted}, and there are {present}: start the VMM through the jailer"
    )]
    Mismatch {
        /// By the configuration.
        wanted: Present,
        /// As found.
        present: Present,
    },
    /// no_new_privs is refused.
    #[error("layer no-new-privs: {0}")]
    NoNewPrivs(nix::errno::Errno),
    /// Landlock failed where it exists.
    #[error("layer landlock: {0}")]
    Landlock(#[from] landlock::RulesetError),
}

/// The fds of a configured VM, each taken over from its fixed number.
pub struct Inherited {
    /// `/dev/kvm`.
    pub kvm: OwnedFd,
    /// The kernel image.
    pub kernel: File,
    /// The initramfs.
    pub initrd: Option<File>,
    /// The console pipe.
    pub console: File,
    /// Disks, in order.
    pub disks: Vec<File>,
    /// vsock streams, in order.
    pub streams: Vec<OwnedFd>,
}

/// What stands at the numbers whose use depends on the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Present {
    initrd: bool,
    disks: usize,
    streams: usize,
}

impl fmt::Display for Present {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let initrd = u8::from(self.initrd);
        let Self { disks, streams, .. } = self;
        write!(f, "{initrd} initramfs, {disks} disks, {streams} streams")
    }
}

/// Checks that every fd that is open is documented, and is what its number says.
/// Called first: later the filter refuses to look at fds.
pub fn check_fds() -> Result<Present, ProcessError> {
    let expect = |fd, want, holds: fn(RawFd, &FileStat) -> bool| match stat(fd) {
        Some(stat) if holds(fd, &stat) => Ok(()),
        _ => Err(ProcessError::WrongFd { fd, want }),
    };
    expect(fds::NULL, "/dev/null", |_, s| is_device(s, DEV_NULL))?;
    for fd in [fds::CONSOLE, fds::LOG] {
        expect(fd, "a non-blocking pipe", |fd, s| {
            is(s, SFlag::S_IFIFO) && is_non_blocking(fd)
        })?;
    }
    expect(fds::CONTROL, "a SOCK_SEQPACKET socket", |fd, _| {
        is_socket(fd, SockType::SeqPacket)
    })?;
    expect(fds::KVM, "/dev/kvm", |_, s| is_device(s, DEV_KVM))?;
    expect(fds::KERNEL, "the kernel image", |_, _| true)?;
    expect_closed(fds::VM..fds::DISK_BASE)?;
    expect_closed(fds::VCPU_BASE..LAST_LOOKED_AT)?;
    let disks = count_open(fds::DISK_BASE..fds::STREAM_BASE)?;
    let streams = count_open(fds::STREAM_BASE..fds::VCPU_BASE)?;
    for fd in (fds::STREAM_BASE..).take(streams) {
        expect(fd, "a SOCK_STREAM socket", |fd, _| {
            is_socket(fd, SockType::Stream)
        })?;
    }
    Ok(Present {
        initrd: stat(fds::INITRD).is_some(),
        disks,
        streams,
    })
}

/// Takes over the fds that `config` speaks of; there must be neither less nor more.
pub fn take_fds(config: &VmConfig, present: Present) -> Result<Inherited, ProcessError> {
    let wanted = Present {
        initrd: config.initrd,
        disks: config.disks.len(),
        streams: config.streams.len(),
    };
    if wanted != present {
        return Err(ProcessError::Mismatch { wanted, present });
    }
    // SAFETY: the fixed numbers are ours from the start (`casemate_proto::fds`),
    // `check_fds` found them open, and they are taken over here, once.
    let take = |fd| unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(Inherited {
        kvm: take(fds::KVM),
        kernel: take(fds::KERNEL).into(),
        initrd: wanted.initrd.then(|| take(fds::INITRD).into()),
        console: take(fds::CONSOLE).into(),
        disks: (fds::DISK_BASE..)
            .take(wanted.disks)
            .map(|fd| take(fd).into())
            .collect(),
        streams: (fds::STREAM_BASE..)
            .take(wanted.streams)
            .map(take)
            .collect(),
    })
}

/// Sets no_new_privs (it should be set already) and denies, through Landlock, all
/// that Landlock can deny: paths, execution included, TCP ports, abstract sockets,
/// signals to others. The jailer has done as much, but for execution, which it
/// needed to start us; it also sees to it that Landlock is there.
pub fn give_up_privileges() -> Result<(), ProcessError> {
    if left_out(Layer::NoNewPrivs) {
        return Ok(());
    }
    nix::sys::prctl::set_no_new_privs().map_err(ProcessError::NoNewPrivs)?;
    let newest = ABI::V6;
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(newest))?
        .handle_access(AccessNet::from_all(newest))?
        .scope(Scope::from_all(newest))?
        .create()?
        .restrict_self()?;
    Ok(())
}

/// Makes all threads allocate from one heap. A heap a thread would cost resident
/// memory, and address space that each filter would have to let grow.
pub fn limit_heaps() {
    // SAFETY: takes two numbers; called before there is a second thread. It cannot
    // fail for this parameter, and nothing depends on it.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Names the calling thread, as `/proc/PID/task/TID/comm` shows it.
pub fn set_thread_name(name: &CStr) {
    // The name is only shown; the kernel cuts what is too long.
    let _ = nix::sys::prctl::set_name(name);
}

fn stat(fd: RawFd) -> Option<FileStat> {
    fstat(borrow(fd)).ok()
}

fn is(stat: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == kind
}

fn is_device(stat: &FileStat, number: (u64, u64)) -> bool {
    is(stat, SFlag::S_IFCHR) && (major(stat.st_rdev), minor(stat.st_rdev)) == number
}

fn is_non_blocking(fd: RawFd) -> bool {
    fcntl(borrow(fd), FcntlArg::F_GETFL)
        .is_ok_and(|flags| OFlag::from_bits_truncate(flags).contains(OFlag::O_NONBLOCK))
}

fn is_socket(fd: RawFd, kind: SockType) -> bool {
    getsockopt(&borrow(fd), sockopt::SockType) == Ok(kind)
}

fn expect_closed(mut range: Range<RawFd>) -> Result<(), ProcessError> {
    let open = range.find(|&fd| stat(fd).is_some() && !left_out(Layer::Fds));
    open.map_or(Ok(()), |fd| Err(ProcessError::Undocumented(fd)))
}

/// How many fds are open at the start of the range; none may be after a gap.
fn count_open(range: Range<RawFd>) -> Result<usize, ProcessError> {
    let open = range.clone().take_while(|&fd| stat(fd).is_some()).count();
    expect_closed(range.start + open as RawFd..range.end)?;
    Ok(open)
}

fn borrow(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: only handed to system calls that answer EBADF where nothing is open.
    unsafe { BorrowedFd::borrow_raw(fd) }
}
