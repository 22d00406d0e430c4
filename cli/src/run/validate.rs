//! What the arguments mean. Nothing is opened or made here; the first argument
//! that cannot be meant ends the run with one line.

use super::duration::{self, DurationError};
use crate::args::RunArgs;
use casemate_proto::agent::{self, Exec};
use casemate_proto::cell::{Layer, UnknownLayer};
use casemate_proto::fds::MAX_VCPUS;
use casemate_proto::id::{CellId, NameError, TenantId};
use casemate_proto::size::{ByteSize, MIB, SizeError};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// Least guest memory: below it no kernel starts.
pub const LEAST_MEMORY: ByteSize = ByteSize::mib(32);
/// Most guest memory the VMM lays out.
pub const MOST_MEMORY: ByteSize = ByteSize::mib(64 << 10);
/// Longest addition to the kernel's command line, in bytes (x86 takes 2048 in all).
const MOST_CMDLINE: usize = 1024;

const PATH: &[u8] = b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An argument that cannot be meant.
#[derive(Debug, Error)]
pub enum ArgumentError {
    /// No program.
    #[error("no program is given: casemate run [OPTIONS] -- CMD [ARG...]")]
    NoCommand,
    /// An empty program name.
    #[error("the program's name is empty: give a path, or a name to look up along PATH")]
    EmptyCommand,
    /// Program, arguments and environment exceed one message to the guest.
    #[error("program, arguments and environment are {len} bytes long: {max} are taken")]
    CommandTooLong {
        /// Found, in bytes.
        len: usize,
        /// The limit, in bytes.
        max: usize,
    },
    /// Not a number of CPUs.
    #[error("--cpus {0:?} is no number of vCPUs: give 1 to {MAX_VCPUS}")]
    Cpus(String),
    /// Not a size.
    #[error("--memory: {0}")]
    MemorySyntax(#[from] SizeError),
    /// Too little for any kernel.
    #[error("--memory {0} is too little for a kernel: give at least {LEAST_MEMORY}")]
    LittleMemory(ByteSize),
    /// More than the VMM lays out.
    #[error("--memory {0} is too much: give at most {MOST_MEMORY}")]
    MuchMemory(ByteSize),
    /// More than the host has.
    #[error("--memory {asked} is more than the host has ({host} MiB): give less")]
    HostMemory {
        /// Asked for.
        asked: ByteSize,
        /// The host's, in MiB.
        host: u64,
    },
    /// A name that is none.
    #[error("--{0}")]
    Name(#[from] NameError),
    /// A name that is not text.
    #[error("--{kind} {name:?} is not text: only a-z, A-Z, 0-9 and '-' are taken")]
    NameNotText {
        /// "id" or "tenant".
        kind: &'static str,
        /// As given.
        name: OsString,
    },
    /// Not a time.
    #[error(transparent)]
    Timeout(#[from] DurationError),
    /// Not a variable.
    #[error("--env {0:?} is not K=V: give a name, '=' and a value")]
    Env(OsString),
    /// Not a folder of the guest.
    #[error("--workdir {0:?} is not absolute: give a folder of the guest, as in /tmp")]
    Workdir(OsString),
    /// Not a layer.
    #[error("--allow-missing: {0}")]
    Layer(#[from] UnknownLayer),
    /// Not fit for a kernel's command line.
    #[error("--cmdline-append takes up to {MOST_CMDLINE} printable ASCII characters")]
    Cmdline,
}

/// A run as it is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub id: CellId,
    /// vCPUs.
    pub vcpus: u8,
    /// Guest memory in MiB.
    pub memory_mib: u32,
    /// Wall-clock limit from the launch on.
    pub timeout: Option<Duration>,
    /// The program, without its terminal's size.
    pub exec: Exec,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// The image or folder of its root.
    pub rootfs: Option<PathBuf>,
    /// A path or name.
    pub kernel: Option<OsString>,
    /// Added to the kernel's command line.
    pub cmdline_append: Option<String>,
    /// Layers that may be missing.
    pub allow_missing: BTreeSet<Layer>,
    /// Layers to leave out.
    pub leave_out: BTreeSet<Layer>,
}

/// What the arguments mean on a host with this much memory (bytes).
/// `id` is used where none is given.
pub fn validate(args: &RunArgs, host_memory: u64, id: CellId) -> Result<Plan, ArgumentError> {
    let tenant = text("tenant", &args.tenant)?.parse()?;
    let id = match &args.id {
        Some(id) => text("id", id)?.parse()?,
        None => id,
    };
    let vcpus = cpus(&args.cpus)?;
    let memory_mib = memory(&args.memory, host_memory)?;
    let timeout = args.timeout.as_deref().map(duration::parse).transpose()?;
    let exec = exec(args)?;
    if let Some(text) = &args.cmdline_append {
        let printable = text.bytes().all(|b| (b' '..=b'~').contains(&b));
        if !printable || text.len() > MOST_CMDLINE {
            return Err(ArgumentError::Cmdline);
        }
    }
    Ok(Plan {
        tenant,
        id,
        vcpus,
        memory_mib,
        timeout,
        exec,
        tty: args.tty,
        rootfs: args.rootfs.clone(),
        kernel: args.kernel.clone(),
        cmdline_append: args.cmdline_append.clone(),
        allow_missing: layers(&args.allow_missing)?,
        leave_out: layers(&args.leave_out)?,
    })
}

fn text<'a>(kind: &'static str, name: &'a OsStr) -> Result<&'a str, ArgumentError> {
    name.to_str().ok_or_else(|| ArgumentError::NameNotText {
        kind,
        name: name.to_owned(),
    })
}

fn cpus(text: &str) -> Result<u8, ArgumentError> {
    match text.parse::<u8>() {
        Ok(n) if (1..=MAX_VCPUS).contains(&usize::from(n)) => Ok(n),
        _ => Err(ArgumentError::Cpus(text.to_owned())),
    }
}

/// In MiB; part of a MiB counts as a whole one.
fn memory(text: &str, host: u64) -> Result<u32, ArgumentError> {
    let asked: ByteSize = text.parse()?;
    if asked < LEAST_MEMORY {
        return Err(ArgumentError::LittleMemory(asked));
    }
    if asked.bytes() > host {
        return Err(ArgumentError::HostMemory {
            asked,
            host: host / MIB,
        });
    }
    if asked > MOST_MEMORY {
        return Err(ArgumentError::MuchMemory(asked));
    }
    u32::try_from(asked.bytes().div_ceil(MIB)).map_err(|_| ArgumentError::MuchMemory(asked))
}

fn layers(names: &[String]) -> Result<BTreeSet<Layer>, UnknownLayer> {
    names.iter().map(|name| name.parse()).collect()
}

fn exec(args: &RunArgs) -> Result<Exec, ArgumentError> {
    match args.command.first() {
        None => return Err(ArgumentError::NoCommand),
        Some(name) if name.is_empty() => return Err(ArgumentError::EmptyCommand),
        Some(_) => {}
    }
    if !args.workdir.as_bytes().starts_with(b"/") {
        return Err(ArgumentError::Workdir(args.workdir.clone()));
    }
    let exec = Exec {
        argv: args.command.iter().map(|a| a.as_bytes().to_vec()).collect(),
        env: environment(args)?,
        workdir: args.workdir.as_bytes().to_vec(),
        tty: None,
    };
    let len = exec.argv.iter().chain(&exec.env).map(|s| s.len() + 8).sum();
    // Room for the frame's own fields.
    let max = agent::MAX_TO_INIT - 64 - exec.workdir.len().min(4096);
    if len > max {
        return Err(ArgumentError::CommandTooLong { len, max });
    }
    Ok(exec)
}

/// Our defaults, then the user's variables; the last of a name wins.
fn environment(args: &RunArgs) -> Result<Vec<Vec<u8>>, ArgumentError> {
    let mut variables = vec![PATH.to_vec(), b"HOME=/root".to_vec()];
    if args.tty {
        let term = std::env::var_os("TERM").unwrap_or_else(|| "linux".into());
        variables.push([b"TERM=", term.as_bytes()].concat());
    }
    for variable in &args.env {
        let bytes = variable.as_bytes();
        let name = match bytes.iter().position(|&b| b == b'=') {
            None | Some(0) => return Err(ArgumentError::Env(variable.clone())),
            Some(at) => &bytes[..=at],
        };
        variables.retain(|other| !other.starts_with(name));
        variables.push(bytes.to_vec());
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;
    use proptest::prelude::*;

    const HOST: u64 = 8 << 30;

    fn plan(args: &[&str]) -> Result<Plan, ArgumentError> {
        let all = ["casemate", "run"].iter().chain(args);
        let Command::Run(run) = Cli::try_parse_from(all).unwrap().command else {
            panic!("not run");
        };
        validate(&run, HOST, "0123456789ab".parse().unwrap())
    }

    fn refusal(args: &[&str]) -> String {
        let mut all = args.to_vec();
        all.extend(["--", "true"]);
        plan(&all).unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_careful() {
        let plan = plan(&["--", "echo", "hi"]).unwrap();
        assert_eq!((plan.vcpus, plan.memory_mib), (1, 256));
        assert_eq!(plan.tenant.as_str(), "default");
        assert_eq!(plan.exec.argv, [b"echo".to_vec(), b"hi".to_vec()]);
        assert_eq!(plan.exec.workdir, b"/");
        assert!(plan.allow_missing.is_empty() && plan.timeout.is_none());
    }

    #[test]
    fn every_refusal_names_object_and_remedy() {
        let long = "x".repeat(300);
        for (args, object, remedy) in [
            (&["--cpus", "0"][..], "--cpus \"0\"", "1 to 32"),
            (&["--cpus", "10000"], "10000", "1 to 32"),
            (&["--cpus", "-1"], "-1", "1 to 32"),
            (&["--memory", "0"], "--memory 0 bytes", "at least 32 MiB"),
            (&["--memory", "31M"], "31 MiB", "at least 32 MiB"),
            (&["--memory", "9G"], "9 GiB", "8192 MiB"),
            (&["--memory", "lots"], "lots", "256M"),
            (&["--id", "a/b"], "a/b", "a-z"),
            (&["--id", ".."], "..", "a-z"),
            (&["--id", "é"], "é", "a-z"),
            (&["--id", ""], "id", "1 to 64"),
            (&["--id", &long], "300 bytes", "at most 64"),
            (&["--tenant", "a b"], "a b", "a-z"),
            (&["--timeout", "soon"], "soon", "2s"),
            (&["--env", "X"], "\"X\"", "K=V"),
            (&["--env", "=x"], "=x", "K=V"),
            (&["--workdir", "tmp"], "tmp", "/tmp"),
            (
                &["--cmdline-append", "a\nb"],
                "--cmdline-append",
                "printable",
            ),
        ] {
            let words = refusal(args);
            assert!(words.contains(object) && words.contains(remedy), "{words}");
            assert!(!words.contains('\n'), "{words}");
        }
        assert!(matches!(plan(&[]), Err(ArgumentError::NoCommand)));
        assert!(matches!(
            plan(&["--", ""]),
            Err(ArgumentError::EmptyCommand)
        ));
    }

    #[test]
    fn the_users_variables_win() {
        let plan = plan(&[
            "--env", "PATH=/x", "--env", "A=1", "--env", "A=2", "--", "a",
        ])
        .unwrap();
        let want: [&[u8]; 3] = [b"HOME=/root", b"PATH=/x", b"A=2"];
        assert_eq!(plan.exec.env, want);
    }

    proptest! {
        #[test]
        fn memory_stays_in_bounds(text in "[0-9]{1,12}[KMGT]?") {
            if let Ok(mib) = memory(&text, HOST) {
                prop_assert!((32..=8192).contains(&mib));
            }
        }
    }
}
