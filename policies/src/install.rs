//! Binding a filter to a thread's own fds, and installing it.

use crate::{Role, ThreadClass};
use casemate_proto::fds;
use libc::{sock_filter, sock_fprog};
use std::io;
use std::ops::Range;

/// A thread class's program, on its way to the kernel.
#[derive(Debug, Clone)]
#[must_use = "a filter confines nothing until it is installed"]
pub struct Filter {
    class: ThreadClass,
    program: Vec<sock_filter>,
    /// Instructions that still wait for the number of an own fd.
    unbound: Vec<(usize, Role)>,
    /// What was wrong with an earlier `bind`.
    fault: Option<InstallError>,
}

/// Why a thread could not be confined. The VMM must end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstallError {
    /// A role that the policy calls the thread's own was not bound.
    #[error("seccomp: policy {class} has no fd for its own {role}: bind it before installing")]
    Unbound {
        /// The policy.
        class: ThreadClass,
        /// The role.
        role: Role,
    },
    /// The policy has no such role left to bind.
    #[error("seccomp: policy {class} has no unbound {role}: it is not its own, or bound twice")]
    NothingToBind {
        /// The policy.
        class: ThreadClass,
        /// The role.
        role: Role,
    },
    /// The fd is not one of the role's.
    #[error("seccomp: fd {fd} is no {role}: the fd table gives {role} {start} to {end}", start = .range.start, end = .range.end - 1)]
    WrongFd {
        /// The role.
        role: Role,
        /// The fd.
        fd: i32,
        /// Where the role's fds are.
        range: Range<i32>,
    },
    /// The thread can still gain privileges by exec.
    #[error("seccomp: no_new_privs is off for policy {class}: start the VMM through the jailer")]
    NoNewPrivsOff {
        /// The policy.
        class: ThreadClass,
    },
    /// The kernel refused the program.
    #[error("seccomp: the kernel refused policy {class}: {}: it needs CONFIG_SECCOMP_FILTER", io::Error::from_raw_os_error(*.errno))]
    Refused {
        /// The policy.
        class: ThreadClass,
        /// Error of seccomp(2).
        errno: i32,
    },
}

impl Filter {
    pub(crate) fn of(class: ThreadClass) -> Self {
        let shipped = class.shipped();
        Self {
            class,
            program: shipped.program.to_vec(),
            unbound: shipped.holes.to_vec(),
            fault: None,
        }
    }

    /// Says which fd is the thread's own of this role. A wrong role or fd is told
    /// by [`Filter::install`].
    pub fn bind(mut self, role: Role, fd: i32) -> Self {
        let range = role.fds();
        let (holes, others): (Vec<_>, _) = self
            .unbound
            .into_iter()
            .partition(|(_, hole)| *hole == role);
        for (index, _) in &holes {
            self.program[*index].k = fd as u32;
        }
        self.unbound = others;
        let class = self.class;
        let fault = match (holes.is_empty(), range.contains(&fd)) {
            (true, _) => Some(InstallError::NothingToBind { class, role }),
            (false, false) => Some(InstallError::WrongFd { role, fd, range }),
            (false, true) => None,
        };
        self.fault = self.fault.or(fault);
        self
    }

    /// Confines the calling thread, and the threads it makes from now on, for ever
    /// (seccomp(2), `SECCOMP_SET_MODE_FILTER`). Other threads stay as they are.
    ///
    /// # Errors
    /// See [`InstallError`]; the thread is not confined then.
    pub fn install(self) -> Result<(), InstallError> {
        let class = self.class;
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if let Some(&(_, role)) = self.unbound.first() {
            return Err(InstallError::Unbound { class, role });
        }
        // SAFETY: PR_GET_NO_NEW_PRIVS takes no pointers; unused arguments must be 0.
        let no_new_privs = unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) };
        if no_new_privs != 1 {
            return Err(InstallError::NoNewPrivsOff { class });
        }
        let program = sock_fprog {
            // The build refuses more than 4096.
            len: self.program.len() as u16,
            filter: self.program.as_ptr().cast_mut(),
        };
        // SAFETY: `program` points to as many instructions as it says; the kernel copies
        // them and writes nothing.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                0,
                &raw const program,
            )
        };
        match answer {
            0 => Ok(()),
            _ => Err(InstallError::Refused {
                class,
                errno: io::Error::last_os_error().raw_os_error().unwrap_or(0),
            }),
        }
    }
}

impl Role {
    /// The fds of this role.
    fn fds(self) -> Range<i32> {
        let of = |base: i32, count: usize| base..base + count as i32;
        match self {
            Self::Disk => of(fds::DISK_BASE, fds::MAX_DISKS),
            Self::Stream => of(fds::STREAM_BASE, fds::MAX_STREAMS),
            Self::Vcpu => of(fds::VCPU_BASE, fds::MAX_VCPUS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter;

    #[test]
    fn an_own_fd_must_be_bound() {
        for (class, role) in [
            (ThreadClass::Vcpu, Role::Vcpu),
            (ThreadClass::Block, Role::Disk),
        ] {
            assert_eq!(
                filter(class).install(),
                Err(InstallError::Unbound { class, role })
            );
        }
    }

    #[test]
    fn only_an_own_role_can_be_bound_and_once() {
        let class = ThreadClass::Entropy;
        let role = Role::Disk;
        let error = InstallError::NothingToBind { class, role };
        assert_eq!(filter(class).bind(role, 16).install(), Err(error));

        let class = ThreadClass::Block;
        let error = InstallError::NothingToBind { class, role };
        let twice = filter(class).bind(role, 16).bind(role, 17);
        assert_eq!(twice.install(), Err(error));
    }

    #[test]
    fn only_an_fd_of_the_role_can_be_bound() {
        for fd in [-1, 7, 15, 24, 32] {
            let error = filter(ThreadClass::Block).bind(Role::Disk, fd).install();
            assert_eq!(
                error,
                Err(InstallError::WrongFd {
                    role: Role::Disk,
                    fd,
                    range: 16..24
                })
            );
        }
    }

    #[test]
    fn every_class_has_a_program_and_its_own_digest() {
        let mut digests: Vec<_> = ThreadClass::ALL.map(crate::digest).to_vec();
        assert!(digests.iter().all(|digest| digest.len() == 64));
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), ThreadClass::ALL.len());
    }
}
