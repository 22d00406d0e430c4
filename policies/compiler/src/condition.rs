//! Tests on syscall arguments, and when one implies another.

use crate::roles::Role;

/// What an argument must satisfy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// Equal.
    Equals(u64),
    /// `argument & mask == value`.
    Masked {
        /// Bits looked at.
        mask: u64,
        /// What they must be; no bit outside `mask`.
        value: u64,
    },
    /// `from <= argument <= to`, unsigned.
    Range {
        /// Least.
        from: u64,
        /// Most.
        to: u64,
    },
    /// The thread's one fd of this role, known when the filter is installed.
    Own(Role),
}

/// A test on one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Index of the argument, 0 to 5.
    pub arg: u8,
    /// Whether the kernel looks at all 64 bits (otherwise the low 32).
    pub wide: bool,
    /// What it must satisfy.
    pub test: Test,
}

impl Test {
    /// Whether every value that passes `self` passes `other` (a `false` may be
    /// over-careful, a `true` never is).
    fn implies(self, other: Self) -> bool {
        match (self, other) {
            (a, b) if a == b => true,
            (Self::Own(role), wider) => role.test().implies(wider),
            (Self::Equals(x), Self::Masked { mask, value }) => x & mask == value,
            (Self::Equals(x), Self::Range { from, to }) => (from..=to).contains(&x),
            (
                Self::Masked { mask, value },
                Self::Masked {
                    mask: fewer,
                    value: wanted,
                },
            ) => fewer & !mask == 0 && value & fewer == wanted,
            (
                Self::Range { from, to },
                Self::Range {
                    from: lower,
                    to: upper,
                },
            ) => lower <= from && to <= upper,
            _ => false,
        }
    }
}

impl Test {
    /// Whether no value passes both.
    fn excludes(self, other: Self) -> bool {
        match (self, other) {
            (Self::Equals(x), Self::Equals(y)) => x != y,
            (Self::Equals(x), Self::Masked { mask, value })
            | (Self::Masked { mask, value }, Self::Equals(x)) => x & mask != value,
            (Self::Equals(x), Self::Range { from, to })
            | (Self::Range { from, to }, Self::Equals(x)) => !(from..=to).contains(&x),
            (
                Self::Masked { mask, value },
                Self::Masked {
                    mask: other,
                    value: wanted,
                },
            ) => (value ^ wanted) & mask & other != 0,
            _ => false,
        }
    }
}

/// Whether every call that passes all of `narrow` passes all of `wide`.
pub(crate) fn covers(wide: &[Condition], narrow: &[Condition]) -> bool {
    wide.iter().all(|needed| {
        narrow
            .iter()
            .any(|given| given.arg == needed.arg && given.test.implies(needed.test))
    })
}

/// Whether no call passes all of `a` and all of `b` (a `false` may be over-careful, a
/// `true` never is).
pub(crate) fn excludes(a: &[Condition], b: &[Condition]) -> bool {
    a.iter().any(|one| {
        b.iter()
            .any(|other| one.arg == other.arg && one.test.excludes(other.test))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(arg: u8, test: Test) -> Condition {
        Condition {
            arg,
            wide: false,
            test,
        }
    }

    #[test]
    fn fewer_conditions_cover_more() {
        let cmd = on(1, Test::Equals(7));
        let fd = on(0, Test::Equals(3));
        assert!(covers(&[], &[cmd]));
        assert!(covers(&[cmd], &[fd, cmd]));
        assert!(!covers(&[fd, cmd], &[cmd]));
        assert!(!covers(&[cmd], &[]));
    }

    #[test]
    fn masks_and_ranges_cover_what_lies_inside() {
        let only_rw = Test::Masked { mask: !3, value: 0 };
        let not_exec = Test::Masked { mask: 4, value: 0 };
        assert!(Test::Equals(3).implies(only_rw));
        assert!(!Test::Equals(4).implies(only_rw));
        assert!(only_rw.implies(not_exec));
        assert!(!not_exec.implies(only_rw));
        assert!(Test::Own(Role::Vcpu).implies(Role::Vcpu.test()));
        assert!(!Role::Vcpu.test().implies(Test::Own(Role::Vcpu)));
        assert!(!Test::Own(Role::Disk).implies(Role::Vcpu.test()));
    }
}
