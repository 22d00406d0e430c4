//! What /proc says of a process (proc(5)).

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// A process, looked at from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process(pub i32);

impl Process {
    fn path(self, rest: &str) -> PathBuf {
        format!("/proc/{}/{rest}", self.0).into()
    }

    /// Whether it is there and no zombie.
    pub fn alive(self) -> bool {
        self.stat()
            .is_some_and(|(_, state, _)| state != 'Z' && state != 'X')
    }

    /// (command name, state, parent) from `stat`.
    fn stat(self) -> Option<(String, char, i32)> {
        let text = fs::read_to_string(self.path("stat")).ok()?;
        let (head, tail) = text.rsplit_once(") ")?;
        let name = head.split_once('(')?.1.to_owned();
        let mut fields = tail.split(' ');
        let state = fields.next()?.chars().next()?;
        Some((name, state, fields.next()?.parse().ok()?))
    }

    /// Every process now.
    pub fn all() -> Vec<Self> {
        fs::read_dir("/proc")
            .expect("/proc")
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().map(Self))
            .collect()
    }

    /// Its living children.
    pub fn children(self) -> Vec<Self> {
        Self::all()
            .into_iter()
            .filter(|p| p.alive() && p.stat().is_some_and(|(_, _, parent)| parent == self.0))
            .collect()
    }

    /// Base name of its first argument, or its command name.
    pub fn name(self) -> String {
        self.stat().map(|(name, _, _)| name).unwrap_or_default()
    }

    /// Its threads: (tid, name).
    pub fn threads(self) -> Vec<(i32, String)> {
        fs::read_dir(self.path("task"))
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let tid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
                let name = fs::read_to_string(self.path(&format!("task/{tid}/comm"))).ok()?;
                Some((tid, name.trim_end().to_owned()))
            })
            .collect()
    }

    /// `status` of one thread, as key and value.
    pub fn status(self, tid: i32) -> BTreeMap<String, String> {
        fs::read_to_string(self.path(&format!("task/{tid}/status")))
            .unwrap_or_default()
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
            .collect()
    }

    /// The namespace of this kind, such as `net:[4026531840]`.
    pub fn namespace(self, kind: &str) -> String {
        fs::read_link(self.path(&format!("ns/{kind}")))
            .map(|link| link.to_string_lossy().into_owned())
            .unwrap_or_default()
    }

    /// Open fds and what they link to.
    pub fn fds(self) -> BTreeMap<i32, String> {
        fs::read_dir(self.path("fd"))
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let fd = entry.file_name().to_str()?.parse().ok()?;
                let link = fs::read_link(entry.path()).ok()?;
                Some((fd, link.to_string_lossy().into_owned()))
            })
            .collect()
    }

    /// A file of it, whole.
    pub fn read(self, file: &str) -> Vec<u8> {
        fs::read(self.path(file)).unwrap_or_default()
    }

    /// Names in its root directory.
    pub fn root(self) -> std::io::Result<Vec<String>> {
        Ok(fs::read_dir(self.path("root/"))?
            .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
            .collect())
    }

    /// CPU time in user and kernel mode, in clock ticks (usually 10 ms).
    pub fn cpu_ticks(self) -> u64 {
        let text = fs::read_to_string(self.path("stat")).unwrap_or_default();
        let Some((_, tail)) = text.rsplit_once(") ") else {
            return 0;
        };
        let fields: Vec<&str> = tail.split(' ').collect();
        [11, 12]
            .into_iter()
            .filter_map(|n| fields.get(n)?.parse::<u64>().ok())
            .sum()
    }

    /// Sends SIGKILL.
    pub fn kill(self) {
        let pid = nix::unistd::Pid::from_raw(self.0);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
    }
}
