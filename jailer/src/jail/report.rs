//! `--seccomp-report`: the calls that the policy refuses, told instead of deadly. They are
//! not made either: the program gets ENOSYS.

use crate::refusal::Refusal;
use casemate_policies::report::{self, Listener};
use casemate_policy::Filter;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// Most calls that are remembered.
const MOST: usize = 1000;

/// A call that the policy refuses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RefusedCall {
    /// The name of the thread that made it.
    pub thread: String,
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// Its number.
    pub number: i64,
    /// Its arguments.
    pub args: [u64; 6],
}

/// Where refused calls are told.
#[derive(Debug, Default)]
pub struct Report {
    listener: Option<Listener>,
    seen: BTreeSet<RefusedCall>,
}

impl Report {
    /// The listener of a program that waits for its go; none where its filter kills.
    ///
    /// # Errors
    /// Where its filter asks, and the listener cannot be had.
    pub fn of(filter: Option<&Filter>, pid: i32) -> Result<Self, Refusal> {
        let listener = match filter.is_some_and(report::asks) {
            false => None,
            true => Some(Listener::of_process(pid).map_err(|e| {
                Refusal::new(format!(
                    "the seccomp report cannot be had: {e}; it needs Linux 5.9 or later"
                ))
            })?),
        };
        Ok(Self {
            listener,
            seen: BTreeSet::new(),
        })
    }

    /// What to wait for.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(AsFd::as_fd)
    }

    /// Takes down one call and refuses it.
    pub fn answer(&mut self) {
        let Some(listener) = &self.listener else {
            return;
        };
        let answered = match listener.try_next() {
            Ok(Some(told)) => {
                if self.seen.len() < MOST {
                    self.seen.insert(RefusedCall {
                        thread: told.name(),
                        arch: told.arch,
                        number: told.number,
                        args: told.args,
                    });
                }
                listener.refuse(&told, libc::ENOSYS).is_ok()
            }
            // Nobody is left.
            Ok(None) => false,
            Err(e) => e.kind() == io::ErrorKind::WouldBlock,
        };
        if !answered {
            // Closed, the kernel answers ENOSYS.
            self.listener = None;
        }
    }

    /// The calls, each once.
    pub fn calls(self) -> Vec<RefusedCall> {
        self.seen.into_iter().collect()
    }
}
