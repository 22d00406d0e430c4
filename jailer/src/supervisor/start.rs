//! From the launch to the end.

use super::watch::{Event, Watch};
use crate::cell::Cell;
use crate::child::{Child, Exec, Jail, Strings};
use crate::layers::Who;
use crate::plan::{Plan, Subject};
use crate::process::Exit;
use crate::readback::{Moment, Notes, Seen, judge, rss_beside};
use crate::record::{Ending, Record};
use crate::refusal::Refusal;
use crate::rights::Rights;
use crate::start::{CgroupWish, Start, Wired, Wires};
use crate::state::Identity;
use crate::vm;
use crate::vm::passed::Passed;
use crate::{clock, own};
use casemate_proto::cell::{FromJailer, Launch, Layer, LayerReport, StartTimes, VmEnd};
use casemate_proto::control::{Ended, Ready, ToVmm};
use casemate_proto::fds::{
    CONSOLE, CONTROL, DISK_BASE, INITRD, KERNEL, KVM, LOG, NULL, STREAM_BASE,
};
use casemate_proto::seqpacket;
use rustix::fs::{Mode, OFlags, open};
use serde::Serialize;
use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// Longest that the VMM may take to be ready: images are read in that time, and the host may
/// be an emulated one.
const READY_TIME: Duration = Duration::from_secs(60);
/// How long a VMM that said why it ends may take to end.
const GRACE: Duration = Duration::from_secs(2);

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
    vm::check(&launch)?;
    let passed = Passed::check(&launch, fds).map_err(Refusal::new)?;
    let mut record = Record::open(launch.audit.as_deref(), &launch.tenant, &launch.id)?;
    record.own_binary("casemate-jailer")?;
    record.binary("casemate-vmm", passed.vmm.as_fd())?;
    record.binary("kernel", passed.kernel.as_fd())?;
    if let Some(initrd) = &passed.initrd {
        record.binary("initramfs", initrd.as_fd())?;
    }
    let result = recorded(&watch, launch, passed, entered_us, &mut record);
    match &result {
        Ok((_, ending)) => record.ended(ending.clone()),
        Err(refusal) => record.refused(refusal),
    }
    result.map(|(ended, _)| ended)
}

/// From the lock to its removal.
fn recorded(
    watch: &Watch<'_>,
    launch: Launch,
    passed: Passed,
    entered_us: u64,
    record: &mut Record,
) -> Result<(FromJailer, Ending), Refusal> {
    let audit = launch.audit.as_deref();
    let mut cell = Cell::take(
        &launch.run_dir,
        &launch.tenant,
        &launch.id,
        Rights::Root.slots(),
        audit,
    )?;
    let mut noted = Noted {
        entered_us,
        rss: 0,
        record,
    };
    let lived = live(&mut cell, watch, launch, passed, &mut noted);
    let over = cell.undo();
    let (exit, mut usage) = (over.exit, over.usage);
    usage.vmm_rss_bytes = noted.rss;
    let end = match lived? {
        Life::Over(end) => end,
        Life::Exited => VmEnd::Died {
            how: exit.map_or_else(String::new, Exit::words),
        },
    };
    let ending = Ending {
        how: words(&end),
        status: exit.and_then(Exit::status),
        signal: exit.and_then(Exit::signal),
        timeout: end == VmEnd::Timeout,
        oom_kills: over.oom_kills,
        tasks_refused: over.tasks_refused,
        denied: Vec::new(),
        usage,
    };
    Ok((FromJailer::Ended { end, usage }, ending))
}

/// An end in the audit log's words.
fn words(end: &VmEnd) -> String {
    match end {
        VmEnd::Itself { ended } => match ended {
            Ended::Reset => "the guest reset".to_owned(),
            Ended::TripleFault => "the guest triple-faulted".to_owned(),
            Ended::Refused { message } => format!("the VMM refused: {message}"),
            Ended::Failed { message } => format!("the VMM failed: {message}"),
        },
        VmEnd::Stopped => "stopped".to_owned(),
        VmEnd::Timeout => "ended at its time limit".to_owned(),
        VmEnd::Died { how } => how.clone(),
    }
}

/// What is noted of a start on its way.
struct Noted<'a> {
    /// When the jailer was entered, microseconds.
    entered_us: u64,
    /// Resident memory of the VMM outside of guest memory, bytes.
    rss: u64,
    /// For the audit log.
    record: &'a mut Record,
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
    noted: &mut Noted<'_>,
) -> Result<Life, Refusal> {
    let slot = cell.slot.as_ref().expect("taken with the cell");
    let plan = plan(launch, &passed, slot.identity());
    let mut start = Start::begin(&plan, cell, CgroupWish::default())?;
    let wired = spawn(&mut start, &passed)?;
    // The child has its own copies.
    drop(passed);
    start.enter_cgroups(wired.control.as_fd())?;
    if start.hear(&wired)?.is_some() {
        return Err(Refusal::new("the child speaks out of turn; report this"));
    }
    let notes = start.all_heard()?;
    let child = cell.child.as_ref().expect("spawned above");
    let control = wired.control;
    let configure = match &plan.subject {
        Subject::Vm(vm) => ToVmm::Configure(vm.clone()),
        Subject::Program(_) => return Err(Refusal::new("no VM to configure; report this")),
    };
    tell(control.as_fd(), &configure, "VMM")?;
    judge_notes(&notes, &plan)?;
    let plan = &plan;
    let cgroup = cell.cgroup.as_ref();

    let ready = match wait_ready(watch, child, control.as_fd())? {
        Ok(ready) => ready,
        Err(life) => return Ok(life),
    };
    let seen = Seen::look(child.pid, plan, &notes, cgroup, Moment::Start).map_err(unread)?;
    let (confinement, resident) = read_back(&seen, &ready)?;
    noted.rss = resident;
    noted.record.start(plan, None, child.pid, &confinement)?;
    seqpacket::send(control.as_fd(), &ToVmm::Go, &[])
        .map_err(|e| Refusal::new(format!("the VMM does not take its go: {e}; see its log")))?;
    let running = FromJailer::Running {
        pid: child.pid.as_raw_nonzero().get(),
        confinement,
        times: StartTimes {
            jailer_entered: noted.entered_us,
            vmm_entered: ready.entered_us,
            vmm_ready: ready.ready_us,
            go: clock::now_us(),
        },
        vmm_rss_bytes: resident,
    };
    tell(watch.cli(), &running, "CLI")?;
    Ok(attend(watch, child, control.as_fd()))
}

/// The jail of a launch.
fn plan(launch: Launch, passed: &Passed, identity: Identity) -> Plan {
    Plan {
        policy: vm::policy(&launch, passed),
        tenant: launch.tenant,
        id: launch.id,
        subject: Subject::Vm(launch.vm),
        rights: Rights::Root,
        identity,
        cpus: Vec::new(),
        core_scheduling: false,
        allow_missing: launch.allow_missing,
        leave_out: launch.leave_out,
    }
}

/// Clones the child. Returns our ends of its sockets.
fn spawn(start: &mut Start<'_>, passed: &Passed) -> Result<Wired, Refusal> {
    let null = open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Refusal::new(format!("cannot open /dev/null: {e}; mend the host's /dev")))?;
    let wires = Wires::new()?;
    let number = |fd: &OwnedFd| fd.as_raw_fd();
    let mut placement: Vec<(RawFd, RawFd)> = vec![
        (NULL, number(&null)),
        (CONSOLE, number(&passed.console)),
        (LOG, number(&passed.log)),
        (CONTROL, number(&wires.control_end)),
        (KVM, number(&passed.kvm)),
        (KERNEL, number(&passed.kernel)),
    ];
    placement.extend(passed.initrd.iter().map(|fd| (INITRD, number(fd))));
    placement.extend((DISK_BASE..).zip(passed.disks.iter().map(|disk| number(&disk.fd))));
    placement.extend((STREAM_BASE..).zip(passed.streams.iter().map(number)));
    let exec = Exec {
        argv: Strings::new(Vec::new()),
        candidates: Vec::new(),
        environment: Strings::new(Vec::new()),
    };
    let mut jail = Jail {
        plan: start.plan,
        placement,
        binary: Some(number(&passed.vmm)),
        status: number(&wires.status_end),
        control: number(&wires.control_end),
        supervisors: vec![number(&wires.control), number(&wires.status)],
        idmaps: Vec::new(),
        resolved: Vec::new(),
        exec: &exec,
        chosen: 0,
        environment: own::environment(),
        joins: false,
        absent: BTreeSet::new(),
        forbidden: None,
        proc_self: None,
        notes: Vec::new(),
        missing: BTreeSet::new(),
        who: Who::Vm,
    };
    let pid = start.spawn(&mut jail)?;
    Ok(wires.of(pid))
}

/// Sends a message that `whom` waits for. One that is gone is noticed by what comes next.
fn tell<T: Serialize>(socket: BorrowedFd<'_>, message: &T, whom: &str) -> Result<(), Refusal> {
    match seqpacket::send(socket, message, &[]) {
        Err(e) if !e.is_gone() => Err(Refusal::new(format!(
            "cannot send a message to the {whom}: {e}; see that the host has memory left"
        ))),
        _ => Ok(()),
    }
}

/// What the child saw of itself must hold before the VMM is even waited for: without
/// no_new_privs it might not get as far as to say that it is ready.
fn judge_notes(notes: &Notes, plan: &Plan) -> Result<(), Refusal> {
    let broken = |layer, message: String| match plan.may_miss(layer) {
        true => Ok(()),
        false => Err(Refusal::of(layer, message)),
    };
    if notes.no_new_privs.is_none() {
        return Err(Refusal::new(
            "the child was killed before it became the VMM: see the kernel's log for the \
             out-of-memory killer",
        ));
    }
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

fn unread(e: impl std::fmt::Display) -> Refusal {
    Refusal::new(format!(
        "cannot read the VMM's confinement back: {e}; mount /proc without hidepid"
    ))
}

/// Reads the confinement back and judges it. Returns it with the VMM's resident memory.
fn read_back(seen: &Seen<'_>, ready: &Ready) -> Result<(Vec<LayerReport>, u64), Refusal> {
    let confinement = seen.confinement();
    judge(&confinement, seen.plan)?;
    let smaps = seen.read("smaps").map_err(unread)?;
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
