//! What the kernel says of what is jailed, before its first instruction.
//!
//! [`Seen`] reads `/proc/PID` once, through one open directory, so that all of it is of the
//! same process; each layer's file compares its part.

pub mod environment_memory;
mod memory;
mod strength;
mod thread;

pub use memory::rss_beside;
pub use thread::{CAPABILITY_SETS, ThreadSeen};

use crate::cgroup::CellCgroup;
use crate::child::Note;
use crate::layers::{
    Observation, capabilities, cgroup, core_scheduling, cpus, environment, fds, keyring, landlock,
    namespaces, no_new_privs, rlimits, root, seccomp, session, signals, umask, user,
    user_namespace,
};
use crate::plan::{Plan, Subject};
use crate::refusal::Refusal;
use casemate_proto::cell::{Layer, LayerReport};
use rustix::fs::{CWD, Dir, Mode, OFlags, openat, readlinkat};
use rustix::io::Errno;
use rustix::process::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

/// What the child said of itself before the exec.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// Layers it could not apply, and why.
    pub missing: BTreeMap<Layer, String>,
    /// Optional mounts that are not there.
    pub absent: BTreeSet<usize>,
    /// Mounts of the host's that are covered.
    pub covered: BTreeSet<String>,
    /// no_new_privs.
    pub no_new_privs: Option<bool>,
    /// What Landlock forbade.
    pub landlock: Option<Result<String, String>>,
    /// Its session keyring, and how many keys are in it.
    pub keyring: Option<Result<(i32, usize), String>>,
    /// Its core scheduling cookie.
    pub core: Option<u64>,
}

impl Notes {
    /// Adds one. What ends or holds up the start is the caller's.
    pub fn add(&mut self, note: Note) {
        match note {
            Note::Missing { layer, message } => {
                self.missing.insert(layer, message);
            }
            Note::Absent(mount) => {
                self.absent.insert(mount);
            }
            Note::Covered(point) => {
                self.covered.insert(point);
            }
            Note::NoNewPrivs(set) => self.no_new_privs = Some(set),
            Note::Landlock(result) => self.landlock = Some(result),
            Note::Keyring(result) => self.keyring = Some(result),
            Note::Core(cookie) => self.core = Some(cookie),
            Note::Failed { .. } | Note::NoProgram { .. } | Note::Ready { .. } => {}
        }
    }
}

/// When a process is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before the first instruction of what is jailed: everything must be as declared.
    Start,
    /// While it runs, when it may have done to itself what it is allowed to.
    Running,
}

/// A live process, as `/proc` shows it.
#[derive(Debug)]
pub struct Seen<'a> {
    /// What is to be.
    pub plan: &'a Plan,
    /// What the child said.
    pub notes: &'a Notes,
    /// Its cgroups.
    pub cgroup: Option<&'a CellCgroup>,
    /// When.
    pub moment: Moment,
    /// What the exec will be given as environment, as it stands in the child's memory.
    pub environment: Result<Vec<u8>, String>,
    /// The init that a plain program runs under.
    pub init: Option<ThreadSeen>,
    pid: Pid,
    dir: OwnedFd,
    threads: Vec<ThreadSeen>,
}

impl<'a> Seen<'a> {
    /// Looks at a process.
    ///
    /// # Errors
    /// Where `/proc` cannot be read or its threads come and go.
    pub fn look(
        pid: Pid,
        plan: &'a Plan,
        notes: &'a Notes,
        cgroup: Option<&'a CellCgroup>,
        moment: Moment,
    ) -> Result<Self, String> {
        let path = format!("/proc/{}", pid.as_raw_nonzero());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, &path, flags, Mode::empty()).map_err(|e| format!("{path}: {e}"))?;
        let mut seen = Self {
            plan,
            notes,
            cgroup,
            moment,
            environment: Err("not looked at".to_owned()),
            init: None,
            pid,
            dir,
            threads: Vec::new(),
        };
        match (&plan.subject, moment) {
            // It has one thread, which waits for us.
            (Subject::Program(_), Moment::Start) => seen.threads.push(seen.thread("")?),
            _ => seen.look_at_threads().map_err(|e| format!("{path}: {e}"))?,
        }
        Ok(seen)
    }

    fn look_at_threads(&mut self) -> Result<(), String> {
        let list = |seen: &Self| seen.list("task").map_err(|e| format!("task: {e}"));
        let before = list(self)?;
        for tid in &before {
            let thread = self.thread(&format!("task/{tid}/"))?;
            self.threads.push(thread);
        }
        // A thread that began in between would not have been looked at.
        match before == list(self)? && !before.is_empty() {
            true => Ok(()),
            false => Err("its threads come and go".to_owned()),
        }
    }

    fn thread(&self, place: &str) -> Result<ThreadSeen, String> {
        let file = format!("{place}status");
        let text = self.read(&file).map_err(|e| format!("{file}: {e}"))?;
        let mut thread = ThreadSeen::parse(&text).ok_or(format!("{file} is malformed"))?;
        place.clone_into(&mut thread.place);
        Ok(thread)
    }

    /// Looks at the init that the program runs under, too.
    ///
    /// # Errors
    /// Where its status cannot be read.
    pub fn with_init(mut self, init: Pid) -> Result<Self, String> {
        let path = format!("/proc/{}/status", init.as_raw_nonzero());
        let text = crate::read::text(&path).map_err(|e| format!("{path}: {e}"))?;
        let thread = ThreadSeen::parse(&text).ok_or(format!("{path} is malformed"))?;
        self.init = Some(thread);
        Ok(self)
    }

    /// Whether it runs, and a layer was in force when it began to.
    pub fn held_at_start(&self, layer: Layer) -> bool {
        self.moment == Moment::Running && !self.notes.missing.contains_key(&layer)
    }

    /// Its id.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Its threads; at least one.
    pub fn threads(&self) -> &[ThreadSeen] {
        &self.threads
    }

    /// Checks each thread; the first that fails is named.
    pub fn of_threads(
        &self,
        check: impl Fn(&ThreadSeen) -> Result<(), String>,
    ) -> Result<(), String> {
        for thread in &self.threads {
            check(thread).map_err(|e| format!("{thread}: {e}"))?;
        }
        Ok(())
    }

    /// The same of its threads and its init.
    pub fn of_all(&self, check: impl Fn(&ThreadSeen) -> Result<(), String>) -> Result<(), String> {
        self.of_threads(&check)?;
        match &self.init {
            Some(init) => check(init).map_err(|e| format!("the init: {e}")),
            None => Ok(()),
        }
    }

    /// Text of a file under `/proc/PID`.
    pub fn read(&self, file: &str) -> Result<String, Errno> {
        let fd = openat(
            &self.dir,
            file,
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        crate::read::all(&fd)
    }

    /// Target of a link under `/proc/PID`.
    pub fn read_link(&self, link: &str) -> Result<String, Errno> {
        readlinkat(&self.dir, link, Vec::new()).map(|to| to.to_string_lossy().into_owned())
    }

    /// Names in a directory under `/proc/PID`, without `.` and `..`.
    pub fn list(&self, dir: &str) -> Result<Vec<String>, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(&self.dir, dir, flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in Dir::new(fd)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Every layer that the jailer answers for.
    pub fn confinement(&self) -> Vec<LayerReport> {
        Layer::ALL
            .into_iter()
            .filter(|&layer| self.plan.declares(layer))
            .filter_map(|layer| Some((layer, self.observe(layer)?)))
            .map(|(layer, seen)| {
                let mut observed = seen.observed;
                if let Some(why) = self.notes.missing.get(&layer).filter(|_| !seen.holds) {
                    observed = format!("{observed} ({why})");
                }
                LayerReport {
                    layer,
                    declared: seen.declared,
                    observed,
                    holds: seen.holds,
                    strength: strength::of(layer, self.plan, seen.holds),
                }
            })
            .collect()
    }

    fn observe(&self, layer: Layer) -> Option<Observation> {
        Some(match layer {
            Layer::MountNs
            | Layer::PidNs
            | Layer::NetNs
            | Layer::IpcNs
            | Layer::UtsNs
            | Layer::CgroupNs
            | Layer::TimeNs => namespaces::read_back(layer, self),
            Layer::UserNs => user_namespace::read_back(self),
            Layer::Root => root::read_back(self),
            Layer::Cgroup => cgroup::read_back(self),
            Layer::Rlimits => rlimits::read_back(self),
            Layer::User => user::read_back(self),
            Layer::Capabilities => capabilities::read_back(self),
            Layer::NoNewPrivs => no_new_privs::read_back(self),
            Layer::Landlock => landlock::read_back(self),
            Layer::Seccomp => seccomp::read_back(self),
            Layer::Environment => environment::read_back(self),
            Layer::Fds => fds::read_back(self),
            Layer::Keyring => keyring::read_back(self),
            Layer::Session => session::read_back(self),
            Layer::Umask => umask::read_back(self),
            Layer::Signals => signals::read_back(self),
            Layer::CoreScheduling => core_scheduling::read_back(self),
            Layer::CpuPinning => cpus::read_back(self),
            // A property of the host, which the preflight looks at.
            Layer::FullKvm => return None,
        })
    }
}

/// The first layer that does not hold and may not be missing.
///
/// # Errors
/// That layer.
pub fn judge(confinement: &[LayerReport], plan: &Plan) -> Result<(), Refusal> {
    let broken = confinement
        .iter()
        .find(|report| !report.holds && !plan.may_miss(report.layer));
    match broken {
        None => Ok(()),
        Some(report) => Err(Refusal::of(
            report.layer,
            format!(
                "the layer {layer} does not hold: declared \"{}\", the kernel shows \"{}\"; \
                 mend that, or give --allow-missing {layer}",
                report.declared,
                report.observed,
                layer = report.layer
            ),
        )),
    }
}
