//! What the kernel says of the VMM, before its guest's first instruction.
//!
//! [`Seen`] reads `/proc/PID` once, through one open directory, so that all of it is of the
//! same process; each layer's file compares its part.

mod memory;
mod thread;

pub use memory::rss_beside;
pub use thread::{CAPABILITY_SETS, ThreadSeen};

use crate::child::Note;
use crate::layers::{
    Observation, capabilities, cgroup, environment, fds, landlock, namespaces, no_new_privs,
    rlimits, root, seccomp, user,
};
use crate::plan::Plan;
use crate::refusal::Refusal;
use casemate_proto::cell::{Layer, LayerReport};
use rustix::fs::{CWD, Dir, Mode, OFlags, openat, readlinkat};
use rustix::io::Errno;
use rustix::process::Pid;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

/// What the child said of itself before it became the VMM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// Layers it could not apply, and why.
    pub missing: BTreeMap<Layer, String>,
    /// no_new_privs.
    pub no_new_privs: Option<bool>,
    /// What Landlock forbade.
    pub landlock: Option<Result<String, String>>,
}

impl Notes {
    /// Adds one. [`Note::Failed`] is the caller's.
    pub fn add(&mut self, note: Note) {
        match note {
            Note::Failed { .. } => {}
            Note::Missing { layer, message } => {
                self.missing.insert(layer, message);
            }
            Note::NoNewPrivs(set) => self.no_new_privs = Some(set),
            Note::Landlock(result) => self.landlock = Some(result),
        }
    }
}

/// A live VMM, as `/proc` shows it.
#[derive(Debug)]
pub struct Seen<'a> {
    /// What is to be.
    pub plan: &'a Plan,
    /// What the child said.
    pub notes: &'a Notes,
    dir: OwnedFd,
    threads: Vec<ThreadSeen>,
}

impl<'a> Seen<'a> {
    /// Looks at a process.
    ///
    /// # Errors
    /// Where `/proc` cannot be read or its threads come and go.
    pub fn look(pid: Pid, plan: &'a Plan, notes: &'a Notes) -> Result<Self, String> {
        let path = format!("/proc/{}", pid.as_raw_nonzero());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, &path, flags, Mode::empty()).map_err(|e| format!("{path}: {e}"))?;
        let mut seen = Self {
            plan,
            notes,
            dir,
            threads: Vec::new(),
        };
        let before = seen.list("task").map_err(|e| format!("{path}/task: {e}"))?;
        for tid in &before {
            let file = format!("task/{tid}/status");
            let text = seen
                .read(&file)
                .map_err(|e| format!("{path}/{file}: {e}"))?;
            let thread = ThreadSeen::parse(&text).ok_or(format!("{path}/{file} is malformed"))?;
            seen.threads.push(thread);
        }
        // A thread that began in between would not have been looked at.
        let after = seen.list("task").map_err(|e| format!("{path}/task: {e}"))?;
        match before == after && !before.is_empty() {
            true => Ok(seen),
            false => Err(format!("the threads of {path} come and go")),
        }
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

    /// Text of a file under `/proc/PID`.
    pub fn read(&self, file: &str) -> Result<String, Errno> {
        let fd = openat(
            &self.dir,
            file,
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let mut text = Vec::new();
        File::from(fd)
            .read_to_end(&mut text)
            .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
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
            | Layer::CgroupNs => namespaces::read_back(layer, self),
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
