//! Runs a seccomp program on a call that is not made, as the kernel would (bpf(4)).

use seccompiler::sock_filter;

/// `AUDIT_ARCH_X86_64` of `<linux/audit.h>`.
pub const AUDIT_ARCH_X86_64: u32 = 0xC000_003E;
/// `AUDIT_ARCH_I386`: what a call through `int 0x80` says.
pub const AUDIT_ARCH_I386: u32 = 0x4000_0003;

/// `struct seccomp_data` (seccomp(2)) without the instruction pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Syscall number.
    pub number: u32,
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// Arguments.
    pub args: [u64; 6],
}

/// What the kernel does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Does it.
    Allow,
    /// Answers with this errno.
    Errno(u16),
    /// Kills the process.
    KillProcess,
    /// Another action, or a program that the kernel would not take.
    Other,
}

/// What `program` decides on `call`.
pub fn decide(program: &[sock_filter], call: &Call) -> Verdict {
    let mut accumulator = 0u32;
    let mut pc = 0;
    while let Some(instruction) = program.get(pc) {
        pc += 1;
        let k = instruction.k;
        let branch = |taken| {
            usize::from(if taken {
                instruction.jt
            } else {
                instruction.jf
            })
        };
        match instruction.code {
            0x20 => match call.word(k) {
                Some(word) => accumulator = word,
                None => return Verdict::Other,
            },
            0x54 => accumulator &= k,
            0x05 => pc += k as usize,
            0x15 => pc += branch(accumulator == k),
            0x25 => pc += branch(accumulator > k),
            0x35 => pc += branch(accumulator >= k),
            0x45 => pc += branch(accumulator & k != 0),
            0x06 => return Verdict::of(k),
            _ => return Verdict::Other,
        }
    }
    Verdict::Other
}

impl Call {
    /// The 32-bit word at byte `offset` of `struct seccomp_data`.
    fn word(&self, offset: u32) -> Option<u32> {
        match offset {
            0 => Some(self.number),
            4 => Some(self.arch),
            16..64 if offset & 3 == 0 => {
                let arg = self.args[(offset as usize - 16) / 8];
                Some((arg >> (8 * (offset % 8))) as u32)
            }
            _ => None,
        }
    }
}

impl Verdict {
    fn of(answer: u32) -> Self {
        match answer & libc::SECCOMP_RET_ACTION_FULL {
            libc::SECCOMP_RET_ALLOW => Self::Allow,
            libc::SECCOMP_RET_ERRNO => Self::Errno((answer & libc::SECCOMP_RET_DATA) as u16),
            libc::SECCOMP_RET_KILL_PROCESS => Self::KillProcess,
            _ => Self::Other,
        }
    }
}
