//! How a cell ends, and the exit status that says so.
//!
//! A program's own status is passed through; the numbers below are ours. A
//! program can of course return the same numbers: `--report` tells them apart.

use serde::{Deserialize, Serialize};

/// The guest's kernel panicked, triple-faulted or reset before the program ended.
pub const GUEST_PANIC: u8 = 121;
/// The guest's OOM killer ended the program: it needs more than `--memory`.
pub const GUEST_OOM: u8 = 122;
/// The VMM died (a seccomp kill or a crash) or was killed from outside.
pub const VMM_DEATH: u8 = 123;
/// `--timeout` was reached.
pub const TIMEOUT: u8 = 124;
/// Casemate refused or failed before the program could run.
pub const OWN_FAILURE: u8 = 125;
/// The program was found and cannot be executed.
pub const NOT_EXECUTABLE: u8 = 126;
/// The program was not found in the guest.
pub const NOT_FOUND: u8 = 127;
/// Added to the signal's number when a signal ended the program.
pub const SIGNAL_BASE: u8 = 128;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "kebab-case")]
pub enum Outcome {
    /// The program returned this status.
    Exited {
        /// Its exit status.
        code: u8,
    },
    /// A signal ended the program.
    Signaled {
        /// The signal's number in the guest.
        signal: u8,
    },
    /// The guest's OOM killer ended the program.
    GuestOom,
    /// The guest's kernel panicked or reset.
    GuestPanic {
        /// The console's line that says why, where there is one (untrusted text).
        detail: String,
    },
    /// The VMM died.
    VmmDeath {
        /// The wait status in words, and the VMM's last words.
        detail: String,
    },
    /// The time limit was reached.
    Timeout,
    /// Found and not executable.
    NotExecutable {
        /// The guest's reason.
        detail: String,
    },
    /// Not found in the guest.
    NotFound {
        /// The guest's reason.
        detail: String,
    },
    /// We refused or failed.
    OwnFailure {
        /// The error as printed.
        detail: String,
    },
}

impl Outcome {
    /// The status `casemate run` exits with.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Exited { code } => *code,
            Self::Signaled { signal } => SIGNAL_BASE.saturating_add(*signal),
            Self::GuestOom => GUEST_OOM,
            Self::GuestPanic { .. } => GUEST_PANIC,
            Self::VmmDeath { .. } => VMM_DEATH,
            Self::Timeout => TIMEOUT,
            Self::NotExecutable { .. } => NOT_EXECUTABLE,
            Self::NotFound { .. } => NOT_FOUND,
            Self::OwnFailure { .. } => OWN_FAILURE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_the_documented_ones() {
        assert_eq!(Outcome::Exited { code: 7 }.exit_status(), 7);
        assert_eq!(Outcome::Signaled { signal: 11 }.exit_status(), 139);
        assert_eq!(Outcome::Signaled { signal: 255 }.exit_status(), 255);
        assert_eq!(Outcome::Timeout.exit_status(), 124);
    }
}
