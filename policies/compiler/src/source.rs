//! Where in a policy file something stands, and what can be wrong there.

use std::fmt;
use std::sync::Arc;

/// A line of a policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file's name as it was given or included.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// The text of one policy file, able to tell the line of a byte offset.
pub(crate) struct Source {
    pub(crate) file: Arc<str>,
    pub(crate) text: String,
}

impl Source {
    /// The line on which byte `offset` stands.
    pub(crate) fn at(&self, offset: usize) -> Location {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        Location {
            file: self.file.clone(),
            line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
        }
    }
}

/// A policy that was refused. Prints as `FILE:LINE: what is wrong and what to do`.
#[derive(Debug, thiserror::Error)]
#[error("{at}: {problem}")]
pub struct Error {
    /// Where.
    pub at: Location,
    /// What.
    pub problem: Problem,
}

/// What is wrong with a policy.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file cannot be read.
    #[error("cannot read the policy: {0}")]
    Read(std::io::Error),
    /// Not TOML, an unknown key, or a value of the wrong type.
    #[error("{0}")]
    Toml(String),
    /// `include` names something that is not a file of the same folder.
    #[error("include {0:?} is not a plain file name: name a file of this folder")]
    IncludeName(String),
    /// The file has no rule.
    #[error("no [[rule]]: a thread that may call nothing cannot even exit; write its rules")]
    NoRules,
    /// The rule does not say why it is there.
    #[error("a rule without a `why`: say what the thread needs this for")]
    NoWhy,
    /// A list of alternatives is empty.
    #[error("an empty list of {0}: name at least one, or leave the key out")]
    EmptyList(&'static str),
    /// Not a syscall of x86_64.
    #[error("unknown syscall {0:?}: use its x86_64 name, as strace prints it")]
    UnknownSyscall(String),
    /// The syscall has no argument of this name.
    #[error("syscall {call} has no argument {arg:?} that a filter can check; it has: {known}")]
    UnknownArgument {
        /// The syscall.
        call: &'static str,
        /// The name used.
        arg: String,
        /// The names it could have been.
        known: String,
    },
    /// The argument is an fd, bound by the key `fd`.
    #[error("argument fd is bound by the rule's own key: write `fd = …` beside `syscall`")]
    FdInArgs,
    /// Neither a constant of this language nor 0.
    #[error("unknown constant {0:?}: add it to the compiler's table, or mend the name")]
    UnknownConstant(String),
    /// The constant has bits that the kernel does not look at in this argument.
    #[error(
        "{value} does not fit the 32-bit argument {arg}: the kernel would not see its high half"
    )]
    TooWide {
        /// The constant expression.
        value: String,
        /// The argument.
        arg: &'static str,
    },
    /// Not a role of the VMM's fds.
    #[error("unknown fd role {name:?}; the roles are: {known}")]
    UnknownRole {
        /// The name used.
        name: String,
        /// The names it could have been.
        known: String,
    },
    /// A role that always is one fixed fd cannot be `own`.
    #[error("role {0:?} is one fixed fd for every thread: `own` is for roles with a range of fds")]
    OwnFixed(&'static str),
    /// `own` names a role that no rule uses.
    #[error("`own` names role {0:?}, but no rule is bound to it: bind one, or leave it out")]
    OwnUnused(&'static str),
    /// A mask on an fd.
    #[error("argument {0} is an fd: give a role, not a mask")]
    MaskOnFd(&'static str),
    /// Not an errno name.
    #[error("unknown errno {0:?}: use a name of errno(3), such as ENOSYS")]
    UnknownErrno(String),
    /// The same thing is said twice.
    #[error("duplicate rule: {earlier} already decides every such {call}; remove one")]
    Duplicate {
        /// The syscall.
        call: &'static str,
        /// The rule that covers this one.
        earlier: Location,
    },
    /// One rule allows what another refuses.
    #[error(
        "contradictory rule: {earlier} gives every such {call} the opposite answer; remove one"
    )]
    Contradiction {
        /// The syscall.
        call: &'static str,
        /// The rule that covers this one.
        earlier: Location,
    },
    /// The kernel takes no such program.
    #[error("{0} BPF instructions, the kernel takes at most 4096: use fewer rules or alternatives")]
    TooLong(usize),
    /// The back end refused the rules.
    #[error("cannot be made into BPF: {0}")]
    Backend(#[from] seccompiler::BackendError),
    /// The immediates kept for an own fd were not found once each in the program.
    #[error("the places of the own fds in the BPF program are ambiguous: {found} of {expected}")]
    Holes {
        /// Immediates found.
        found: usize,
        /// Conditions on own fds.
        expected: usize,
    },
}

impl Problem {
    pub(crate) fn at(self, at: Location) -> Error {
        Error { at, problem: self }
    }
}
