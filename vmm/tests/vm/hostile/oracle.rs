//! What must hold for the VMM whatever its guest does, seen from outside.

use casemate_proto::control::Ready;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// Most that the VMM's memory outside of the guest's may grow, in KiB.
const GROWTH: u64 = 4 << 10;
/// Most CPU time that the threads beside the vCPUs may take for one attack.
const CPU: Duration = Duration::from_secs(5);
/// How long a thread may take until it sleeps.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it must sleep to be believed.
const STILL: Duration = Duration::from_millis(4);
/// Most bytes that a VMM may log for one guest.
const LOG: usize = 4096;

/// A thread of the VMM as `/proc` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Thread {
    name: String,
    state: char,
    /// Nanoseconds on a CPU.
    ran: u64,
    /// How often it ran.
    turns: u64,
}

/// Watches one VMM.
pub struct Oracle {
    pid: u32,
    guest: Vec<(u64, u64)>,
    names: Vec<String>,
    fds: BTreeMap<String, String>,
    rss: u64,
    ran: u64,
    logged: usize,
}

impl Oracle {
    /// The VMM before its guest runs.
    ///
    /// # Errors
    /// Where guest memory has no guard pages.
    pub fn new(pid: u32, ready: &Ready) -> Result<Self, String> {
        let mut oracle = Self {
            pid,
            guest: ready.guest_memory.clone(),
            names: Vec::new(),
            fds: fds(pid),
            rss: 0,
            ran: 0,
            logged: 0,
        };
        oracle.guarded()?;
        oracle.names = oracle.threads().into_iter().map(|t| t.name).collect();
        Ok(oracle)
    }

    /// Takes what it finds now as what is normal.
    pub fn begin(&mut self) {
        if self.rss == 0 {
            self.rss = self.rss_outside();
        }
        self.ran = self.workers().iter().map(|thread| thread.ran).sum();
    }

    /// After an attack.
    ///
    /// # Errors
    /// What does not hold.
    pub fn judge(&mut self) -> Result<(), String> {
        sleep_all(|| self.workers())?;
        let ran: u64 = self.workers().iter().map(|thread| thread.ran).sum();
        let ran = Duration::from_nanos(ran.saturating_sub(self.ran));
        if ran > CPU {
            return Err(format!("the VMM's threads ran for {ran:?}"));
        }
        let rss = self.rss_outside();
        if rss > self.rss + GROWTH {
            return Err(format!("the VMM grew from {} to {rss} KiB", self.rss));
        }
        let names: Vec<String> = self.threads().into_iter().map(|t| t.name).collect();
        if names != self.names {
            return Err(format!("threads {:?} became {names:?}", self.names));
        }
        let fds = fds(self.pid);
        if fds != self.fds {
            let other = fds.iter().filter(|(fd, to)| self.fds.get(*fd) != Some(to));
            let other: Vec<_> = other.collect();
            return Err(format!(
                "{} fds became {}: {other:?}",
                self.fds.len(),
                fds.len()
            ));
        }
        self.guarded()
    }

    /// Adds what the VMM has logged.
    ///
    /// # Errors
    /// When it is more than a guest may make it log.
    pub fn logged(&mut self, bytes: usize) -> Result<(), String> {
        self.logged += bytes;
        match self.logged {
            0..=LOG => Ok(()),
            more => Err(format!("the VMM logged {more} bytes")),
        }
    }

    /// After the guest has halted.
    ///
    /// # Errors
    /// When its first vCPU still runs.
    pub fn halted(&self) -> Result<(), String> {
        sleep_all(|| {
            let mut threads = self.threads();
            threads.retain(|thread| thread.name == "vcpu0");
            threads
        })
    }

    /// Each piece of guest memory lies between pages that nobody can touch.
    fn guarded(&self) -> Result<(), String> {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.pid))
            .map_err(|e| format!("the VMM is gone: {e}"))?;
        let protection = |address: u64| {
            maps.lines().find_map(|line| {
                let (range, rest) = line.split_once(' ')?;
                let (from, to) = range.split_once('-')?;
                let hex = |text| u64::from_str_radix(text, 16).ok();
                (hex(from)?..hex(to)?)
                    .contains(&address)
                    .then(|| rest[..4].to_owned())
            })
        };
        for &(start, len) in &self.guest {
            for guard in [start - 1, start - 4096, start + len, start + len + 4095] {
                if protection(guard).as_deref() != Some("---p") {
                    return Err(format!("no guard page at {guard:#x}"));
                }
            }
        }
        Ok(())
    }

    fn threads(&self) -> Vec<Thread> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid));
        let mut threads: Vec<Thread> = tasks
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|task| {
                let read = |file| fs::read_to_string(task.path().join(file)).ok();
                let stat = read("stat")?;
                let (before, after) = stat.rsplit_once(") ")?;
                let sched = read("schedstat")?;
                let mut numbers = sched.split(' ').map(|n| n.trim().parse().unwrap_or(0));
                Some(Thread {
                    name: before.split_once('(')?.1.to_owned(),
                    state: after.chars().next()?,
                    ran: numbers.next()?,
                    turns: numbers.nth(1)?,
                })
            })
            .collect();
        // KVM's own worker, which it adds to the process when a vCPU first runs.
        threads.retain(|thread| !thread.name.starts_with("kvm-"));
        threads.sort_by(|a, b| a.name.cmp(&b.name));
        threads
    }

    fn workers(&self) -> Vec<Thread> {
        let mut threads = self.threads();
        threads.retain(|thread| !thread.name.starts_with("vcpu"));
        threads
    }

    /// Resident memory outside of the guest's, in KiB.
    fn rss_outside(&self) -> u64 {
        crate::tiny::rss_outside_guest(self.pid, &self.guest)
    }

    /// Writes a number into guest memory.
    pub fn tell_guest(&self, address: u64, number: u32) -> Result<(), String> {
        let memory = OpenOptions::new()
            .write(true)
            .open(format!("/proc/{}/mem", self.pid));
        memory
            .and_then(|m| m.write_all_at(&number.to_le_bytes(), self.guest[0].0 + address))
            .map_err(|e| format!("guest memory cannot be written: {e}"))
    }
}

/// The threads come to rest: each sleeps, and stays asleep.
fn sleep_all(threads: impl Fn() -> Vec<Thread>) -> Result<(), String> {
    let start = Instant::now();
    let mut before = threads();
    loop {
        std::thread::sleep(STILL);
        let now = threads();
        if now == before && now.iter().all(|thread| thread.state == 'S') {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            let awake: Vec<_> = now
                .iter()
                .filter(|thread| !before.contains(thread) || thread.state != 'S')
                .collect();
            return Err(format!("threads spin: {awake:?}"));
        }
        before = now;
    }
}

/// Every fd by number.
fn fds(pid: u32) -> BTreeMap<String, String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"));
    let mut fds = BTreeMap::new();
    for entry in entries.into_iter().flatten().flatten() {
        let link = fs::read_link(entry.path()).unwrap_or_default();
        fds.insert(
            entry.file_name().to_string_lossy().into_owned(),
            link.to_string_lossy().into_owned(),
        );
    }
    fds
}
