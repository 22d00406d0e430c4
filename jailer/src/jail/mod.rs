//! A jail of any program, supervised in the calling process.
//!
//! ```text
//! check ── lock id ── reap stale ── slot ── journal ── clone3 ── cgroups ── maps
//!                                                        child: the layers, fork, wait
//! read back ── Go ── exec ── watch (signals, time, end) ── kill ── undo
//! ```
//! Two processes are in the jail before the program runs: an init of ours, and the program's,
//! which waits just before its exec until every layer was read back.

mod check;
mod report;
mod spawn;
mod watch;

use crate::cell::Cell;
use crate::child::Note;
use crate::layers::rlimits;
use crate::plan::{Plan, Program, Subject};
use crate::process::Exit;
use crate::readback::{Moment, Seen, environment_memory, judge};
use crate::record::{Ending, Record};
use crate::refusal::Refusal;
use crate::rights::{IdMap, Rights};
use crate::start::{CgroupWish, Start};
use crate::{clock, idmap, own};
use casemate_policy::Policy;
use casemate_proto::cell::{Layer, LayerReport, Usage};
use casemate_proto::id::{CellId, TenantId};
pub use report::RefusedCall;
use report::Report;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::fd::AsFd;
use std::path::PathBuf;

/// Most refused calls of a jail that the audit log is told of, one by one.
const MOST_DENIED: usize = 64;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub id: CellId,
    /// Directory of locks and journals.
    pub run_dir: PathBuf,
    /// Folder of the audit log; `None`: nothing is recorded.
    pub audit: Option<PathBuf>,
    /// All that it is held to; the wall-clock limit counts from the call on.
    pub policy: Policy,
    /// Program and arguments; at least the program.
    pub argv: Vec<CString>,
    /// Environment, `NAME=value` each, whole.
    pub environment: Vec<CString>,
    /// Working directory in the jail.
    pub workdir: CString,
    /// CPUs it may run on; empty: all.
    pub cpus: Vec<usize>,
    /// Shares a core with none but its own.
    pub core_scheduling: bool,
    /// The cgroup, in each hierarchy, below which its own are made.
    pub parent_cgroup: Option<String>,
    /// Limits of its cgroup that were asked for by name: it does not start without them, even
    /// where that layer may be missing.
    pub asked_limits: Vec<&'static str>,
    /// Which ids an ordinary user's jail has; root's must not say.
    pub id_map: Option<IdMap>,
    /// Layers that may be missing.
    pub allow_missing: BTreeSet<Layer>,
    /// Layers to leave out on purpose; refused but in a build for tests.
    pub leave_out: BTreeSet<Layer>,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It exited with this status.
    Exited(u8),
    /// A signal ended it.
    Signaled(u8),
    /// The kernel killed it for want of memory.
    OutOfMemory,
    /// Its time was over.
    Timeout,
    /// It cannot be executed.
    NotExecutable(String),
    /// There is no such program.
    NotFound(String),
}

/// Times, in microseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// The call.
    pub asked: u64,
    /// The program waited for its go.
    pub ready: Option<u64>,
    /// Everything was read back.
    pub go: Option<u64>,
    /// The program ended.
    pub ended: Option<u64>,
}

/// What is known of a jail, in the end or where it was refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// When things happened.
    pub times: Times,
    /// Every layer, declared beside observed.
    pub confinement: Vec<LayerReport>,
    /// What was used.
    pub usage: Usage,
    /// How often the kernel killed for want of memory.
    pub oom_kills: u32,
    /// How often a task was refused because of the limit on them.
    pub tasks_refused: u32,
    /// Calls that the policy refused, where its filter reports them.
    pub refused_calls: Vec<RefusedCall>,
}

/// Runs a program in a jail, from its start to its end and the removal of all of it.
///
/// The calling process must have one thread. It keeps only few rights afterwards, and the signals that ask for an end stay blocked in it.
///
/// # Errors
/// What the start is refused for; everything is undone then.
pub fn run(request: Request, account: &mut Account) -> Result<End, Refusal> {
    account.times.asked = clock::now_us();
    let rights = Rights::of_caller(request.id_map)?;
    check::request(&request, &rights)?;
    check::streams(&request.policy.keep_fds)?;
    let watch = watch::Watch::new(request.policy.wall_clock_ms)?;
    let mut record = Record::open(request.audit.as_deref(), &request.tenant, &request.id)?;
    record.own_binary("casemate")?;
    let result = recorded(request, rights, &watch, account, &mut record);
    match &result {
        Ok(end) => record.ended(ending(end, account)),
        Err(refusal) => record.refused(refusal),
    }
    result
}

/// From the lock to its removal.
fn recorded(
    request: Request,
    rights: Rights,
    watch: &watch::Watch,
    account: &mut Account,
    record: &mut Record,
) -> Result<End, Refusal> {
    let mut cell = Cell::take(
        &request.run_dir,
        &request.tenant,
        &request.id,
        rights.slots(),
        request.audit.as_deref(),
    )?;
    let lived = live(&mut cell, watch, request, rights, account, record);
    let over = cell.undo();
    account.usage = over.usage;
    account.oom_kills = over.oom_kills;
    account.tasks_refused = over.tasks_refused;
    Ok(match lived? {
        Life::Over(end) => end,
        Life::Program(Exit::Signal(libc::SIGKILL)) if over.oom_kills > 0 => End::OutOfMemory,
        Life::Program(Exit::Status(status)) => End::Exited(status as u8),
        Life::Program(Exit::Signal(signal)) => End::Signaled(signal as u8),
        // Without a word from the init: it was killed, and everybody with it.
        Life::Gone if over.oom_kills > 0 => End::OutOfMemory,
        Life::Gone => End::Signaled(libc::SIGKILL as u8),
    })
}

/// An end in the audit log's terms.
fn ending(end: &End, account: &Account) -> Ending {
    let (how, status, signal) = match end {
        End::Exited(code) => (format!("exited with status {code}"), Some(*code), None),
        End::Signaled(signal) => (format!("killed by signal {signal}"), None, Some(*signal)),
        End::OutOfMemory => ("killed for want of memory".to_owned(), None, None),
        End::Timeout => ("ended at its time limit".to_owned(), None, None),
        End::NotExecutable(why) => (format!("not executed: {why}"), None, None),
        End::NotFound(why) => (format!("not found: {why}"), None, None),
    };
    let denied = |call: &RefusedCall| {
        format!(
            "system call {} of thread {:?} (architecture {:#x})",
            call.number, call.thread, call.arch
        )
    };
    let calls = account.refused_calls.iter().take(MOST_DENIED);
    Ending {
        how,
        status: status.map(i32::from),
        signal: signal.map(i32::from),
        timeout: *end == End::Timeout,
        oom_kills: account.oom_kills,
        tasks_refused: account.tasks_refused,
        denied: calls.map(denied).collect(),
        usage: account.usage,
    }
}

/// How the watch over a jail ended.
enum Life {
    /// By a reason that is known.
    Over(End),
    /// The program ended.
    Program(Exit),
    /// The init was gone without a word.
    Gone,
}

fn live(
    cell: &mut Cell,
    watch: &watch::Watch,
    mut request: Request,
    rights: Rights,
    account: &mut Account,
    record: &mut Record,
) -> Result<Life, Refusal> {
    let program_name = request
        .argv
        .first()
        .map(|name| name.to_string_lossy().into_owned());
    let identity = match (&cell.slot, &rights) {
        (Some(slot), _) => slot.identity(),
        (None, Rights::User(launcher)) => launcher.identity,
        (None, Rights::Root) => return Err(Refusal::new("the cell has no user; report this")),
    };
    if rights != Rights::Root {
        let limits = rlimits::attainable(&request.policy.rlimits);
        request.policy.rlimits = limits.into();
    }
    let exec = spawn::exec(&request);
    let (parent, asked) = (request.parent_cgroup, request.asked_limits);
    let plan = Plan {
        subject: Subject::Program(Program {
            workdir: request.workdir.to_bytes().to_vec(),
            variables: spawn::names(&request.environment),
            outer_filters: own::filters(),
        }),
        tenant: request.tenant,
        id: request.id,
        policy: request.policy,
        rights,
        identity,
        cpus: request.cpus,
        core_scheduling: request.core_scheduling,
        allow_missing: request.allow_missing,
        leave_out: request.leave_out,
    };
    let mounts = &plan.policy.filesystem.mounts;
    let idmaps = idmap::of_mounts(mounts, &plan.rights, identity)?;
    let resolved = idmap::resolved(mounts, &plan.rights)?;
    let wish = CgroupWish {
        parent: parent.as_deref(),
        asked: &asked,
    };
    let mut start = Start::begin(&plan, cell, wish)?;
    let wired = spawn::spawn(&mut start, &exec, &idmaps, resolved)?;
    drop(idmaps);
    start.enter_cgroups(wired.control.as_fd())?;
    let environment = match start.hear(&wired)? {
        Some(Note::Ready { environment }) => environment,
        Some(Note::NoProgram { found, message }) => return Ok(no_program(found, message)),
        _ => {
            return Err(Refusal::new(
                "the child was killed before it was ready: see the kernel's log for the \
                 out-of-memory killer, and whether the policy's filter allows read, write and \
                 execve",
            ));
        }
    };
    account.times.ready = Some(clock::now_us());
    let program = watch::program(wired.control.as_fd())?;
    let notes = start.all_heard()?;
    let init = wired.pid;
    let unread = |e: String| {
        Refusal::new(format!(
            "cannot read the confinement back: {e}; mount /proc without hidepid"
        ))
    };
    let cgroup = start.cell.cgroup.as_ref();
    let look = || {
        let seen = Seen::look(program.pid, &plan, &notes, cgroup, Moment::Start)?;
        let mut seen = seen.with_init(init)?;
        seen.environment = environment_memory::read(seen.pid(), environment);
        Ok(seen.confinement())
    };
    account.confinement = plan.rights.look(program.pid, look).map_err(unread)?;
    judge(&account.confinement, &plan)?;
    // It cannot have been another process that was looked at.
    program.still_there()?;

    let mut report = Report::of(
        plan.policy.seccomp.as_ref(),
        program.pid.as_raw_nonzero().get(),
    )?;

    record.start(&plan, program_name, program.pid, &account.confinement)?;
    account.times.go = Some(clock::now_us());
    watch::go(wired.status.as_fd())?;
    let child = start.cell.child.as_ref().expect("spawned above");
    let life = watch.attend(child.pidfd.as_fd(), wired.control.as_fd(), &mut report)?;
    account.refused_calls = report.calls();
    account.times.ended = Some(clock::now_us());
    if matches!(life, Life::Over(_)) {
        return Ok(life);
    }
    // A program that was executed has closed its end of the socket without a word.
    match start.hear(&wired)? {
        Some(Note::NoProgram { found, message }) => Ok(no_program(found, message)),
        _ => Ok(life),
    }
}

fn no_program(found: bool, message: String) -> Life {
    Life::Over(match found {
        true => End::NotExecutable(message),
        false => End::NotFound(message),
    })
}
