//! The steps of a start that are the same for a VM and for a plain program.

use crate::cell::Cell;
use crate::cgroup::{self, CellCgroup, Controller, Hierarchy, Version};
use crate::channel::{Word, say};
use crate::child::{self, Jail, Note};
use crate::layers::namespaces;
use crate::own;
use crate::plan::Plan;
use crate::process::start_time;
use crate::readback::Notes;
use crate::refusal::Refusal;
use crate::rights::{self, Rights};
use crate::state::{Declared, Journal, ProcessRecord};
use casemate_proto::cell::Layer;
use casemate_proto::seqpacket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Longest that the child's steps may take, one by one.
const CHILD_TIME: Duration = Duration::from_secs(30);

/// The pairs of sockets between a supervisor and its child.
#[derive(Debug)]
pub struct Wires {
    /// Our end of the socket for words, and for the VMM's messages.
    pub control: OwnedFd,
    /// The child's.
    pub control_end: OwnedFd,
    /// Our end of the socket for notes.
    pub status: OwnedFd,
    /// The child's.
    pub status_end: OwnedFd,
}

impl Wires {
    /// Makes both.
    ///
    /// # Errors
    /// The calls' own.
    pub fn new() -> Result<Self, Refusal> {
        let pair = || {
            seqpacket::pair().map_err(|e| {
                Refusal::new(format!(
                    "cannot make the control sockets: {e}; raise ulimit -n"
                ))
            })
        };
        let (control, control_end) = pair()?;
        let (status, status_end) = pair()?;
        Ok(Self {
            control,
            control_end,
            status,
            status_end,
        })
    }
}

/// A start under way.
pub struct Start<'a> {
    /// What is to be.
    pub plan: &'a Plan,
    /// What is held on the host.
    pub cell: &'a mut Cell,
    /// What is known of the child.
    pub notes: Notes,
    journal: Journal,
    hierarchies: Vec<Hierarchy>,
    asked: &'a [&'static str],
    dropped: bool,
}

/// What is wished of cgroups beside what the plan has.
#[derive(Debug, Clone, Copy, Default)]
pub struct CgroupWish<'a> {
    /// The cgroup, in each hierarchy, below which the cell's are to be.
    pub parent: Option<&'a str>,
    /// Limits that were asked for by name: without them it is not to start.
    pub asked: &'a [&'static str],
}

impl<'a> Start<'a> {
    /// Looks for the cgroup hierarchies that are needed.
    ///
    /// # Errors
    /// Where a controller is not there.
    pub fn begin(
        plan: &'a Plan,
        cell: &'a mut Cell,
        wish: CgroupWish<'a>,
    ) -> Result<Self, Refusal> {
        let mut journal = Journal::new();
        journal.audit = cell.audit.clone();
        let mut start = Self {
            plan,
            cell,
            notes: Notes::default(),
            journal,
            hierarchies: Vec::new(),
            asked: wish.asked,
            dropped: false,
        };
        if !plan.leaves_out(Layer::Cgroup) {
            let mut controllers = Controller::BASE.to_vec();
            if !plan.policy.cgroup.io.is_empty() {
                controllers.push(Controller::Io);
            }
            let found = cgroup::detect_for(&controllers).and_then(|hierarchies| {
                let placed = hierarchies.into_iter().map(|h| match &plan.rights {
                    Rights::User(_) if wish.parent.is_none() => cgroup::delegated(h),
                    _ => Ok(h.below(wish.parent)),
                });
                placed.collect()
            });
            match found {
                Ok(hierarchies) => start.hierarchies = hierarchies,
                Err(e) => start.miss(Layer::Cgroup, &e)?,
            }
        }
        Ok(start)
    }

    /// Clones the child, with as many namespaces as the kernel has and must have.
    ///
    /// On cgroup v2 the cgroups are made before, to be cloned into.
    ///
    /// # Errors
    /// Calls' own.
    pub fn spawn(&mut self, jail: &mut Jail<'_>) -> Result<Pid, Refusal> {
        if self.hierarchies.iter().any(|h| h.version == Version::V2) {
            self.make_cgroups()?;
            // Something is in them as soon as it is cloned.
            self.write_journal()?;
        }
        jail.joins = self.hierarchies.iter().any(|h| h.version == Version::V1);
        let into = match &self.cell.cgroup {
            Some(cgroup) => cgroup
                .clone_into()
                .map_err(|e| Refusal::of(Layer::Cgroup, e))?,
            None => None,
        };
        let mut flags = namespaces::cloned(self.plan);
        for layer in [Layer::PidNs, Layer::TimeNs] {
            if self.plan.leaves_out(layer) {
                jail.missing.insert(layer);
            }
        }
        // An ordinary user's: all else is made in it.
        let outer = match self.plan.rights {
            Rights::Root => 0,
            Rights::User(_) => libc::CLONE_NEWUSER,
        };
        let child = loop {
            let bits = flags.iter().fold(outer, |bits, (_, flag)| bits | flag);
            match child::start(jail, bits, into.as_ref().map(AsFd::as_fd)) {
                Ok(child) => break child,
                Err(e) => {
                    // Without what cannot be and may be missing, once more.
                    let layer = self.without(&mut flags, &e)?;
                    jail.missing.insert(layer);
                }
            }
        };
        let pid = child.pid;
        self.cell.child = Some(child);
        let number = pid.as_raw_nonzero().get();
        self.journal.process = Some(ProcessRecord {
            pid: number,
            start_time: start_time(number).unwrap_or(0),
        });
        Ok(pid)
    }

    /// Takes one namespace that the kernel cannot make out of `flags`, if it may be missing.
    fn without(
        &mut self,
        flags: &mut Vec<(Layer, libc::c_int)>,
        e: &std::io::Error,
    ) -> Result<Layer, Refusal> {
        let found = flags
            .iter()
            .enumerate()
            .find_map(|(at, &(layer, _))| Some((at, layer, namespaces::obstacle(layer)?)));
        match found {
            Some((at, layer, why)) => {
                self.miss(layer, &format!("clone3: {e}: {why}"))?;
                flags.remove(at);
                Ok(layer)
            }
            None if self.plan.rights != Rights::Root => Err(Refusal::of(
                Layer::UserNs,
                match rights::obstacle() {
                    Some(why) => format!("a jail without root begins with a user namespace: {why}"),
                    None => format!(
                        "clone3 of a user namespace, with which a jail without root begins: \
                         {e}; this takes Linux 5.7 or later, and a system or container that \
                         allows it (`casemate doctor` tells more): mend that, or start the jail \
                         as root"
                    ),
                },
            )),
            None => Err(Refusal::new(format!(
                "clone3: {e}; the jailer needs CAP_SYS_ADMIN and Linux 5.7 or later, and must \
                 be allowed clone3 where it runs in a container"
            ))),
        }
    }

    /// Makes the cgroups that are not made yet, writes down everything that is there then,
    /// and lets the child join. Reads back meanwhile what cannot change any more.
    ///
    /// # Errors
    /// What could not be made or written.
    pub fn enter_cgroups(&mut self, control: BorrowedFd<'_>) -> Result<(), Refusal> {
        if self.cell.cgroup.is_none() {
            self.make_cgroups()?;
        }
        let mut plan = self.plan.clone();
        // Nobody reads a program back from it, and it is long.
        plan.policy.seccomp = None;
        self.journal.declared = Some(Declared {
            plan,
            cgroup: self.cell.cgroup.clone(),
            missing: BTreeMap::new(),
            absent: BTreeSet::new(),
            covered: BTreeSet::new(),
        });
        // Before anything can be in the cgroups: from now on a reaper may kill what is.
        self.write_journal()?;
        let failed = |e: &dyn std::fmt::Display| Refusal::of(Layer::Cgroup, e);
        let files = match &self.cell.cgroup {
            Some(cgroup) => cgroup.join_files().map_err(|e| failed(&e))?,
            None => Vec::new(),
        };
        if self.hierarchies.iter().any(|h| h.version == Version::V1) {
            let fds: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
            if let Err(e) = say(control, Word::Join, &fds) {
                // A child that is dead already is noticed by what comes next; one that lives
                // would wait for ever.
                let dead = [libc::EPIPE, libc::ECONNRESET];
                if !e.raw_os_error().is_some_and(|e| dead.contains(&e)) {
                    return Err(failed(&format!(
                        "cannot send the child its cgroups' files: {e}"
                    )));
                }
            }
        }
        drop(files);
        // It was the last that needed them, and the child is busy.
        self.drop_rights()?;
        if let Some(cgroup) = &mut self.cell.cgroup {
            cgroup.check();
        }
        namespaces::look_at_own();
        Ok(())
    }

    /// Makes the cgroups, which are written down before.
    fn make_cgroups(&mut self) -> Result<(), Refusal> {
        let plan = self.plan;
        self.journal.cgroups = cgroup::planned(&self.hierarchies, &plan.tenant, &plan.id);
        self.write_journal()?;
        if self.hierarchies.is_empty() {
            return Ok(());
        }
        if plan.rights != Rights::Root {
            for hierarchy in &self.hierarchies {
                match cgroup::Aside::step(hierarchy) {
                    Ok(aside) => self.cell.aside.extend(aside),
                    Err(e) => return self.miss(Layer::Cgroup, &e),
                }
            }
        }
        let made = CellCgroup::create(
            &self.hierarchies,
            &plan.tenant,
            &plan.id,
            &plan.policy.cgroup,
        );
        match made {
            Ok(cgroup) => {
                self.journal.cgroups = cgroup.records();
                self.cell.cgroup = Some(cgroup);
                Ok(())
            }
            Err(e) => self.miss(Layer::Cgroup, &e),
        }
    }

    /// Waits for what the child has to tell, and keeps most of it. Returns a note that asks for
    /// an answer; `None`: its end of the socket is closed.
    ///
    /// # Errors
    /// [`Note::Failed`], and a child that says nothing at all.
    pub fn hear(&mut self, wires: &Wired) -> Result<Option<Note>, Refusal> {
        loop {
            let Some(notes) = self.message(wires)? else {
                return Ok(None);
            };
            for note in notes {
                match note {
                    Note::Failed { layer, message } => return Err(Refusal { layer, message }),
                    // Both are the last of their message.
                    Note::NoProgram { .. } | Note::Ready { .. } => return Ok(Some(note)),
                    note => self.notes.add(note),
                }
            }
        }
    }

    /// Writes down what the child could not do, if there is anything, and returns all that it
    /// told.
    ///
    /// # Errors
    /// Where the journal cannot be written.
    pub fn all_heard(&mut self) -> Result<Notes, Refusal> {
        let notes = std::mem::take(&mut self.notes);
        let told = notes.missing.len() + notes.absent.len() + notes.covered.len();
        if told > 0
            && let Some(declared) = &mut self.journal.declared
        {
            declared.missing = notes.missing.clone();
            declared.absent = notes.absent.clone();
            declared.covered = notes.covered.clone();
            self.write_journal()?;
        }
        Ok(notes)
    }

    /// The child's next message.
    fn message(&self, wires: &Wired) -> Result<Option<Vec<Note>>, Refusal> {
        let mut fds = [PollFd::new(&wires.status, PollFlags::IN)];
        let limit = Timespec {
            tv_sec: CHILD_TIME.as_secs() as i64,
            tv_nsec: 0,
        };
        loop {
            match poll(&mut fds, Some(&limit)) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(1) => break,
                _ => {
                    return Err(Refusal::new(
                        "the child does not finish its steps; report this",
                    ));
                }
            }
        }
        match seqpacket::recv::<Vec<Note>>(wires.status.as_fd()) {
            Ok(Some((notes, _))) => Ok(Some(notes)),
            // Closed; or reset, where it was closed before our last word was read.
            Ok(None) | Err(seqpacket::SeqpacketError::Socket(_)) => Ok(None),
            Err(e) => Err(Refusal::new(format!("the child's notes: {e}; report this"))),
        }
    }

    /// Gives up the supervisor's rights, unless that is done already.
    ///
    /// # Errors
    /// The calls' own.
    pub fn drop_rights(&mut self) -> Result<(), Refusal> {
        if !self.dropped {
            own::drop_rights(&self.plan.rights)?;
            self.dropped = true;
        }
        Ok(())
    }

    /// Notes that a layer is not there, if it may be missing.
    fn miss(&mut self, layer: Layer, why: &dyn std::fmt::Display) -> Result<(), Refusal> {
        match self.plan.may_miss(layer) {
            true if layer == Layer::Cgroup && !self.asked.is_empty() => Err(Refusal::of(
                layer,
                format!(
                    "{why}; without it {} cannot be held, which you asked for: leave that out, \
                     or do not let it be missing",
                    self.asked.join(", ")
                ),
            )),
            true => {
                self.notes.missing.insert(layer, why.to_string());
                Ok(())
            }
            false => Err(Refusal::of(layer, why)),
        }
    }

    fn write_journal(&self) -> Result<(), Refusal> {
        self.cell
            .dir
            .write_journal(&self.journal)
            .map_err(Refusal::new)
    }
}

/// What is left of [`Wires`] once the child has its ends.
#[derive(Debug)]
pub struct Wired {
    /// The child.
    pub pid: Pid,
    /// For words.
    pub control: OwnedFd,
    /// For notes.
    pub status: OwnedFd,
}

impl Wires {
    /// Closes the child's ends here.
    pub fn of(self, pid: Pid) -> Wired {
        Wired {
            pid,
            control: self.control,
            status: self.status,
        }
    }
}
