//! The VMM's fds: each at its number, all others closed.

use super::{Observation, Step, StepError, libc_result};
use crate::child::Jail;
use crate::readback::Seen;
use casemate_proto::cell::Layer;
use casemate_proto::fds::{CONTROL, EVENT_BASE, FdKind, INITRD, expected};
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, RawFd};

/// Where the child keeps the status pipe and the VMM's binary until the exec, both
/// close-on-exec: free numbers below the disks'.
const STATUS: RawFd = 8;
const VMM: RawFd = 9;
const _: () = assert!(STATUS > INITRD && VMM < casemate_proto::fds::DISK_BASE);

/// Above every number that the VMM uses.
const STAGE: RawFd = 2 * EVENT_BASE;

/// Puts the fds at their numbers.
pub const PLACE: Step = Step {
    name: "fd-numbers",
    layer: None,
    apply: place,
};

/// Closes all others.
pub const CLOSE: Step = Step {
    name: "fds",
    layer: Some(Layer::Fds),
    apply: close,
};

const REMEDY: &str = "raise the limit of open files (ulimit -n) to 1024 or more";

/// Goes through copies above all targets, because a source may stand at another's target.
fn place(jail: &mut Jail<'_>) -> Result<(), StepError> {
    let own = [(STATUS, jail.status), (VMM, jail.vmm)];
    let mut staged = Vec::with_capacity(jail.placement.len() + own.len());
    for (number, fd) in &jail.placement {
        // These copies are not close-on-exec: that the next step closes them, and not
        // something behind it, is what lets a test see it fail.
        staged.push((copy(fd.as_raw_fd(), libc::F_DUPFD)?, *number, 0));
    }
    for (number, fd) in own {
        let copy = copy(fd, libc::F_DUPFD_CLOEXEC)?;
        staged.push((copy, number, libc::O_CLOEXEC));
    }
    for (copy, number, flags) in staged {
        // SAFETY: replaces whatever stands at `number`. What stood there are fds of the
        // supervisor's copy, whose owners the child never drops or uses after this step.
        libc_result(unsafe { libc::dup3(copy, number, flags) }.into())
            .map_err(|e| StepError::new(format!("placing fd {number}"), e, REMEDY))?;
    }
    jail.status = STATUS;
    jail.vmm = VMM;
    jail.control = CONTROL;
    Ok(())
}

fn copy(fd: RawFd, how: libc::c_int) -> Result<RawFd, StepError> {
    // SAFETY: makes a new fd number, which only the caller knows.
    libc_result(unsafe { libc::fcntl(fd, how, STAGE) }.into())
        .map(|copy| copy as RawFd)
        .map_err(|e| StepError::new(format!("copying fd {fd}"), e, REMEDY))
}

fn close(jail: &mut Jail<'_>) -> Result<(), StepError> {
    let mut keep: Vec<RawFd> = jail.placement.iter().map(|&(number, _)| number).collect();
    keep.extend([STATUS, VMM]);
    keep.sort_unstable();
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

/// The whole list against `proto::fds`.
pub fn read_back(seen: &Seen<'_>) -> Observation {
    let expected = expected(&seen.plan.launch.vm);
    let declared = list(expected.keys().copied());
    let observed = (|| {
        let mut found = BTreeMap::new();
        for name in seen.list("fd").map_err(|e| format!("fd: {e}"))? {
            let link = seen
                .read_link(&format!("fd/{name}"))
                .map_err(|e| format!("fd/{name}: {e}"))?;
            let fd: i32 = name
                .parse()
                .map_err(|_| format!("fd/{name} is no number"))?;
            let kind = FdKind::of_link(fd, &link);
            match (fd >= EVENT_BASE, kind, expected.get(&fd)) {
                (true, Some(FdKind::Event), _) => {}
                (false, Some(kind), Some(&wanted)) if kind == wanted => {
                    found.insert(fd, kind);
                }
                _ => return Err(format!("fd {fd} is {link}")),
            }
        }
        match expected.keys().find(|fd| !found.contains_key(fd)) {
            Some(fd) => Err(format!("fd {fd} is not open")),
            None => Ok(list(found.into_keys())),
        }
    })();
    Observation::of(declared, observed)
}

fn list(fds: impl Iterator<Item = i32>) -> String {
    let fds: Vec<String> = fds.map(|fd| fd.to_string()).collect();
    format!("{}, and event fds from {EVENT_BASE} on", fds.join(" "))
}
