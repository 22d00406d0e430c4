//! Where in a policy file something stands, and what can be wrong there.

use crate::policy::Reader;
use serde::de::DeserializeOwned;
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
    /// The file `name`, asked for at `at`.
    pub(crate) fn read(name: &str, at: &Location, read: &Reader) -> Result<Self, Error> {
        match read(name) {
            Ok(text) => Ok(Self {
                file: name.into(),
                text,
            }),
            Err(error) => Err(Problem::Read(error).at(at.clone())),
        }
    }

    /// Its text in the shape of `T`.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, Error> {
        toml::from_str(&self.text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            Problem::Toml(error.message().to_owned()).at(self.at(offset))
        })
    }

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
    /// A section or a mount does not say why it is there.
    #[error("{0} without a `why`: say what the program needs this for")]
    SectionWithoutWhy(String),
    /// Not a number of things.
    #[error("{0:?} is no amount: write a number, or one with K, M, G or T (of 1024) in quotes")]
    Amount(String),
    /// Not a time.
    #[error("{0:?} is no time: write 500ms, 2s, 1m or 1h")]
    Duration(String),
    /// A number that the kernel would not take.
    #[error("{value} is out of range: {least} to {most}")]
    OutOfRange {
        /// The number.
        value: u64,
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
    /// Not a path that leads where it says.
    #[error("{0:?} is no plain absolute path: begin with /, without `.`, `..` or empty parts")]
    Path(String),
    /// Not a block device.
    #[error("{0:?} is no block device: write MAJOR:MINOR, as `lsblk` prints them")]
    BlockDevice(String),
    /// Not a variable's name.
    #[error("{0:?} is no variable of an environment: a name without = or NUL, a value without NUL")]
    Variable(String),
    /// Not an fd that can be kept.
    #[error("fd {0} cannot be kept: 0, 1 and 2 always are; name fds of 3 to 1023")]
    Fd(i32),
    /// A name that is not one of a kind.
    #[error("unknown {what} {name:?}; there are: {known}")]
    UnknownName {
        /// Of what.
        what: &'static str,
        /// The name used.
        name: String,
        /// The names it could have been.
        known: String,
    },
    /// The same thing is named twice.
    #[error("{0} {1} is named twice: remove one")]
    Twice(&'static str, String),
    /// Not exactly one of these keys.
    #[error("{0} takes exactly one of: {1}")]
    OneKey(&'static str, &'static str),
    /// The root is the jail's own.
    #[error(
        "nothing can be mounted on /: the root is an empty tmpfs of the jail's; name what goes in it"
    )]
    MountOnRoot,
    /// A bind mount has no size.
    #[error("`size` is for a tmpfs: a mount of the host's is as large as that is")]
    SizeOfBind,
    /// A tmpfs that says too little or too much.
    #[error("a tmpfs needs `size`, not 0 and not unlimited, and takes neither `at` nor `optional`")]
    TmpfsKeys,
    /// A core file of size 0 is still given to a program.
    #[error("core = 0 still feeds a core_pattern that is a pipe: write 1, which no dump fits into")]
    CoreZero,
    /// An rlimit without a limit.
    #[error("{0} = \"unlimited\": leave the key out, and the launcher's limit stays")]
    RlimitUnlimited(&'static str),
    /// A limit that keeps the host alive is missing.
    #[error("no `{0}` in [cgroup]: name a limit, or say \"unlimited\"")]
    NoLimit(&'static str),
    /// There is nothing that could be taken away from.
    #[error("[[deny]] takes away from a base: name one with `base`, or do not allow it")]
    DenyWithoutBase,
    /// Rules of the whole beside those of threads.
    #[error("a rule beside [threads]: each thread class has its rules in its own file")]
    RulesBesideThreads,
    /// The threads are the base's.
    #[error("[threads] beside `base`: the base says what its threads may do")]
    ThreadsWithBase,
    /// Not a policy that is there.
    #[error(
        "unknown base {0:?}: name a shipped policy, or a file of this folder that ends in .toml"
    )]
    UnknownBase(String),
    /// Bases of bases of bases.
    #[error("more than 8 bases, or a base that is its own: shorten the chain")]
    TooManyBases,
    /// More than the base gives.
    #[error(
        "widening: {what} {asked}, but base {base:?} allows {allowed}; a policy with a base can only narrow it"
    )]
    Widening {
        /// Of what.
        what: &'static str,
        /// What the policy says.
        asked: String,
        /// The base's name.
        base: String,
        /// What the base says.
        allowed: String,
    },
    /// An errno in a rule that should allow.
    #[error(
        "an errno for {0} in a [[rule]] of a policy with a base: take calls away with [[deny]]"
    )]
    ErrnoUnderBase(&'static str),
    /// A denial of what is denied already.
    #[error("nothing to deny: base {base:?} allows no {rule}; remove this")]
    NothingToDeny {
        /// What is denied.
        rule: String,
        /// The base's name.
        base: String,
    },
    /// The kernel takes no such program.
    #[error("{0} BPF instructions, the kernel takes at most 4096: use fewer rules or alternatives")]
    TooLong(usize),
}

impl Problem {
    pub(crate) fn at(self, at: Location) -> Error {
        Error { at, problem: self }
    }
}
