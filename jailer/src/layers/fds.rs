//! Fds: each at its number, all others closed.

use super::{AT_START, FIRST, Observation, Step, StepError, libc_result};
use crate::child::Jail;
use crate::plan::Subject;
use crate::readback::{Moment, Seen};
use crate::vm::table;
use casemate_proto::cell::Layer;
use casemate_proto::fds::CONTROL;
use std::collections::BTreeSet;
use std::os::fd::RawFd;

/// Puts the fds at their numbers.
pub const PLACE: Step = Step {
    name: "fd-numbers",
    who: FIRST,
    layer: None,
    apply: place,
};

/// Closes all others.
pub const CLOSE: Step = Step {
    name: "fds",
    who: FIRST,
    layer: Some(Layer::Fds),
    apply: close,
};

const REMEDY: &str = "raise the limit of open files (ulimit -n) to 1024 or more";

fn place(jail: &mut Jail<'_>) -> Result<(), StepError> {
    match jail.plan.subject {
        Subject::Vm(_) => move_to_table(jail),
        // They stay where the launcher has them.
        Subject::Program(_) => Ok(()),
    }
}

/// Goes through copies above all targets, because a source may stand at another's target. The
/// first copy is the status socket's: what fails from then on is told through it.
fn move_to_table(jail: &mut Jail<'_>) -> Result<(), StepError> {
    let mut staged = Vec::with_capacity(jail.placement.len() + 2);
    let own = [
        Some((table::STATUS, jail.status)),
        jail.binary.map(|binary| (table::BINARY, binary)),
    ];
    for (number, fd) in own.into_iter().flatten() {
        let copy = copy(fd, libc::F_DUPFD_CLOEXEC)?;
        staged.push((copy, number, libc::O_CLOEXEC));
        if number == table::STATUS {
            jail.status = copy;
        }
    }
    for &(number, fd) in &jail.placement {
        // These copies are not close-on-exec: that the next step closes them, and not
        // something behind it, is what lets a test see it fail.
        staged.push((copy(fd, libc::F_DUPFD)?, number, 0));
    }
    for (copy, number, flags) in staged {
        // SAFETY: replaces whatever stands at `number`. What stood there are fds of the
        // supervisor's copy, whose owners the child never drops or uses after this step.
        libc_result(unsafe { libc::dup3(copy, number, flags) }.into())
            .map_err(|e| StepError::new(format!("placing fd {number}"), e, REMEDY))?;
    }
    jail.status = table::STATUS;
    jail.binary = jail.binary.map(|_| table::BINARY);
    jail.control = CONTROL;
    Ok(())
}

fn copy(fd: RawFd, how: libc::c_int) -> Result<RawFd, StepError> {
    // SAFETY: makes a new fd number, which only the caller knows.
    libc_result(unsafe { libc::fcntl(fd, how, table::STAGE) }.into())
        .map(|copy| copy as RawFd)
        .map_err(|e| StepError::new(format!("copying fd {fd}"), e, REMEDY))
}

fn close(jail: &mut Jail<'_>) -> Result<(), StepError> {
    let mut keep: BTreeSet<RawFd> = jail.placement.iter().map(|&(number, _)| number).collect();
    keep.extend([jail.status, jail.control]);
    keep.extend(jail.binary);
    keep.extend(jail.idmaps.iter().flatten());
    let mut from = 0;
    for number in keep {
        close_range(from, number as u32)?;
        from = number as u32 + 1;
    }
    close_range(from, u32::MAX)
}

/// Closes `from..end`, or all from `from` on where `end` is `u32::MAX`.
fn close_range(from: u32, end: u32) -> Result<(), StepError> {
    if from == end {
        return Ok(());
    }
    let last = if end == u32::MAX { end } else { end - 1 };
    // SAFETY: the fds closed are the supervisor's copy's, none of which the child uses from
    // here on; all that it does use is in `keep`.
    libc_result(unsafe { libc::syscall(libc::SYS_close_range, from, last, 0) })
        .map(drop)
        .map_err(|e| {
            StepError::new(
                format!("close_range({from}, {last})"),
                e,
                "run Linux 5.9 or later",
            )
        })
}

/// The whole list against what is declared.
pub fn read_back(seen: &Seen<'_>) -> Observation {
    match &seen.plan.subject {
        Subject::Vm(config) => table::read_back(config, seen),
        Subject::Program(_) => of_program(seen),
    }
}

/// 0, 1, 2 and the policy's; before the exec also ours, if they close by themselves then.
fn of_program(seen: &Seen<'_>) -> Observation {
    let mut declared: BTreeSet<RawFd> = (0..3).collect();
    declared.extend(seen.plan.policy.keep_fds.iter());
    let text = |fds: &BTreeSet<RawFd>| {
        let fds: Vec<String> = fds.iter().map(RawFd::to_string).collect();
        fds.join(" ")
    };
    if seen.moment == Moment::Running {
        // What the program opened since is its own.
        return Observation::of(text(&declared), Ok(AT_START.to_owned()));
    }
    let observed = (|| {
        let mut found = BTreeSet::new();
        for name in seen.list("fd").map_err(|e| format!("fd: {e}"))? {
            let fd: RawFd = name
                .parse()
                .map_err(|_| format!("fd/{name} is no number"))?;
            if declared.contains(&fd) {
                found.insert(fd);
            } else if !closes_on_exec(seen, fd)? {
                let link = seen.read_link(&format!("fd/{name}")).unwrap_or_default();
                return Err(format!("fd {fd} is {link}"));
            }
        }
        Ok(text(&found))
    })();
    match observed {
        Ok(found) => Observation::compare(text(&declared), found),
        Err(e) => Observation::of(text(&declared), Err(e)),
    }
}

/// `flags` of `/proc/PID/fdinfo/FD`, in octal (proc_pid_fdinfo(5)).
fn closes_on_exec(seen: &Seen<'_>, fd: RawFd) -> Result<bool, String> {
    let info = seen
        .read(&format!("fdinfo/{fd}"))
        .map_err(|e| format!("fdinfo/{fd}: {e}"))?;
    let flags = info
        .lines()
        .find_map(|line| line.strip_prefix("flags:"))
        .and_then(|flags| i64::from_str_radix(flags.trim(), 8).ok());
    match flags {
        Some(flags) => Ok(flags & i64::from(libc::O_CLOEXEC) != 0),
        None => Err(format!("fdinfo/{fd} is malformed")),
    }
}
