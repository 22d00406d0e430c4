//! Processes by pidfd (pidfd_open(2)), their start times, and how they end in words.

use crate::read;
use crate::state::ProcessRecord;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Field 22 of `/proc/PID/stat`, in clock ticks since boot (proc_pid_stat(5)).
pub fn start_time(pid: i32) -> Option<u64> {
    parse_start_time(&read::text(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_start_time(stat: &str) -> Option<u64> {
    // Field 2, the name, is in parentheses and may hold anything, parentheses too.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Kills a recorded process if it still is the one recorded, and waits a moment for its end.
pub fn kill_recorded(record: &ProcessRecord) {
    let Some(pid) = Pid::from_raw(record.pid) else {
        return;
    };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else {
        return;
    };
    // The pidfd is fixed on one process now; if the start time read after that is the
    // recorded one, it is fixed on the right one.
    if start_time(record.pid) != Some(record.start_time) {
        return;
    }
    if pidfd_send_signal(&pidfd, Signal::KILL).is_ok() {
        let until = Instant::now() + Duration::from_secs(2);
        while start_time(record.pid) == Some(record.start_time)
            && !is_dead(record.pid)
            && Instant::now() < until
        {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The process that a pidfd is of, in our pid namespace (pidfd_open(2)).
pub fn pid_of(pidfd: BorrowedFd<'_>) -> Option<Pid> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let text = read::text(path).ok()?;
    let number = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    Pid::from_raw(number.trim().parse().ok()?)
}

/// Whether a recorded process is still there and not dead.
pub fn is_alive(record: &ProcessRecord) -> bool {
    start_time(record.pid) == Some(record.start_time) && !is_dead(record.pid)
}

/// Whether a process is on its way out: it exits, or a SIGKILL has been sent to it.
pub fn is_ending(pid: i32) -> bool {
    let exits = fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        let flags = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(6)?.parse().ok());
        flags.is_some_and(|flags: u64| flags & PF_EXITING != 0)
    });
    exits
        || fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| {
            ["SigPnd:", "ShdPnd:"].iter().any(|name| {
                let set = status.lines().find_map(|line| line.strip_prefix(name));
                let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
                set.is_some_and(|set| set & (1 << (libc::SIGKILL - 1)) != 0)
            })
        })
}

/// Field 9 of `/proc/PID/stat`: getting shut down (the kernel's sched.h).
const PF_EXITING: u64 = 0x4;

/// The eldest living child of a process (proc_tid_children(5)).
pub fn first_child(pid: i32) -> Option<i32> {
    let text = read::text(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// Whether it is dead and only waits to be reaped by its parent.
fn is_dead(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| {
        stat.rsplit_once(')')
            .and_then(|(_, rest)| rest.split_ascii_whitespace().next())
            .is_none_or(|state| matches!(state, "Z" | "X"))
    })
}

/// How a process ended, as waitid(2) tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By exit(2).
    Status(i32),
    /// By a signal.
    Signal(i32),
}

impl Exit {
    /// Its status, where it exited.
    pub fn status(self) -> Option<i32> {
        match self {
            Self::Status(status) => Some(status),
            Self::Signal(_) => None,
        }
    }

    /// The signal, where one ended it.
    pub fn signal(self) -> Option<i32> {
        match self {
            Self::Status(_) => None,
            Self::Signal(signal) => Some(signal),
        }
    }

    /// In words, with what it means for a VMM.
    pub fn words(self) -> String {
        match self {
            Self::Status(status) => format!("exited with status {status} without a word"),
            Self::Signal(libc::SIGSYS) => {
                "killed by SIGSYS: a seccomp filter refused a system call".to_owned()
            }
            Self::Signal(libc::SIGKILL) => {
                "killed by SIGKILL: by the out-of-memory killer (its cgroup's memory limit) \
                 or by hand"
                    .to_owned()
            }
            Self::Signal(libc::SIGXFSZ) => {
                "killed by SIGXFSZ: it wrote beyond the end of a disk".to_owned()
            }
            Self::Signal(signal) => {
                let name = nix::sys::signal::Signal::try_from(signal)
                    .map_or_else(|_| format!("signal {signal}"), |s| s.to_string());
                format!("killed by {name}: a fault in the VMM")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_is_found_behind_any_name() {
        let stat = "7 (a) b) (c) S 1 7 7 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 1 0 4242 0 0";
        assert_eq!(parse_start_time(stat), Some(4242));
        assert_eq!(parse_start_time("7 (x"), None);
        let me = std::process::id() as i32;
        assert!(start_time(me).is_some());
        assert!(!is_dead(me));
    }

    #[test]
    fn ends_are_told_in_words() {
        assert!(Exit::Signal(libc::SIGSYS).words().contains("seccomp"));
        assert!(Exit::Signal(libc::SIGSEGV).words().contains("SIGSEGV"));
        assert!(Exit::Signal(77).words().contains("77"));
        assert!(Exit::Status(3).words().contains("status 3"));
    }
}
