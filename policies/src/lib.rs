//! The shipped policies, compiled to BPF at build time.
//!
//! `policies/vmm/*.toml` say what each class of the VMM's threads may ask of the
//! kernel; `policies/README.md` explains the language. Here are the programs, ready to
//! install:
//!
//! ```no_run
//! use casemate_policies::{Role, ThreadClass, filter};
//! # fn vcpu_thread(fd: i32) -> Result<(), casemate_policies::InstallError> {
//! filter(ThreadClass::Vcpu).bind(Role::Vcpu, fd).install()?;
//! # Ok(())
//! # }
//! ```

mod install;
pub mod report;
mod shipped;

pub use install::{Filter, InstallError};
pub use shipped::{CELL_NAME, JAIL_NAMES, cell, jail, jail_init, jail_source, vmm_source};

use casemate_policy as model;
use libc::sock_filter;
use std::borrow::Cow;
use std::fmt;

/// A class of the VMM's threads: each has a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ThreadClass {
    /// The whole process, until each thread's own filter is on. Installed by the main
    /// thread first, inherited by all; never lifted.
    Setup,
    /// The control thread, from before the guest's first instruction.
    Main,
    /// A vCPU; bind [`Role::Vcpu`].
    Vcpu,
    /// The worker of a disk; bind [`Role::Disk`].
    Block,
    /// The vsock worker.
    Vsock,
    /// The entropy worker.
    Entropy,
}

/// A role of which a thread holds exactly one fd: told by [`Filter::bind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A disk's image.
    Disk,
    /// A vsock stream.
    Stream,
    /// A vCPU.
    Vcpu,
}

/// A policy as the build made it.
struct Shipped {
    program: &'static [sock_filter],
    /// Instructions whose immediate is the number of the thread's own fd.
    holes: &'static [(usize, Role)],
    /// BLAKE3 of the program, in hex.
    digest: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/shipped.rs"));

impl ThreadClass {
    /// Every class.
    pub const ALL: [Self; 6] = [
        Self::Setup,
        Self::Main,
        Self::Vcpu,
        Self::Block,
        Self::Vsock,
        Self::Entropy,
    ];

    /// The policy's name: that of its file in `policies/vmm`, without `.toml`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Main => "main",
            Self::Vcpu => "vcpu",
            Self::Block => "block",
            Self::Vsock => "vsock",
            Self::Entropy => "entropy",
        }
    }

    /// How many filters a thread of this class has once its own is installed
    /// (`Seccomp_filters` in `/proc/PID/task/TID/status`).
    pub fn filters(self) -> u32 {
        match self {
            Self::Setup => 1,
            _ => 2,
        }
    }

    fn shipped(self) -> &'static Shipped {
        match self {
            Self::Setup => &SETUP,
            Self::Main => &MAIN,
            Self::Vcpu => &VCPU,
            Self::Block => &BLOCK,
            Self::Vsock => &VSOCK,
            Self::Entropy => &ENTROPY,
        }
    }
}

impl fmt::Display for ThreadClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disk => "disk",
            Self::Stream => "stream",
            Self::Vcpu => "vcpu",
        })
    }
}

/// The filter of a class, to be bound to the thread's own fds and installed.
pub fn filter(class: ThreadClass) -> Filter {
    Filter::of(class)
}

/// BLAKE3 of the class's program, 64 hex digits: names exactly what is enforced.
pub fn digest(class: ThreadClass) -> &'static str {
    class.shipped().digest
}
