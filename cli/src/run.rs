//! `casemate run`: one file a part, in the order in which a run meets them.

mod assemble;
mod capture;
mod cmdline;
pub(crate) mod duration;
mod kernel;
mod limits;
pub mod open;
mod reap;
mod relay;
pub(crate) mod report;
mod rootfs;
mod session;
mod signals;
mod terminal;
mod validate;
mod written;

use crate::args::RunArgs;
use crate::binaries::Binaries;
use crate::clock::now_us;
use crate::{Startup, say};
use assemble::Assembly;
use casemate_jailer::client::Jailer;
use casemate_proto::id::CellId;
use casemate_proto::status::{OWN_FAILURE, Outcome};
use report::Record;
use session::state::State;
use session::{Finished, Streams, outcome};
use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;

pub use reap::main as reap_main;

/// Any error: each is one line that names object and remedy.
type Failure = Box<dyn Error + Send + Sync>;

/// Runs a program in a cell; the exit status is `casemate_proto::status`.
pub fn main(args: &RunArgs, startup: &Startup) -> ExitCode {
    if let Some(Err(e)) = args.report.as_deref().map(report::check) {
        say::line(e.to_string());
        return ExitCode::from(OWN_FAILURE);
    }
    let mut record = Record::new(args, startup.started_us);
    let outcome = run(args, startup, &mut record).unwrap_or_else(|e| Outcome::OwnFailure {
        detail: say::plain(&e.to_string()),
    });
    let asked = outcome::Asked {
        program: record.program(),
        memory_mib: record.memory_mib(),
        timeout: args.timeout.as_deref().unwrap_or_default(),
    };
    if let Some(words) = outcome::words(&outcome, &asked) {
        say::line(words);
    }
    let mut status = outcome.exit_status();
    if let Some(path) = &args.report {
        let report = record.report(&outcome, status, now_us());
        if let Err(e) = report::write(path, &report) {
            say::line(e.to_string());
            status = OWN_FAILURE;
        }
    }
    ExitCode::from(status)
}

fn run(args: &RunArgs, startup: &Startup, record: &mut Record) -> Result<Outcome, Failure> {
    if let Some(fd) = startup.closed.iter().position(|&closed| closed) {
        return Err(closed(fd).into());
    }
    let plan = validate::validate(args, casemate_preflight::host_memory()?, random_id()?)?;
    record.understood(&plan);
    if plan.tty {
        terminal::check(&std::io::stdin())?;
    }
    let preflight = casemate_preflight::for_run();
    if let Some(obstacle) = preflight.obstacle(&plan.allow_missing) {
        return Err(obstacle.to_string().into());
    }
    let state_dir = std::path::absolute(&args.state.state_dir)?;
    let chosen = kernel::choose(plan.kernel.as_deref(), &state_dir)?;
    if let Some(chosen) = &chosen {
        assemble::check_memory(&plan, &chosen.artifact.name, chosen.needs(), 0)?;
    }
    let root = rootfs::resolve(plan.rootfs.as_deref(), &state_dir)?;
    record.rootfs = root.artifact.clone();
    let binaries = Binaries::find()?;
    let init = std::fs::read(&binaries.init)
        .map_err(|e| format!("{}: {e}; install it anew", binaries.init.display()))?;
    let chosen = match chosen {
        Some(chosen) => chosen,
        None => kernel::fetch(&state_dir, &init)?,
    };
    record.kernel = Some(chosen.artifact.clone());
    if root.image.is_some() && !chosen.mounts(root.format) {
        return Err(cannot_mount(&chosen.artifact.name, root.format).into());
    }
    let kernel = chosen.ready(&init, &state_dir)?;
    assemble::check_memory(&plan, &kernel.name, kernel.needs, kernel.initrd_len)?;
    let run_dir = std::path::absolute(&args.run_dir)?;
    let mut assembly = assemble::assemble(&plan, kernel, root, &binaries, &run_dir, args.verbose)?;
    assembly.launch.audit = args.audit.folder()?;
    record.limits = Some(assembly.launch.limits.clone());
    let console = args.console.as_deref().map(written::console).transpose()?;

    let Assembly {
        launch,
        attached,
        wires,
    } = assembly;
    let streams = Streams {
        stdin: std::io::stdin().as_fd().try_clone_to_owned()?,
        stdout: std::io::stdout().as_fd().try_clone_to_owned()?,
        stderr: std::io::stderr().as_fd().try_clone_to_owned()?,
        tty: plan.tty,
        console,
    };
    let mut exec = plan.exec.clone();
    if plan.tty {
        exec.tty = Some(terminal::size(&streams.stdin));
    }
    let outputs = if plan.tty { 1 } else { 2 };
    record.launched_us = Some(now_us());
    let jailer = Arc::new(Jailer::start(&binaries.jailer)?);
    jailer.launch(launch, &attached)?;
    // Else the streams' far ends would stay open here, and never end.
    drop(attached);
    let finished = session::run(&jailer, wires, streams, State::new(exec, outputs))?;
    // A supervisor that was killed could not clean up; the next one does, or we do.
    let clean = finished.state.over().refused.is_some() || finished.state.over().vm.is_some();
    if let Some(jailer) = Arc::into_inner(jailer)
        && let Err(e) = jailer.wait()
    {
        say::line(e.to_string());
    }
    if !clean {
        reap::after_a_death(&binaries.jailer, &run_dir);
    }
    Ok(conclude(finished, record, args.verbose))
}

fn conclude(finished: Finished, record: &mut Record, verbose: bool) -> Outcome {
    let Finished {
        state,
        console,
        log,
    } = finished;
    let outcome = state.over().outcome(&console, &log);
    record.marks = state.marks;
    record.usage = state.usage;
    record.oom_kills = state.over().oom_kills;
    record.confinement = state.confinement;
    if verbose {
        let ours = matches!(
            outcome,
            Outcome::Exited { .. } | Outcome::Signaled { .. } | Outcome::Timeout
        );
        let said = log.lines().map(|line| ("VMM", line));
        let shown = if ours { "" } else { &console };
        let printed = shown.lines().map(|line| ("guest", line));
        for (who, line) in said.chain(printed) {
            say::line(format!("{who}: {line}"));
        }
        say::line(report::summary(&record.phases(now_us())));
    }
    outcome
}

fn cannot_mount(kernel: &str, format: &str) -> String {
    format!(
        "the kernel {kernel} cannot mount a root of format {format}: give an image of another \
         format, or another kernel (casemate kernel list says what each mounts)"
    )
}

pub(crate) fn closed(fd: usize) -> &'static str {
    [
        "standard input is closed: give it /dev/null where the program needs none",
        "standard output is closed: give it /dev/null where nobody needs it",
        "standard error is closed: give it /dev/null where nobody needs it",
    ][fd]
}

/// Twelve hexadecimal digits: 48 bits, enough for cells that exist at one time.
pub(crate) fn random_id() -> Result<CellId, Failure> {
    let mut bytes = [0; 6];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|e| format!("/dev/urandom: {e}; name the cell with --id"))?;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(digits.parse()?)
}
