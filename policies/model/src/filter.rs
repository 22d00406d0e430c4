//! A seccomp program, ready for the kernel.

use crate::List;
use serde::{Deserialize, Serialize};

/// One BPF instruction: `struct sock_filter` of `<linux/filter.h>`, whose layout it has.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Jump if true, in instructions.
    pub jt: u8,
    /// Jump if false.
    pub jf: u8,
    /// Immediate.
    pub k: u32,
}

/// A whole program (seccomp(2)): 1 to 4096 instructions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Its instructions.
    pub program: List<Instruction>,
}
