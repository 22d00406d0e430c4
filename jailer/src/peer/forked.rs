//! `--daemonize` and `--new-pid-ns`: the program is another process than the jailer.
//!
//! ```text
//! jailer ──fork── (leader of a new session) ──clone── builder ──exec── program
//!   │   only with --daemonize, exits at once            ▲   │
//!   ├── writes the journal, then: go, with its pid ─────┘   │
//!   └── waits until the exec has closed this pipe ◄─────────┘
//! ```
//! The peer's jailer exits before its program is executed, with status 0 in any case. Here
//! it waits for the exec: a failure is its own, is told on its standard error, and leaves
//! nothing.

use super::builder::Builder;
use super::clear;
use super::error::PeerError;
use super::options::Options;
use crate::layers::libc_result;
use crate::process::start_time;
use crate::state::ProcessRecord;
use rustix::process::{Pid, WaitOptions, getpid, setsid, waitpid};
use std::convert::Infallible;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::process::exit;

/// Says that only the exec is left.
const READY: u8 = b'+';
/// Longest message of the builder that is passed on.
const MAX_SAID: u64 = 16 << 10;
/// Exit status of a builder that failed.
const FAILED: i32 = 1;

/// Builds in another process and exits 0 once that is the program.
///
/// # Errors
/// What the other process failed with; everything is undone then.
pub fn run(mut builder: Builder) -> Result<Infallible, PeerError> {
    let failed = |e: std::io::Error| PeerError::step("making a pipe", e, "raise ulimit -n");
    let (go, go_end) = std::io::pipe().map_err(failed)?;
    let (said, said_end) = std::io::pipe().map_err(failed)?;
    builder.times = builder.times.and_this_process();
    let pid = match builder.options.daemonize {
        true => daemon(&mut builder)?,
        false => match copy(&builder.options)? {
            Some(pid) => Side::Caller(pid),
            None => Side::Builder,
        },
    };
    let pid = match pid {
        Side::Caller(pid) => pid,
        Side::Builder => {
            drop((go_end, said));
            be_builder(builder, go, said_end)
        }
    };
    drop((go, said_end));
    builder.journal.process = Some(ProcessRecord {
        pid,
        start_time: start_time(pid).unwrap_or(0),
    });
    let outcome = builder
        .record
        .write(&builder.journal)
        .and_then(|()| oversee(pid, go_end, said));
    match outcome {
        Ok(()) => exit(0),
        Err(e) => {
            // The builder has written down more than is known here.
            if let Ok(Some(journal)) = builder.record.journal()
                && clear::undo(&journal).is_ok()
            {
                let _ = builder.record.forget(&builder.options.run_dir);
            }
            Err(e)
        }
    }
}

enum Side {
    Caller(i32),
    Builder,
}

/// Lets the builder begin, and waits for its exec or its word.
fn oversee(pid: i32, mut go: PipeWriter, said: PipeReader) -> Result<(), PeerError> {
    let killed = || {
        PeerError::step(
            "the process that was to become the program",
            "it was killed before",
            "see the kernel's log for the out-of-memory killer",
        )
    };
    go.write_all(&pid.to_ne_bytes()).map_err(|_| killed())?;
    drop(go);
    let mut text = Vec::new();
    said.take(MAX_SAID)
        .read_to_end(&mut text)
        .map_err(|e| PeerError::step("waiting for the exec", e, "report this"))?;
    match text.split_first() {
        None => Err(killed()),
        Some((&READY, [])) => Ok(()),
        Some((&READY, message)) => Err(PeerError::Said(
            String::from_utf8_lossy(message).into_owned(),
        )),
        Some(_) => Err(PeerError::Said(String::from_utf8_lossy(&text).into_owned())),
    }
}

fn be_builder(builder: Builder, mut go: PipeReader, mut said: PipeWriter) -> ! {
    let mut pid = [0; 4];
    // Its end without a pid: the jailer was killed before it had written down who we are.
    if go.read_exact(&mut pid).is_err() {
        exit(FAILED);
    }
    drop(go);
    let mut ready = said.try_clone().ok();
    let result = builder.run(i32::from_ne_bytes(pid), false, || {
        if let Some(said) = &mut ready {
            let _ = said.write_all(&[READY]);
        }
    });
    let Err(e) = result;
    let _ = said.write_all(e.line().as_bytes());
    exit(FAILED)
}

/// Makes the builder by way of the leader of a new session, which exits at once: so it is
/// none itself, and can get no terminal again.
fn daemon(builder: &mut Builder) -> Result<Side, PeerError> {
    let failed =
        |e: std::io::Error| PeerError::step("making a daemon", e, "raise ulimit -u and -n");
    let (mut pids, mut pids_end) = std::io::pipe().map_err(failed)?;
    let Some(leader) = fork(0).map_err(failed)? else {
        drop(pids);
        // Cannot fail: a process just forked leads no group.
        let _ = setsid();
        builder.times = builder.times.and_this_process();
        return match copy(&builder.options) {
            Ok(None) => Ok(Side::Builder),
            Ok(Some(pid)) => {
                let _ = pids_end.write_all(&pid.to_ne_bytes());
                exit(0)
            }
            Err(_) => exit(FAILED),
        };
    };
    drop(pids_end);
    let mut pid = [0; 4];
    let read = pids.read_exact(&mut pid).map_err(failed);
    let leader = Pid::from_raw(leader).expect("a fork's result that is not 0");
    let _ = waitpid(Some(leader), WaitOptions::empty());
    read.map(|()| Side::Caller(i32::from_ne_bytes(pid)))
}

/// Forks the builder, into a pid namespace of its own where asked for. `None`: we are it.
fn copy(options: &Options) -> Result<Option<i32>, PeerError> {
    let leads = leads_its_session();
    let flags = match options.new_pid_ns {
        true => libc::CLONE_NEWPID,
        false => 0,
    };
    let pid = fork(flags).map_err(|e| {
        PeerError::step(
            "starting the program's process",
            e,
            "run the jailer with CAP_SYS_ADMIN, and see /proc/sys/user/max_pid_namespaces",
        )
    })?;
    if pid.is_none() && leads && !options.daemonize {
        // Our exit would send the session's other processes SIGHUP, this one too.
        let _ = setsid();
    }
    Ok(pid)
}

/// Whether this process leads its session (setsid(2)).
///
/// By libc: the leader may be outside the pid namespace that the jailer was started in, as a
/// container's is for what `exec` starts there. getsid(2) then answers 0, and rustix's type
/// for a pid has no room for it.
fn leads_its_session() -> bool {
    // SAFETY: takes a number, gives a number.
    (unsafe { libc::getsid(0) }) == getpid().as_raw_nonzero().get()
}

/// fork(2), with flags for clone(2).
fn fork(flags: libc::c_int) -> std::io::Result<Option<i32>> {
    // SAFETY: without CLONE_VM and without a stack, clone is fork: the child goes on here
    // with a copy of all memory. This process has one thread, so no lock can be held in the
    // copy by a thread that is not there.
    let pid = libc_result(unsafe {
        libc::syscall(
            libc::SYS_clone,
            libc::c_long::from(flags | libc::SIGCHLD),
            0,
            0,
            0,
            0,
        )
    })?;
    Ok((pid != 0).then_some(pid as i32))
}
