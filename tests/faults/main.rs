//! Every system call of a jailer, killed at and failed, one at a time (strace(1)).
//!
//! A whole start is traced once, which gives the calls that each of the jailer's processes
//! makes up to the program's exec. Then there is one start for each of them, in which that
//! call kills its process, or fails. Whatever comes of it: nothing runs that is not whole,
//! nothing lives on, a start that fails says why in one line, the next start of the same id is
//! as if nothing had been and leaves nothing, and the audit log is whole.
//!
//! Of the failures a quarter is tried, a different one for each error, unless
//! `CASEMATE_FAULTS=all` is in the environment; the kills are always all of them.

mod subject;
mod trace;

use casemate_tests::proc::Process;
use casemate_tests::{cell, leftovers};
use std::path::Path;
use std::time::{Duration, Instant};
use subject::Subject;
use trace::Point;

/// What happens at a call.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Kill,
    Error(&'static str),
}

impl Fault {
    /// As strace's `-e inject=` has it.
    fn action(self) -> String {
        match self {
            Self::Kill => "signal=KILL".to_owned(),
            Self::Error(name) => format!("error={name}"),
        }
    }
}

/// Calls that no kernel fails, or that are made by libc where it looks at no answer, and
/// reading the clock. Whatever close(2) answers, the fd is closed; strace would leave it open.
const NOT_FAILED: &[&str] = &[
    "arch_prctl",
    "brk",
    "clock_gettime",
    "close",
    "execve",
    "exit",
    "exit_group",
    "getegid",
    "geteuid",
    "getgid",
    "getpid",
    "getrandom",
    "gettid",
    "getuid",
    "mmap",
    "mprotect",
    "munmap",
    "poll",
    "rseq",
    "rt_sigaction",
    "set_robust_list",
    "set_tid_address",
    "sigaltstack",
    "umask",
];

/// Every which failure is tried, and the first of them.
fn share(fault: Fault) -> (usize, usize) {
    let all = std::env::var_os("CASEMATE_FAULTS").is_some_and(|v| v == "all");
    match fault {
        Fault::Error("EPERM") if !all => (4, 0),
        Fault::Error("ENOMEM") if !all => (4, 1),
        Fault::Error("ENOSPC") if !all => (4, 2),
        Fault::Error(_) if !all => (4, 3),
        _ => (1, 0),
    }
}

/// Tries one fault at every call of a jailer.
fn sweep(subject: &dyn Subject, fault: Fault) {
    let run_dir = cell::run_folder();
    let run_dir = run_dir.path();
    // The first start also begins the audit log.
    let whole = subject.plain(run_dir);
    let (traced, trace) = subject.traced(run_dir);
    assert_eq!(traced, whole, "being traced alone makes no difference");
    assert!(subject.is_whole(&whole), "{whole:?}");
    let mut points = trace::points(&trace, subject.program());
    if fault != Fault::Kill {
        points.retain(|p| !NOT_FAILED.contains(&p.call.as_str()));
    }
    let (every, first) = share(fault);
    let chosen: Vec<Point> = points.into_iter().skip(first).step_by(every).collect();
    assert!(chosen.len() > 40, "only {} calls were seen", chosen.len());
    let mut hits = 0;
    for point in &chosen {
        let at = format!("{fault:?} at {point}");
        let (ran, trace) = subject.faulted(run_dir, point, &fault.action());
        let hit = trace::hit(&trace, fault == Fault::Kill);
        hits += usize::from(hit);
        // A quarter of what ran is not a half-jailed program: its lines are a whole one's.
        assert!(
            ran.only_lines_of(&whole),
            "{at}: {ran:?}, where a whole start gives {whole:?}"
        );
        let before_exec = !trace::had_started(&trace, subject.program());
        if fault != Fault::Kill && hit && before_exec && !ran.spoke() {
            // strace fails a call by making it one of no number, for which a filter kills.
            let filtered = trace.contains("+++ killed by SIGSYS");
            assert!(ran.failed_in_one_line() || filtered, "{at}: {ran:?}");
        }
        nothing_lives(run_dir, &at);
        let again = subject.plain(run_dir);
        assert_eq!(again, whole, "the start after {at}");
        assert_eq!(
            leftovers::all(run_dir),
            Vec::<String>::new(),
            "{at}, and a start after it"
        );
    }
    // Whatever was interrupted, the log is whole, and nothing ran that it does not know of.
    let verdict = subject.log().verdict();
    assert!(verdict.is_whole(), "{verdict:?}");
    // A call may be made a different number of times from start to start.
    assert!(
        hits * 20 >= chosen.len() * 19,
        "only {hits} of {} faults hit",
        chosen.len()
    );
    println!("{fault:?}: {hits} of {} faults hit", chosen.len());
}

/// No process and no mount is left, soon. Files and cgroups are the next start's to clear.
fn nothing_lives(run_dir: &Path, at: &str) {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let mut left = leftovers::all(run_dir);
        left.retain(|what| what.starts_with("process") || what.starts_with("mount"));
        if left.is_empty() {
            return;
        }
        if Instant::now() > deadline {
            for process in left.iter().filter_map(|what| what.split(' ').nth(1)) {
                if let Ok(pid) = process.parse() {
                    Process(pid).kill();
                }
            }
            panic!("{at}: left {left:?}");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

macro_rules! sweeps {
    ($(fn $test:ident() = $subject:expr, $fault:expr;)*) => {$(
        #[test]
        fn $test() {
            sweep(&$subject, $fault);
        }
    )*};
}

sweeps! {
    fn a_jail_killed_at_every_call() = subject::Jail::new(), Fault::Kill;
    fn a_jail_refused_every_call() = subject::Jail::new(), Fault::Error("EPERM");
    fn a_jail_without_memory_at_every_call() = subject::Jail::new(), Fault::Error("ENOMEM");
    fn a_jail_without_space_at_every_call() = subject::Jail::new(), Fault::Error("ENOSPC");
    fn a_jail_without_fds_at_every_call() = subject::Jail::new(), Fault::Error("EMFILE");
    fn a_vm_killed_at_every_call() = subject::Vm::new(), Fault::Kill;
    fn a_vm_refused_every_call() = subject::Vm::new(), Fault::Error("EPERM");
    fn a_vm_without_memory_at_every_call() = subject::Vm::new(), Fault::Error("ENOMEM");
    fn a_vm_without_space_at_every_call() = subject::Vm::new(), Fault::Error("ENOSPC");
    fn a_vm_without_fds_at_every_call() = subject::Vm::new(), Fault::Error("EMFILE");
}
