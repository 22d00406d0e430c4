//! Instructions (`<linux/bpf_common.h>`), laid out so that every jump goes forward.

use super::{Hole, Leaf, OWN_FD};
use crate::condition::{Condition, Test};
use crate::policy::Rule;
use crate::roles::Role;
use crate::simulate::AUDIT_ARCH_X86_64;
use seccompiler::sock_filter;

/// `BPF_LD | BPF_W | BPF_ABS`.
const LOAD: u16 = 0x20;
/// `BPF_ALU | BPF_AND | BPF_K`.
const AND: u16 = 0x54;
/// `BPF_JMP | BPF_JA`.
const JUMP: u16 = 0x05;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
const IF_EQUAL: u16 = 0x15;
/// `BPF_JMP | BPF_JGT | BPF_K`.
const IF_GREATER: u16 = 0x25;
/// `BPF_JMP | BPF_JGE | BPF_K`.
const IF_AT_LEAST: u16 = 0x35;
/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data` (seccomp(2)).
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// What is done with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    Errno(u16),
    Kill,
}

impl Verdict {
    fn value(self) -> u32 {
        match self {
            Self::Allow => libc::SECCOMP_RET_ALLOW,
            Self::Errno(number) => libc::SECCOMP_RET_ERRNO | u32::from(number),
            Self::Kill => libc::SECCOMP_RET_KILL_PROCESS,
        }
    }
}

/// A program in the making.
#[derive(Debug, Default)]
pub struct Code {
    program: Vec<sock_filter>,
    holes: Vec<Hole>,
}

/// Comparisons of one word, all of which must hold, or the rule does not match.
#[derive(Debug, Clone, Copy)]
enum Check {
    Equal(u32),
    AtLeast(u32),
    AtMost(u32),
}

impl Code {
    pub fn len(&self) -> usize {
        self.program.len()
    }

    pub fn finish(self) -> (Vec<sock_filter>, Vec<Hole>) {
        (self.program, self.holes)
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> usize {
        self.program.push(sock_filter { code, jt, jf, k });
        self.program.len() - 1
    }

    fn answer(&mut self, verdict: Verdict) {
        self.push(RETURN, 0, 0, verdict.value());
    }

    /// Kills calls of any other architecture, and loads the number.
    pub fn architecture(&mut self) {
        self.push(LOAD, 0, 0, ARCHITECTURE);
        self.push(IF_EQUAL, 1, 0, AUDIT_ARCH_X86_64);
        self.answer(Verdict::Kill);
        self.push(LOAD, 0, 0, NUMBER);
    }

    /// Finds the range in which the loaded number lies, and decides there.
    pub fn search(&mut self, ranges: &[(u32, Leaf<'_>)]) {
        if let [(_, leaf)] = ranges {
            match *leaf {
                Leaf::Always(verdict) => self.answer(verdict),
                Leaf::Rules(rules) => self.rules(rules),
            }
            return;
        }
        let (low, high) = ranges.split_at(ranges.len() / 2);
        self.push(IF_AT_LEAST, 0, 1, high[0].0);
        // A jump of 32 bits: the lower half may be long.
        let jump = self.push(JUMP, 0, 0, 0);
        self.search(low);
        self.program[jump].k = (self.program.len() - jump - 1) as u32;
        self.search(high);
    }

    /// Decides by the first rule that matches.
    fn rules(&mut self, rules: &[&Rule]) {
        for rule in rules {
            let mut misses = Vec::new();
            for condition in &rule.conditions {
                self.condition(condition, &mut misses);
            }
            self.answer(rule.action.into());
            // To the next rule.
            for at in misses {
                let skip = (self.program.len() - at - 1) as u8;
                let instruction = &mut self.program[at];
                match instruction.code {
                    IF_GREATER => instruction.jt = skip,
                    _ => instruction.jf = skip,
                }
            }
            if rule.conditions.is_empty() {
                return;
            }
        }
        self.answer(Verdict::Kill);
    }

    /// Goes on where the condition holds; `misses` are the jumps of where it does not.
    fn condition(&mut self, condition: &Condition, misses: &mut Vec<usize>) {
        let low = ARGUMENTS + 8 * u32::from(condition.arg);
        let words = |value: u64| (value as u32, (value >> 32) as u32);
        match condition.test {
            Test::Equals(value) => {
                let (least, most) = words(value);
                self.word(low, None, &[Check::Equal(least)], misses);
                if condition.wide {
                    self.word(low + 4, None, &[Check::Equal(most)], misses);
                }
            }
            Test::Masked { mask, value } => {
                let (mask_low, mask_high) = words(mask);
                let (least, most) = words(value);
                self.word(low, Some(mask_low), &[Check::Equal(least)], misses);
                if condition.wide {
                    self.word(low + 4, Some(mask_high), &[Check::Equal(most)], misses);
                }
            }
            // Ranges are of fds, which have 32 bits.
            Test::Range { from, to } => {
                debug_assert!(!condition.wide && to <= u64::from(u32::MAX));
                let checks = [Check::AtLeast(from as u32), Check::AtMost(to as u32)];
                self.word(low, None, &checks, misses);
            }
            Test::Own(role) => {
                self.word(low, None, &[Check::Equal(own_fd(role))], misses);
                let index = self.program.len() - 1;
                self.holes.push(Hole { index, role });
            }
        }
    }

    fn word(&mut self, offset: u32, mask: Option<u32>, checks: &[Check], misses: &mut Vec<usize>) {
        self.push(LOAD, 0, 0, offset);
        if let Some(mask) = mask {
            self.push(AND, 0, 0, mask);
        }
        for check in checks {
            misses.push(match *check {
                Check::Equal(value) => self.push(IF_EQUAL, 0, 0, value),
                Check::AtLeast(value) => self.push(IF_AT_LEAST, 0, 0, value),
                Check::AtMost(value) => self.push(IF_GREATER, 0, 0, value),
            });
        }
    }
}

fn own_fd(role: Role) -> u32 {
    OWN_FD + role as u32
}
