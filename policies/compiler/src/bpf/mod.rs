//! From rules to one BPF program (seccomp(2), bpf(4)).
//!
//! ```text
//! architecture ─> number, by halves ─┬─> allow, errno or kill, where no rule looks further
//!                                    └─> the rules of one syscall, in turn ─> kill
//! ```
//! The search by halves keeps both the program and the way through it short: the kernel
//! runs it once for every syscall when it is installed, and a start must not wait for that.

mod code;
#[cfg(test)]
mod reference;

use crate::policy::{Action, Rule};
use crate::roles::Role;
use crate::source::Problem;
use code::{Code, Verdict};
use seccompiler::sock_filter;
use std::collections::BTreeMap;

/// Most instructions the kernel takes (`BPF_MAXINSNS`).
const MAX_INSTRUCTIONS: usize = 4096;
/// Stands, plus the role, where an own fd's number goes when the filter is
/// installed. No fd has such a number: left in place, the rule matches nothing.
const OWN_FD: u32 = 0xCA5E_0000;

/// An instruction whose immediate is to become the number of the thread's own fd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// Index of the instruction.
    pub index: usize,
    /// The role of the fd.
    pub role: Role,
}

/// What is decided about a range of syscall numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaf<'a> {
    /// The same for every call.
    Always(Verdict),
    /// What the first of these rules says that matches; death where none does.
    Rules(&'a [&'a Rule]),
}

/// Makes the program. Of the rules of a syscall those that kill come first, then those that
/// answer with an errno, then those that allow; where none matches, and on any other
/// architecture, the process is killed. So it is for x32: its numbers are above all others.
pub(crate) fn assemble(rules: &[Rule]) -> Result<(Vec<sock_filter>, Vec<Hole>), Problem> {
    let mut calls: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
    for rule in rules {
        calls.entry(rule.call.number as u32).or_default().push(rule);
    }
    for rules in calls.values_mut() {
        rules.sort_by_key(|rule| match rule.action {
            Action::Kill => (0, 0),
            Action::Errno(number) => (1, number),
            Action::Allow => (2, 0),
        });
    }
    let mut code = Code::default();
    code.architecture();
    code.search(&ranges(&calls));
    if code.len() > MAX_INSTRUCTIONS {
        return Err(Problem::TooLong(code.len()));
    }
    Ok(code.finish())
}

/// The ranges of numbers that have one answer: their first numbers, from 0 on.
fn ranges<'a>(calls: &'a BTreeMap<u32, Vec<&'a Rule>>) -> Vec<(u32, Leaf<'a>)> {
    let dead = Leaf::Always(Verdict::Kill);
    let mut ranges: Vec<(u32, Leaf<'a>)> = vec![(0, dead)];
    let mut begin = |first: u32, leaf: Leaf<'a>| {
        match ranges.last_mut() {
            Some((last, replaced)) if *last == first => *replaced = leaf,
            _ => ranges.push((first, leaf)),
        }
        // One answer, one range.
        if let [.., (_, before), (_, after)] = ranges.as_slice()
            && before == after
            && matches!(before, Leaf::Always(_))
        {
            ranges.pop();
        }
    };
    for (&number, rules) in calls {
        let first = rules.first().filter(|rule| rule.conditions.is_empty());
        let leaf = match first {
            Some(rule) => Leaf::Always(rule.action.into()),
            None => Leaf::Rules(rules),
        };
        begin(number, leaf);
        begin(number + 1, dead);
    }
    ranges
}

impl From<Action> for Verdict {
    fn from(action: Action) -> Self {
        match action {
            Action::Allow => Self::Allow,
            Action::Errno(number) => Self::Errno(number),
            Action::Kill => Self::Kill,
        }
    }
}

#[cfg(test)]
mod tests;
