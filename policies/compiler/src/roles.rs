//! The roles of the VMM's fds (`casemate_proto::fds`), by name.

use crate::condition::Test;
use casemate_proto::fds;

/// What an fd is for. The fd table gives each role its number or range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// `/dev/null`.
    Null,
    /// The guest's console pipe.
    Console,
    /// The VMM's log pipe.
    Log,
    /// The control socket.
    Control,
    /// `/dev/kvm`.
    Kvm,
    /// The kernel image.
    Kernel,
    /// The initramfs.
    Initrd,
    /// The VM.
    Vm,
    /// Disks.
    Disk,
    /// Vsock streams.
    Stream,
    /// vCPUs.
    Vcpu,
    /// The VMM's eventfds, epolls and timerfds.
    Event,
}

impl Role {
    /// Every role, in the order of their numbers.
    pub const ALL: [Self; 12] = [
        Self::Null,
        Self::Console,
        Self::Log,
        Self::Control,
        Self::Kvm,
        Self::Kernel,
        Self::Initrd,
        Self::Vm,
        Self::Disk,
        Self::Stream,
        Self::Vcpu,
        Self::Event,
    ];

    /// The name used in policies.
    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Console => "console",
            Self::Log => "log",
            Self::Control => "control",
            Self::Kvm => "kvm",
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::Vm => "vm",
            Self::Disk => "disk",
            Self::Stream => "stream",
            Self::Vcpu => "vcpu",
            Self::Event => "event",
        }
    }

    /// The role of this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// The names of all roles, for messages.
    pub(crate) fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// Whether a thread can hold exactly one fd of this role, told when it starts.
    pub fn can_be_own(self) -> bool {
        matches!(self, Self::Disk | Self::Stream | Self::Vcpu)
    }

    /// The test that any fd of this role passes, and no other.
    pub(crate) fn test(self) -> Test {
        let one = |fd: i32| Test::Equals(fd as u64);
        let range = |base: i32, count: usize| Test::Range {
            from: base as u64,
            to: base as u64 + count as u64 - 1,
        };
        match self {
            Self::Null => one(fds::NULL),
            Self::Console => one(fds::CONSOLE),
            Self::Log => one(fds::LOG),
            Self::Control => one(fds::CONTROL),
            Self::Kvm => one(fds::KVM),
            Self::Kernel => one(fds::KERNEL),
            Self::Initrd => one(fds::INITRD),
            Self::Vm => one(fds::VM),
            Self::Disk => range(fds::DISK_BASE, fds::MAX_DISKS),
            Self::Stream => range(fds::STREAM_BASE, fds::MAX_STREAMS),
            Self::Vcpu => range(fds::VCPU_BASE, fds::MAX_VCPUS),
            Self::Event => Test::Range {
                from: fds::EVENT_BASE as u64,
                to: i32::MAX as u64,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_again() {
        for role in Role::ALL {
            assert_eq!(Role::find(role.name()), Some(role));
        }
        assert_eq!(Role::find("vcpus"), None);
    }
}
