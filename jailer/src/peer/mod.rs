//! The command line of Firecracker's jailer, for tooling that is written for it.
//!
//! `casemate-jailer --id … --exec-file … --uid … --gid …` lays out the same folders, makes
//! the same devices, joins the same namespaces and cgroups, and executes the program with the
//! same arguments. What is added, what differs, and why: `docs/peer-jailer.md`.
//!
//! ```text
//! options ── binary, netns, cgroups found ── record locked, leftovers cleared ──┬── builder ── exec
//!                                                                               └── forked ── builder ── exec
//! ```

mod addition;
mod binary;
mod builder;
mod cgroups;
mod clear;
mod error;
mod flags;
mod folder;
mod forked;
mod landlock;
mod layout;
mod mounts;
mod netns;
mod options;
mod program;
mod readback;
mod reading;
mod record;
mod rights;
mod session;
mod values;

pub use addition::Addition;
pub use clear::reap;
pub use error::PeerError;
pub use program::Times;

use builder::Builder;
use options::{Options, Request};
use rustix::fs::Mode;
use rustix::process::{geteuid, umask};
use std::convert::Infallible;
use std::ffi::OsString;
use std::fs;
use std::process::ExitCode;

/// Exit status of a failure, as with the peer's jailer.
const FAILED: u8 = 1;

const HELP_BEFORE: &str = "\
usage: casemate-jailer --id ID --exec-file FILE --uid UID --gid GID [FLAG...] [-- ARG...]

Executes FILE with the ARGs in DIR/NAME/ID/root, taking the flags of Firecracker's jailer.

";

const HELP_AFTER: &str = "
Exit status: the program's, which this process becomes; 0 with --daemonize and --new-pid-ns
once the program is executed; 1 after a failure, which one line on standard error tells.
Leftovers of a jail that ended are cleared by the next start of its id, or by
`casemate-jailer reap`.
";

/// Whether arguments are for this command line.
pub fn is_meant(arguments: &[OsString]) -> bool {
    match arguments {
        [only] if only == "--version" || only == "--help" => false,
        [first, ..] => first.as_encoded_bytes().starts_with(b"--"),
        [] => false,
    }
}

/// Does what the arguments ask for. Returns the exit status of a process that did not become
/// the program.
pub fn run(arguments: Vec<OsString>, times: Times) -> ExitCode {
    let result = options::parse(arguments).map_err(PeerError::from);
    let result = result.and_then(|request| match request {
        Request::Help => {
            print!("{}", flags::help());
            Ok(())
        }
        Request::Version => {
            println!("casemate-jailer {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Request::Jail(options) => match jail(*options, times)? {},
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("casemate-jailer: {}", e.line());
            ExitCode::from(FAILED)
        }
    }
}

/// Finds all that there is to find, then builds.
fn jail(options: Options, times: Times) -> Result<Infallible, PeerError> {
    close_fds()?;
    if !geteuid().is_root() {
        return Err(PeerError::NotRoot(geteuid().as_raw()));
    }
    rights::check(&options)?;
    // Modes below are what they say; the program's is set before its exec.
    let mask = umask(Mode::empty());
    let binary = binary::Binary::find(&options)?;
    let base = fs::canonicalize(&options.base.0).map_err(|e| {
        let remedy = "make it (mkdir -p -m 755), or give --chroot-base-dir";
        PeerError::path("find the folder of the jails", &options.base.0, e, remedy)
    })?;
    let netns = options
        .netns
        .as_deref()
        .map(netns::Netns::open)
        .transpose()?;
    let cgroups = cgroups::plan(&options, &binary.name)?;
    let namespaces = readback::Namespaces::own()?;

    let id = options.id.as_str();
    let run = crate::state::RunDir::top(&options.run_dir)?;
    let record = record::Record::lock(&run, &base, &binary.name, id)?;
    let before = clear::clear(&record)?;
    let mut owners = vec![options.uid];
    let mut journal = record::Journal::new(&base, &binary.name, id, options.uid);
    match before {
        Some(before) => {
            owners.push(before.uid);
            journal.made = before.made;
        }
        None => {
            let refusal = match clear::stranger(&base, &binary.name, id, &owners) {
                Ok(None) => None,
                Ok(pid) => Some(PeerError::Running {
                    jail: journal.jail(),
                    process: pid,
                }),
                Err(e) => Some(e),
            };
            if let Some(refusal) = refusal {
                let _ = record.remove(&run);
                return Err(refusal);
            }
        }
    }
    let builder = Builder {
        journal,
        options,
        binary,
        base,
        owners,
        netns,
        cgroups,
        record,
        umask: mask,
        namespaces,
        times,
    };
    match builder.options.daemonize || builder.options.new_pid_ns {
        true => forked::run(builder),
        false => builder.run(std::process::id() as i32, true, || ()),
    }
}

/// Closes all but standard input, output and error.
fn close_fds() -> Result<(), PeerError> {
    // SAFETY: nothing in this process has opened an fd yet; what is there is the caller's.
    crate::layers::libc_result(unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) })
        .map(drop)
        .map_err(|e| PeerError::step("closing inherited fds", e, "run Linux 5.9 or later"))
}
