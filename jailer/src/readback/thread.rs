//! `/proc/PID/task/TID/status` (proc_pid_status(5)).

use std::fmt;

/// The five sets, as `status` calls them.
pub const CAPABILITY_SETS: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

/// One thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadSeen {
    /// Its id, in the host's pid namespace.
    pub tid: i32,
    /// Its name, printable characters only: it is the VMM's to choose.
    pub name: String,
    /// Real, effective, saved and file system user id.
    pub uids: [u32; 4],
    /// The same of the group.
    pub gids: [u32; 4],
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// In the order of [`CAPABILITY_SETS`].
    pub capabilities: [u64; 5],
    /// `NoNewPrivs`.
    pub no_new_privs: bool,
    /// `Seccomp`: 0 off, 1 strict, 2 filter.
    pub seccomp: u32,
    /// How many filters; 0 before Linux 5.9, which does not tell.
    pub seccomp_filters: u32,
    /// `Umask`.
    pub umask: u32,
    /// `SigBlk`.
    pub signals_blocked: u64,
    /// `SigIgn`.
    pub signals_ignored: u64,
    /// `Cpus_allowed_list`.
    pub cpus: String,
    /// Its place under `/proc/PID`; empty where it is the only one looked at.
    pub(super) place: String,
}

impl ThreadSeen {
    /// Parses a `status` file; `None` if a line is missing or malformed.
    pub fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(str::trim)
        };
        let hex = |name: &str| u64::from_str_radix(field(name)?, 16).ok();
        let mut capabilities = [0; 5];
        for (set, name) in capabilities.iter_mut().zip(CAPABILITY_SETS) {
            *set = hex(name)?;
        }
        Some(Self {
            tid: field("Pid")?.parse().ok()?,
            name: field("Name")?
                .chars()
                .filter(|c| c.is_ascii_graphic())
                .collect(),
            uids: numbers(field("Uid")?)?.try_into().ok()?,
            gids: numbers(field("Gid")?)?.try_into().ok()?,
            groups: numbers(field("Groups")?)?,
            capabilities,
            no_new_privs: field("NoNewPrivs")? != "0",
            seccomp: field("Seccomp")?.parse().ok()?,
            seccomp_filters: field("Seccomp_filters").map_or(Some(0), |n| n.parse().ok())?,
            umask: u32::from_str_radix(field("Umask")?, 8).ok()?,
            signals_blocked: hex("SigBlk")?,
            signals_ignored: hex("SigIgn")?,
            cpus: field("Cpus_allowed_list")?.to_owned(),
            place: String::new(),
        })
    }

    /// The path of one of its files, relative to `/proc/PID`.
    pub fn file(&self, name: &str) -> String {
        format!("{}{name}", self.place)
    }
}

impl fmt::Display for ThreadSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread {} ({})", self.tid, self.name)
    }
}

fn numbers(text: &str) -> Option<Vec<u32>> {
    text.split_ascii_whitespace()
        .map(|number| number.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STATUS: &str = "Name:\tvcpu0\nPid:\t17\nUid:\t1\t2\t3\t4\nGid:\t5\t5\t5\t5\n\
        Groups:\t\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\n\
        CapEff:\t0000000000000000\nCapBnd:\t00000000000000ff\nCapAmb:\t0000000000000000\n\
        NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\nUmask:\t0077\n\
        SigBlk:\t0000000000000000\nSigIgn:\t0000000000001000\nCpus_allowed_list:\t0-1\n";

    #[test]
    fn a_status_is_read_whole() {
        let thread = ThreadSeen::parse(STATUS).unwrap();
        assert_eq!((thread.tid, thread.name.as_str()), (17, "vcpu0"));
        assert_eq!(thread.uids, [1, 2, 3, 4]);
        assert_eq!(thread.capabilities, [0, 0, 0, 0xff, 0]);
        assert!(thread.no_new_privs && thread.seccomp == 2 && thread.groups.is_empty());
        assert_eq!((thread.umask, thread.signals_ignored), (0o77, 0x1000));
        assert_eq!(thread.cpus, "0-1");
    }

    #[test]
    fn a_status_without_a_line_is_none() {
        for name in ["Uid", "Groups", "CapBnd", "NoNewPrivs", "Seccomp", "Umask"] {
            let without: String = STATUS
                .lines()
                .filter(|line| !line.starts_with(&format!("{name}:")))
                .map(|line| format!("{line}\n"))
                .collect();
            assert_eq!(ThreadSeen::parse(&without), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(?s).{0,200}") {
            let _ = ThreadSeen::parse(&text);
        }
    }
}
