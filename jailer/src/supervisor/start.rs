//! From the launch to the end.

use super::cell::Cell;
use super::own;
use super::watch::{Event, Watch};
use crate::cgroup::{self, CellCgroup};
use crate::child::{self, Child, Jail, Note};
use crate::clock;
use crate::layers::namespaces;
use crate::passed::Passed;
use crate::plan::{self, Plan};
use crate::process::{Exit, start_time};
use crate::readback::{Notes, Seen, judge, rss_beside};
use crate::refusal::Refusal;
use crate::state::{self, CellDir, Journal, ProcessRecord, RunDir, Slot};
use casemate_proto::cell::{FromJailer, Launch, Layer, LayerReport, StartTimes, VmEnd};
use casemate_proto::control::{Ended, Ready, ToVmm};
use casemate_proto::fds::{
    CONSOLE, CONTROL, DISK_BASE, INITRD, KERNEL, KVM, LOG, NULL, STREAM_BASE,
};
use casemate_proto::seqpacket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::pipe::{PipeFlags, pipe_with};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// Longest that the child's steps may take.
const CHILD_TIME: Duration = Duration::from_secs(30);
/// Longest that the VMM may take to be ready: images are read in that time, and the host may
/// be an emulated one.
const READY_TIME: Duration = Duration::from_secs(60);
/// How long a VMM that said why it ends may take to end.
const GRACE: Duration = Duration::from_secs(2);
/// Most bytes the child may say of itself.
const MAX_NOTES: u64 = 64 << 10;

/// Serves one launch. Returns the last message for the CLI.
///
/// # Errors
/// What the start is refused for; everything is undone then.
pub fn start(
    watch: Watch<'_>,
    launch: Launch,
    fds: Vec<OwnedFd>,
    entered_us: u64,
) -> Result<FromJailer, Refusal> {
    own::must_be_root()?;
    plan::check(&launch)?;
    let passed = Passed::check(&launch, fds).map_err(Refusal::new)?;
    let run = RunDir::top(&launch.run_dir).map_err(Refusal::new)?;
    let dir = CellDir::lock(&run, &launch.tenant, &launch.id).map_err(Refusal::new)?;
    let mut cell = Cell {
        run,
        dir,
        slot: None,
        plan: None,
        child: None,
    };
    let mut rss = 0;
    let lived = live(&mut cell, &watch, launch, passed, entered_us, &mut rss);
    let (exit, mut usage) = cell.undo();
    usage.vmm_rss_bytes = rss;
    Ok(FromJailer::Ended {
        end: match lived? {
            Life::Over(end) => end,
            Life::Exited => VmEnd::Died {
                how: exit.map_or_else(String::new, Exit::words),
            },
        },
        usage,
    })
}

/// How the watch over a cell ended.
enum Life {
    /// By a reason that is known.
    Over(VmEnd),
    /// Its process exited without a word.
    Exited,
}

fn live(
    cell: &mut Cell,
    watch: &Watch<'_>,
    launch: Launch,
    passed: Passed,
    entered_us: u64,
    rss: &mut u64,
) -> Result<Life, Refusal> {
    // The id may have been a cell whose supervisor was killed.
    state::clear(&cell.dir).map_err(Refusal::new)?;
    let slot = cell
        .slot
        .insert(Slot::take(&cell.run).map_err(Refusal::new)?);
    let identity = slot.identity();

    let mut missing = Notes::default();
    let mut journal = Journal::new();
    let cgroup = make_cgroup(&cell.dir, &launch, &mut journal, &mut missing)?;
    let plan = &*cell
        .plan
        .insert(Plan::new(launch, &passed, identity, cgroup));

    let (control, status) = {
        let (child, control, status) = spawn(plan, &passed, &mut missing)?;
        let child = cell.child.insert(child);
        journal.vmm = Some(ProcessRecord {
            pid: child.pid.as_raw_nonzero().get(),
            start_time: start_time(child.pid.as_raw_nonzero().get()).unwrap_or(0),
        });
        cell.dir.write_journal(&journal).map_err(Refusal::new)?;
        (control, status)
    };
    // The child has its own copies.
    drop(passed);
    own::drop_rights()?;
    let child = cell.child.as_ref().expect("spawned above");
    let configure = ToVmm::Configure(plan.launch.vm.clone());
    // A child that is dead already is noticed by what comes next.
    let _ = seqpacket::send(control.as_fd(), &configure, &[]);
    let notes = child_notes(status, missing)?;
    judge_notes(&notes, plan)?;

    let ready = match wait_ready(watch, child, control.as_fd())? {
        Ok(ready) => ready,
        Err(life) => return Ok(life),
    };
    let (confinement, resident) = read_back(child, plan, &notes, &ready)?;
    *rss = resident;
    seqpacket::send(control.as_fd(), &ToVmm::Go, &[])
        .map_err(|e| Refusal::new(format!("the VMM does not take its go: {e}; see its log")))?;
    let running = FromJailer::Running {
        pid: child.pid.as_raw_nonzero().get(),
        confinement,
        times: StartTimes {
            jailer_entered: entered_us,
            vmm_entered: ready.entered_us,
            vmm_ready: ready.ready_us,
            go: clock::now_us(),
        },
        vmm_rss_bytes: resident,
    };
    // A CLI that is gone is noticed by the watch.
    let _ = seqpacket::send(watch.cli(), &running, &[]);
    Ok(attend(watch, child, control.as_fd()))
}

/// Makes the cell's cgroup, with the journal one step ahead all the way.
fn make_cgroup(
    dir: &CellDir,
    launch: &Launch,
    journal: &mut Journal,
    notes: &mut Notes,
) -> Result<Option<CellCgroup>, Refusal> {
    if cfg!(feature = "layer-off") && launch.leave_out.contains(&Layer::Cgroup) {
        return Ok(None);
    }
    let write = |journal: &Journal| dir.write_journal(journal).map_err(Refusal::new);
    let made = cgroup::detect().inspect(|hierarchies| {
        journal.cgroups = cgroup::planned(hierarchies, &launch.tenant, &launch.id);
    });
    write(journal)?;
    let made = made.and_then(|hierarchies| {
        CellCgroup::create(&hierarchies, &launch.tenant, &launch.id, &launch.limits)
    });
    match made {
        Ok(cgroup) => {
            journal.cgroups = cgroup.records();
            match write(journal) {
                Ok(()) => Ok(Some(cgroup)),
                Err(refusal) => {
                    let _ = cgroup.remove();
                    Err(refusal)
                }
            }
        }
        Err(e) if launch.allow_missing.contains(&Layer::Cgroup) => {
            notes.missing.insert(Layer::Cgroup, e.to_string());
            Ok(None)
        }
        Err(e) => Err(Refusal::of(Layer::Cgroup, e)),
    }
}

/// Clones the child. Returns it with our ends of control socket and status pipe.
fn spawn(
    plan: &Plan,
    passed: &Passed,
    notes: &mut Notes,
) -> Result<(Child, OwnedFd, OwnedFd), Refusal> {
    let failed = |what: &str, e: &dyn std::fmt::Display| {
        Refusal::new(format!("cannot make {what}: {e}; raise ulimit -n"))
    };
    let null = open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| failed("an fd of /dev/null", &e))?;
    let (ours, theirs) = seqpacket::pair().map_err(|e| failed("the control socket", &e))?;
    let (status, status_end) =
        pipe_with(PipeFlags::CLOEXEC).map_err(|e| failed("the status pipe", &e))?;

    let mut placement: Vec<(RawFd, BorrowedFd<'_>)> = vec![
        (NULL, null.as_fd()),
        (CONSOLE, passed.console.as_fd()),
        (LOG, passed.log.as_fd()),
        (CONTROL, theirs.as_fd()),
        (KVM, passed.kvm.as_fd()),
        (KERNEL, passed.kernel.as_fd()),
    ];
    placement.extend(passed.initrd.iter().map(|fd| (INITRD, fd.as_fd())));
    placement.extend((DISK_BASE..).zip(passed.disks.iter().map(|disk| disk.fd.as_fd())));
    placement.extend((STREAM_BASE..).zip(passed.streams.iter().map(AsFd::as_fd)));

    let mut flags: Vec<Layer> = namespaces::CLONED
        .into_iter()
        .filter(|&layer| !plan.leaves_out(layer))
        .collect();
    let cgroup_fd = plan.cgroup.as_ref().and_then(CellCgroup::clone_into);
    let mut jail = Jail {
        plan,
        placement,
        vmm: passed.vmm.as_raw_fd(),
        status: status_end.as_raw_fd(),
        control: theirs.as_raw_fd(),
        supervisors: vec![ours.as_raw_fd(), status.as_raw_fd()],
        environment: environment(),
        missing: absent(&flags),
    };
    let child = loop {
        match child::start(&mut jail, &flags, cgroup_fd) {
            Ok(child) => break child,
            Err(e) => {
                // Without what cannot be and may be missing, once more.
                let layer = without(&mut flags, plan, notes, &e)?;
                jail.missing.insert(layer);
            }
        }
    };
    Ok((child, ours, status))
}

/// Namespaces that the child will not have.
fn absent(flags: &[Layer]) -> BTreeSet<Layer> {
    namespaces::CLONED
        .into_iter()
        .filter(|layer| !flags.contains(layer))
        .collect()
}

/// Takes one namespace that the kernel cannot make out of `flags`, if it may be missing.
fn without(
    flags: &mut Vec<Layer>,
    plan: &Plan,
    notes: &mut Notes,
    e: &std::io::Error,
) -> Result<Layer, Refusal> {
    let found = flags
        .iter()
        .enumerate()
        .find_map(|(at, &layer)| Some((at, layer, namespaces::obstacle(layer)?)));
    match found {
        Some((at, layer, why)) if plan.may_miss(layer) => {
            flags.remove(at);
            notes.missing.insert(layer, why);
            Ok(layer)
        }
        Some((_, layer, why)) => Err(Refusal::of(layer, format!("clone3: {e}: {why}"))),
        None => Err(Refusal::new(format!(
            "clone3: {e}; the jailer needs CAP_SYS_ADMIN and Linux 5.7 or later, and must be \
             allowed clone3 where it runs in a container"
        ))),
    }
}

/// This process' environment, as exec takes it; for the jailer that leaves that layer out.
fn environment() -> *const *const libc::c_char {
    unsafe extern "C" {
        static environ: *const *const libc::c_char;
    }
    // SAFETY: libc's own variable, which this program never changes.
    unsafe { environ }
}

/// Reads what the child says until the exec closes its end of the pipe.
fn child_notes(status: OwnedFd, mut notes: Notes) -> Result<Notes, Refusal> {
    let stuck = || Refusal::new("the child does not finish its steps; report this");
    let mut fds = [PollFd::new(&status, PollFlags::IN)];
    let limit = Timespec {
        tv_sec: CHILD_TIME.as_secs() as i64,
        tv_nsec: 0,
    };
    let mut text = Vec::new();
    let mut pipe = File::from(
        status
            .try_clone()
            .map_err(|e| Refusal::new(e.to_string()))?,
    )
    .take(MAX_NOTES);
    let mut part = [0; 4096];
    loop {
        match poll(&mut fds, Some(&limit)) {
            Ok(0) => return Err(stuck()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return Err(stuck()),
        }
        match pipe.read(&mut part) {
            Ok(0) => break,
            Ok(n) => text.extend_from_slice(&part[..n]),
            Err(_) => return Err(stuck()),
        }
    }
    for line in BufReader::new(&text[..]).lines().map_while(Result::ok) {
        match serde_json::from_str(&line) {
            Ok(Note::Failed { layer, message }) => return Err(Refusal { layer, message }),
            Ok(note) => notes.add(note),
            Err(e) => return Err(Refusal::new(format!("the child's note: {e}; report this"))),
        }
    }
    if notes.no_new_privs.is_none() {
        return Err(Refusal::new(
            "the child was killed before it became the VMM: see the kernel's log for the \
             out-of-memory killer",
        ));
    }
    Ok(notes)
}

/// What the child saw of itself must hold before the VMM is even waited for: without
/// no_new_privs it might not get as far as to say that it is ready.
fn judge_notes(notes: &Notes, plan: &Plan) -> Result<(), Refusal> {
    let broken = |layer, message: String| match plan.may_miss(layer) {
        true => Ok(()),
        false => Err(Refusal::of(layer, message)),
    };
    if notes.no_new_privs == Some(false) {
        broken(
            Layer::NoNewPrivs,
            "the layer no-new-privs does not hold: it was 0 before the exec; \
             run Linux 3.5 or later"
                .to_owned(),
        )?;
    }
    if let Some(Err(worked)) = &notes.landlock {
        broken(
            Layer::Landlock,
            format!("the layer landlock does not hold: {worked}; run another kernel"),
        )?;
    }
    Ok(())
}

/// `Err`: the cell is over before it was ready.
fn wait_ready(
    watch: &Watch<'_>,
    child: &Child,
    control: BorrowedFd<'_>,
) -> Result<Result<Ready, Life>, Refusal> {
    let limit = Instant::now() + READY_TIME;
    Ok(
        match watch.next(child.pidfd.as_fd(), Some(control), Some(limit)) {
            Event::Ready(ready) => Ok(ready),
            Event::Ended(ended) => Err(Life::Over(VmEnd::Itself { ended })),
            Event::Exited => Err(Life::Exited),
            Event::Stop | Event::Abandoned => Err(Life::Over(VmEnd::Stopped)),
            Event::Timeout => Err(Life::Over(VmEnd::Timeout)),
            Event::Broken(how) => {
                return Err(Refusal::new(format!(
                    "the VMM does not keep to the protocol: {how}; use the casemate-vmm of this release"
                )));
            }
            Event::Waited => {
                return Err(Refusal::new(format!(
                    "the VMM is not ready after {} s: see its log",
                    READY_TIME.as_secs()
                )));
            }
        },
    )
}

/// Reads the confinement back and judges it. Returns it with the VMM's resident memory.
fn read_back(
    child: &Child,
    plan: &Plan,
    notes: &Notes,
    ready: &Ready,
) -> Result<(Vec<LayerReport>, u64), Refusal> {
    let unread = |e: String| {
        Refusal::new(format!(
            "cannot read the VMM's confinement back: {e}; mount /proc without hidepid"
        ))
    };
    let seen = Seen::look(child.pid, plan, notes).map_err(unread)?;
    let confinement = seen.confinement();
    judge(&confinement, plan)?;
    let smaps = seen.read("smaps").map_err(|e| unread(e.to_string()))?;
    Ok((confinement, rss_beside(&smaps, &ready.guest_memory)))
}

/// Watches over a running cell until it is over.
fn attend(watch: &Watch<'_>, child: &Child, control: BorrowedFd<'_>) -> Life {
    let pidfd = child.pidfd.as_fd();
    match watch.next(pidfd, Some(control), None) {
        Event::Exited => Life::Exited,
        Event::Stop | Event::Abandoned => Life::Over(VmEnd::Stopped),
        Event::Timeout => Life::Over(VmEnd::Timeout),
        Event::Ended(ended) => {
            // It may finish by itself, but what it said stands.
            let limit = Instant::now() + GRACE;
            let _ = watch.next(pidfd, None, Some(limit));
            Life::Over(VmEnd::Itself { ended })
        }
        // Whatever breaks the protocol is killed, and that is its end.
        Event::Ready(_) => broken("it said twice that it is ready"),
        Event::Broken(how) => broken(&how),
        Event::Waited => broken("a wait without a limit ended"),
    }
}

fn broken(how: &str) -> Life {
    Life::Over(VmEnd::Itself {
        ended: Ended::Failed {
            message: format!("the VMM was killed because it broke the protocol: {how}"),
        },
    })
}
