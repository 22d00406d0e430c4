//! The arguments of `casemate jail`, as they are typed.

use crate::args::RunDirArgs;
use clap::{Args, Parser, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;

/// `casemate jail`.
#[derive(Debug, Args)]
pub struct JailArgs {
    /// What the program may do: strict, default, network, or a policy file
    #[arg(long, value_name = "P", default_value = "default", value_hint = ValueHint::FilePath)]
    pub policy: OsString,

    /// Do not kill the program for a system call that the policy refuses: it fails with
    /// ENOSYS, and is told at the end with the thread that made it
    #[arg(long)]
    pub seccomp_report: bool,

    /// Mount a path of the host read-only, at the same place or at INSIDE; may be repeated
    #[arg(long, value_name = "PATH[:INSIDE]", value_hint = ValueHint::AnyPath)]
    pub ro: Vec<OsString>,

    /// Mount a path of the host writable; nothing in it can be executed; may be repeated
    #[arg(long, value_name = "PATH[:INSIDE]", value_hint = ValueHint::AnyPath)]
    pub rw: Vec<OsString>,

    /// Mount an empty file system in memory, of SIZE at most [default: 64M]; may be repeated
    #[arg(long, value_name = "PATH[:SIZE]")]
    pub tmpfs: Vec<OsString>,

    /// What it sees of the network: none, host, or netns=PATH [default: the policy's]
    #[arg(long, value_name = "NET")]
    pub net: Option<String>,

    /// Mount /proc with the jail's own processes and nothing else
    #[arg(long)]
    pub proc: bool,

    /// Memory, page cache and tmpfs included: a number with K, M, G or T (of 1024)
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory: Option<String>,

    /// CPU time in CPUs, as in 1.5
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub cpus: Option<String>,

    /// CPUs to run on, as in 0-2,4
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    pub cpu_list: Option<String>,

    /// Most processes and threads, our init included
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub pids: Option<String>,

    /// End the program after this time: 500ms, 2s, 1m or 1h
    #[arg(long, value_name = "D", allow_hyphen_values = true)]
    pub timeout: Option<String>,

    /// Set a variable of the program's environment; may be repeated
    #[arg(long, value_name = "K=V")]
    pub env: Vec<OsString>,

    /// The program's working directory
    #[arg(long, value_name = "D", default_value = "/")]
    pub workdir: OsString,

    /// Let no other tenant's thread run on the sibling of a core that it uses
    #[arg(long)]
    pub core_scheduling: bool,

    /// The cgroup, in each hierarchy, below which the jail's own are made
    #[arg(long, value_name = "CGROUP")]
    pub parent_cgroup: Option<String>,

    /// Whose jail it is
    #[arg(
        long,
        value_name = "T",
        default_value = "default",
        allow_hyphen_values = true
    )]
    pub tenant: OsString,

    /// The jail's name, unique within the tenant [default: random]
    #[arg(long, allow_hyphen_values = true)]
    pub id: Option<OsString>,

    /// Write a JSON report
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub report: Option<PathBuf>,

    /// Start even where the host cannot give this layer; may be repeated
    #[arg(long, value_name = "LAYER", value_parser = crate::args::layer_names())]
    pub allow_missing: Vec<String>,

    /// Without root: which ids the jail has. `single`, your own alone; or `range`, a user of
    /// its own out of your subordinate ids [default: single]
    #[arg(long, value_name = "IDS", value_parser = ["single", "range"])]
    pub id_map: Option<String>,

    /// Where its state is.
    #[command(flatten)]
    pub run_dir: RunDirArgs,

    /// Where it is recorded.
    #[command(flatten)]
    pub audit: crate::audit::args::AuditChoice,

    /// Leave a layer out on purpose (tests of the read-back only)
    #[arg(long, value_name = "LAYER", hide = true, value_parser = crate::args::layer_names())]
    pub leave_out: Vec<String>,

    /// The program and its arguments
    #[arg(last = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
}

/// `casemate jail` without the other commands, whose definitions take longer to build than
/// a jail's namespaces.
#[derive(Debug, Parser)]
struct Alone {
    #[command(flatten)]
    args: JailArgs,
}

/// The arguments of `casemate jail`, if it is that and they are good. What else there is to
/// say of them, the whole definition says.
pub fn alone(words: impl Iterator<Item = OsString>) -> Option<JailArgs> {
    let mut words = words.skip(1);
    if words.next()? != "jail" {
        return None;
    }
    let words = std::iter::once("jail".into()).chain(words);
    Some(Alone::try_parse_from(words).ok()?.args)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alone_it_is_the_same() {
        let words = |text: &str| {
            let words: Vec<OsString> = text.split(' ').map(OsString::from).collect();
            alone(words.into_iter())
        };
        let args = words("casemate jail --ro /x --pids=3 -- jail --help").unwrap();
        assert_eq!(args.ro, ["/x"]);
        assert_eq!(args.command, ["jail", "--help"]);
        assert!(words("casemate run -- jail").is_none());
        assert!(words("casemate jail --help").is_none());
        assert!(words("casemate jail --no-such").is_none());
    }
}
