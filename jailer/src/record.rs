//! What the audit log is told of one cell (`docs/audit.md`).
//!
//! Two appends: one before the first untrusted instruction, with what is let go and every
//! layer as it was read back; one when all is over, with what was denied, the limits that
//! were hit, and the end. A start that cannot be recorded is refused. An end that cannot is
//! told on standard error and changes nothing: what ran has run.

use crate::plan::{Plan, Subject};
use crate::refusal::Refusal;
use casemate_audit::event::{Cleared, Denied, Exit, Kind, Layers, Limit, LimitHit, Refused, Start};
use casemate_audit::{AuditError, Digest, Event, Recorder, Settings, Who};
use casemate_proto::cell::{Layer, LayerReport, Usage};
use casemate_proto::id::{CellId, TenantId};
use rustix::process::Pid;
use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::Path;

/// The record of one cell; of none, where it is not to be recorded.
#[derive(Debug)]
pub struct Record {
    recorder: Option<Recorder>,
    binaries: BTreeMap<String, Digest>,
}

/// How a cell ended, in the log's terms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ending {
    /// In words.
    pub how: String,
    /// The exit status of its first process, where it exited.
    pub status: Option<i32>,
    /// The signal that ended it, where one did.
    pub signal: Option<i32>,
    /// Its time was over.
    pub timeout: bool,
    /// How often the kernel killed for want of memory.
    pub oom_kills: u32,
    /// How often a task was refused because of the limit on them.
    pub tasks_refused: u32,
    /// Calls that its filter refused and reported.
    pub denied: Vec<String>,
    /// What was used.
    pub usage: Usage,
}

impl Record {
    /// Opens the log in `folder`, while there are still the rights to. `None`: no log.
    ///
    /// # Errors
    /// Where nothing can be recorded there.
    pub fn open(folder: Option<&Path>, tenant: &TenantId, id: &CellId) -> Result<Self, Refusal> {
        let who = || Who {
            tenant: tenant.clone(),
            id: id.clone(),
        };
        let recorder = folder
            .map(|folder| Recorder::open(&Settings::of(folder), who()))
            .transpose()
            .map_err(refusal)?;
        Ok(Self {
            recorder,
            binaries: BTreeMap::new(),
        })
    }

    /// Takes note of a binary or an image by its digest. `fd` may be open with `O_PATH`.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn binary(&mut self, role: &str, fd: BorrowedFd<'_>) -> Result<(), Refusal> {
        if let Some(recorder) = &self.recorder {
            let digest = recorder.digest(fd).map_err(refusal)?;
            self.binaries.insert(role.to_owned(), digest);
        }
        Ok(())
    }

    /// The program that this process is.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn own_binary(&mut self, role: &str) -> Result<(), Refusal> {
        if self.recorder.is_none() {
            return Ok(());
        }
        use rustix::fs::{Mode, OFlags, open};
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let own = open("/proc/self/exe", flags, Mode::empty()).map_err(|e| {
            Refusal::new(format!(
                "audit log: cannot open /proc/self/exe: {e}; mount /proc"
            ))
        })?;
        self.binary(role, std::os::fd::AsFd::as_fd(&own))
    }

    /// Records that `process` is about to be let go, and how it is confined.
    ///
    /// # Errors
    /// Where that is not recorded. It must not be let go then.
    pub fn start(
        &mut self,
        plan: &Plan,
        program: Option<String>,
        process: Pid,
        confinement: &[LayerReport],
    ) -> Result<(), Refusal> {
        let Some(recorder) = &mut self.recorder else {
            return Ok(());
        };
        let policies = policies(plan);
        recorder.set_policies(&policies);
        recorder.set_binaries(&self.binaries);
        let cgroup = &plan.policy.cgroup;
        recorder.add(Event::Start(Box::new(Start {
            kind: match plan.subject {
                Subject::Vm(_) => Kind::Run,
                Subject::Program(_) => Kind::Jail,
            },
            program,
            process: process.as_raw_nonzero().get(),
            uid: plan.identity.uid,
            loginuid: loginuid(),
            policies,
            binaries: std::mem::take(&mut self.binaries),
            memory_bytes: cgroup.memory_bytes,
            cpu_millis: cgroup.cpu_millis,
            pids: cgroup.pids,
            timeout_ms: plan.policy.wall_clock_ms,
            allow_missing: plan.allow_missing.clone(),
        })));
        recorder.add(Event::Layers(Layers::from(confinement)));
        recorder.commit().map_err(refusal)
    }

    /// Records a start that was refused, unless it is the log itself that refuses.
    pub fn refused(&mut self, refusal: &Refusal) {
        self.last([Event::Refused(Refused {
            layer: refusal.layer,
            message: refusal.message.clone(),
        })]);
    }

    /// Records the end of all of it.
    pub fn ended(&mut self, ending: Ending) {
        self.last(events(ending));
    }

    fn last(&mut self, events: impl IntoIterator<Item = Event>) {
        if let Some(recorder) = &mut self.recorder {
            events.into_iter().for_each(|event| recorder.add(event));
            told(recorder.commit());
        }
    }
}

/// Records that what a killed supervisor left was cleared.
pub fn cleared(folder: &Path, tenant: &TenantId, id: &CellId, process: Option<i32>) {
    let who = Who {
        tenant: tenant.clone(),
        id: id.clone(),
    };
    told(
        Recorder::open(&Settings::of(folder), who).and_then(|mut recorder| {
            recorder.add(Event::Cleared(Cleared { process }));
            recorder.commit()
        }),
    );
}

fn refusal(e: AuditError) -> Refusal {
    Refusal::new(format!("audit log: {e}; or go without one (--no-audit)"))
}

fn told(result: Result<(), AuditError>) {
    if let Err(e) = result {
        eprintln!("casemate-jailer: not recorded in the audit log: {e}");
    }
}

/// The policies in force, by name: the jail's, and the filters of a VMM's threads.
fn policies(plan: &Plan) -> BTreeMap<String, Digest> {
    let own = (plan.policy.name.to_string(), plan.policy.digest.as_ref());
    let threads = match plan.subject {
        Subject::Vm(_) => &casemate_policies::ThreadClass::ALL[..],
        Subject::Program(_) => &[],
    };
    let threads = threads
        .iter()
        .map(|&class| (format!("vmm/{class}"), casemate_policies::digest(class)));
    std::iter::once(own)
        .chain(threads)
        .filter_map(|(name, digest)| Some((name, digest.parse().ok()?)))
        .collect()
}

/// proc_pid_loginuid(5); `None` where nobody logged in, or the kernel does not keep it.
fn loginuid() -> Option<u32> {
    let text = crate::read::text("/proc/self/loginuid").ok()?;
    text.trim().parse().ok().filter(|&uid| uid != u32::MAX)
}

fn events(ending: Ending) -> Vec<Event> {
    let mut events = Vec::new();
    let denied = |how: String| {
        Event::Denied(Denied {
            layer: Layer::Seccomp,
            how,
        })
    };
    events.extend(ending.denied.into_iter().map(denied));
    if ending.signal == Some(libc::SIGSYS) {
        events.push(denied(
            "killed by SIGSYS: it made a call that its filter does not allow".to_owned(),
        ));
    }
    let mut limit = |limit, detail: String| {
        events.push(Event::Limit(LimitHit { limit, detail }));
    };
    if ending.timeout {
        limit(Limit::Time, "ended at its wall-clock limit".to_owned());
    }
    if ending.oom_kills > 0 {
        limit(
            Limit::Memory,
            format!("the kernel killed {} for want of memory", ending.oom_kills),
        );
    }
    if ending.tasks_refused > 0 {
        limit(
            Limit::Tasks,
            format!("{} tasks were refused", ending.tasks_refused),
        );
    }
    match ending.signal {
        Some(libc::SIGXFSZ) => limit(Limit::FileSize, "killed by SIGXFSZ".to_owned()),
        Some(libc::SIGXCPU) => limit(Limit::Cpu, "killed by SIGXCPU".to_owned()),
        _ => {}
    }
    let usage = ending.usage;
    events.push(Event::Exit(Exit {
        how: ending.how,
        status: ending.status,
        signal: ending.signal,
        cpu_user_us: usage.cpu_user_us,
        cpu_system_us: usage.cpu_system_us,
        memory_peak_bytes: usage.memory_peak_bytes,
    }));
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(ending: Ending) -> Vec<&'static str> {
        events(ending).iter().map(Event::name).collect()
    }

    #[test]
    fn what_was_denied_and_hit_comes_before_the_end() {
        assert_eq!(names(Ending::default()), ["exit"]);
        let ending = Ending {
            signal: Some(libc::SIGSYS),
            denied: vec!["ptrace".to_owned()],
            ..Ending::default()
        };
        assert_eq!(names(ending), ["denied", "denied", "exit"]);
        let ending = Ending {
            timeout: true,
            oom_kills: 2,
            tasks_refused: 1,
            signal: Some(libc::SIGXFSZ),
            ..Ending::default()
        };
        assert_eq!(names(ending), ["limit", "limit", "limit", "limit", "exit"]);
    }

    #[test]
    fn without_a_folder_nothing_is_recorded() {
        let (tenant, id) = ("t".parse().unwrap(), "i".parse().unwrap());
        let mut record = Record::open(None, &tenant, &id).unwrap();
        record.own_binary("casemate").unwrap();
        record.ended(Ending::default());
        assert!(record.binaries.is_empty());
    }
}
