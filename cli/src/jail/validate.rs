//! What the arguments mean on top of a policy. Nothing is opened or made here.

use super::args::JailArgs;
use crate::run::duration::{self, DurationError};
use casemate_jailer::jail::Request;
use casemate_jailer::layers::cpus;
use casemate_jailer::rights::IdMap;
use casemate_policy::{Mount, MountKind, Namespace, Network, Policy, Proc};
use casemate_proto::cell::{Layer, UnknownLayer};
use casemate_proto::id::{CellId, NameError, TenantId};
use casemate_proto::size::{ByteSize, SizeError};
use std::collections::BTreeSet;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use thiserror::Error;

/// Size of a tmpfs that names none.
const TMPFS: u64 = 64 << 20;
/// Least CPU time that the kernel measures out, in thousandths of a CPU.
const LEAST_MILLIS: f64 = 10.0;

/// An argument that cannot be meant.
#[derive(Debug, Error)]
pub enum ArgumentError {
    /// No program.
    #[error("no program is given: casemate jail [OPTIONS] -- CMD [ARG...]")]
    NoCommand,
    /// A NUL, which no C string has.
    #[error("{0:?} has a NUL byte in it: take it out")]
    Nul(OsString),
    /// Not a size.
    #[error("--{option}: {source}")]
    Size {
        /// Of which option.
        option: &'static str,
        /// Why.
        source: SizeError,
    },
    /// Not a number of CPUs.
    #[error(
        "--cpus {0:?} is no amount of CPU time: give a number of CPUs, 0.01 or more, as in 1.5"
    )]
    Cpus(String),
    /// Not a list of CPUs.
    #[error("--cpu-list {0:?} is no list of CPUs: give numbers and ranges, as in 0-2,4")]
    CpuList(String),
    /// Not a number of processes.
    #[error("--pids {0:?} is no number of processes: give 2 or more, since our init is one")]
    Pids(String),
    /// A name that is none.
    #[error("--{0}")]
    Name(#[from] NameError),
    /// A name or path that is not text.
    #[error("--{option} {value:?} is not text: only UTF-8 is taken")]
    NotText {
        /// Of which option.
        option: &'static str,
        /// As given.
        value: OsString,
    },
    /// A path that is not absolute.
    #[error("--{option} {value:?}: give absolute paths, as in /srv/data or /srv/data:/data")]
    Path {
        /// Of which option.
        option: &'static str,
        /// As given.
        value: String,
    },
    /// Not a time.
    #[error(transparent)]
    Timeout(#[from] DurationError),
    /// Not a variable.
    #[error("--env {0:?} is not K=V: give a name, '=' and a value")]
    Env(OsString),
    /// Not a folder of the jail.
    #[error("--workdir {0:?} is not absolute: give a folder of the jail, as in /tmp")]
    Workdir(OsString),
    /// Not a layer.
    #[error("--allow-missing: {0}")]
    Layer(#[from] UnknownLayer),
    /// Not a network.
    #[error("--net {0:?} is none: give none, host, or netns=PATH with an absolute path")]
    Net(String),
    /// Not a cgroup.
    #[error("--parent-cgroup {0:?}: give a path below the hierarchy's root, without \"..\"")]
    ParentCgroup(String),
    /// No folder for the state of jails, or for the audit log.
    #[error("{0}")]
    Folder(String),
    /// No random name could be had.
    #[error("{0}; name the jail with --id")]
    Random(String),
}

/// The whole request.
pub fn request(args: &JailArgs, mut policy: Policy) -> Result<Request, ArgumentError> {
    let Some(_) = args.command.first().filter(|name| !name.is_empty()) else {
        return Err(ArgumentError::NoCommand);
    };
    let tenant: TenantId = text("tenant", &args.tenant)?.parse()?;
    let id: CellId = match &args.id {
        Some(id) => text("id", id)?.parse()?,
        None => crate::run::random_id().map_err(|e| ArgumentError::Random(e.to_string()))?,
    };
    mounts(args, &mut policy)?;
    network(args, &mut policy)?;
    limits(args, &mut policy)?;
    if args.proc {
        policy.filesystem.proc = Proc::Pids;
    }
    if !args.workdir.as_bytes().starts_with(b"/") {
        return Err(ArgumentError::Workdir(args.workdir.clone()));
    }
    let list = args.cpu_list.as_deref().map(cpu_list).transpose()?;
    let parent_cgroup = args.parent_cgroup.as_deref().map(parent).transpose()?;
    let layers = |names: &[String]| -> Result<BTreeSet<Layer>, UnknownLayer> {
        names.iter().map(|name| name.parse()).collect()
    };
    Ok(Request {
        tenant,
        id,
        run_dir: args.run_dir.folder().map_err(ArgumentError::Folder)?,
        audit: args.audit.folder().map_err(ArgumentError::Folder)?,
        argv: args
            .command
            .iter()
            .map(c_string)
            .collect::<Result<_, _>>()?,
        environment: environment(args, &policy)?,
        workdir: c_string(&args.workdir)?,
        cpus: list.unwrap_or_default(),
        core_scheduling: args.core_scheduling,
        parent_cgroup,
        asked_limits: asked(args),
        id_map: args.id_map.as_deref().map(|ids| match ids {
            "range" => IdMap::Range,
            _ => IdMap::Single,
        }),
        allow_missing: layers(&args.allow_missing)?,
        leave_out: layers(&args.leave_out)?,
        policy,
    })
}

fn text<'a>(option: &'static str, value: &'a OsStr) -> Result<&'a str, ArgumentError> {
    value.to_str().ok_or_else(|| ArgumentError::NotText {
        option,
        value: value.to_owned(),
    })
}

fn c_string(text: &OsString) -> Result<CString, ArgumentError> {
    CString::new(text.as_bytes()).map_err(|_| ArgumentError::Nul(text.clone()))
}

fn mounts(args: &JailArgs, policy: &mut Policy) -> Result<(), ArgumentError> {
    let mut whole = Vec::new();
    let mut added = Vec::new();
    for (option, values, kind) in [
        ("ro", &args.ro, MountKind::Ro),
        ("rw", &args.rw, MountKind::Rw),
    ] {
        for value in values {
            let value = text(option, value)?;
            let (host, jail) = value.split_once(':').unwrap_or((value, value));
            if ![host, jail].iter().all(|path| path.starts_with('/')) {
                return Err(ArgumentError::Path {
                    option,
                    value: value.to_owned(),
                });
            }
            let mount = Mount {
                kind,
                host: host.to_owned().into(),
                jail: jail.to_owned().into(),
                optional: false,
            };
            match jail {
                "/" => whole.push(mount),
                _ => added.push(mount),
            }
        }
    }
    for value in &args.tmpfs {
        let value = text("tmpfs", value)?;
        let (path, bytes) = match value.split_once(':') {
            None => (value, TMPFS),
            Some((path, size)) => {
                let size: ByteSize = size.parse().map_err(|source| ArgumentError::Size {
                    option: "tmpfs",
                    source,
                })?;
                (path, size.bytes())
            }
        };
        if !path.starts_with('/') {
            return Err(ArgumentError::Path {
                option: "tmpfs",
                value: value.to_owned(),
            });
        }
        added.push(Mount {
            kind: MountKind::Tmpfs { bytes },
            host: "".into(),
            jail: path.to_owned().into(),
            optional: false,
        });
    }
    if whole.is_empty() && added.is_empty() {
        return Ok(());
    }
    // The user's mount at a place is instead of the policy's; one at "/" comes first, or it
    // would hide the others, and is instead of all that only shows the same.
    let mine = |jail: &str| added.iter().any(|mount: &Mount| mount.jail == jail);
    let same = |mount: &Mount| mount.kind == MountKind::Ro && mount.host == mount.jail;
    let root = whole.iter().any(|mount: &Mount| mount.host == "/");
    let kept: Vec<Mount> = policy
        .filesystem
        .mounts
        .iter()
        .filter(|mount| !(mine(&mount.jail) || root && same(mount)))
        .cloned()
        .collect();
    whole.extend(kept);
    whole.extend(added);
    policy.filesystem.mounts = whole.into();
    Ok(())
}

fn network(args: &JailArgs, policy: &mut Policy) -> Result<(), ArgumentError> {
    let Some(net) = args.net.as_deref() else {
        return Ok(());
    };
    policy.network = match net.split_once('=') {
        None if net == "none" => Network::None,
        None if net == "host" => Network::Host,
        Some(("netns", path)) if path.starts_with('/') => Network::Join(path.to_owned().into()),
        _ => return Err(ArgumentError::Net(net.to_owned())),
    };
    let own = policy.network != Network::Host;
    if own != policy.unshares(Namespace::Net) {
        policy.namespaces = Namespace::ALL
            .into_iter()
            .filter(|&namespace| match namespace {
                Namespace::Net => own,
                other => policy.unshares(other),
            })
            .collect::<Vec<_>>()
            .into();
    }
    Ok(())
}

fn limits(args: &JailArgs, policy: &mut Policy) -> Result<(), ArgumentError> {
    if let Some(memory) = &args.memory {
        let size: ByteSize = memory.parse().map_err(|source| ArgumentError::Size {
            option: "memory",
            source,
        })?;
        policy.cgroup.memory_bytes = Some(size.bytes());
    }
    if let Some(cpus) = &args.cpus {
        let bad = || ArgumentError::Cpus(cpus.clone());
        let millis = cpus.parse::<f64>().map_err(|_| bad())? * 1000.0;
        if !(LEAST_MILLIS..=f64::from(u32::MAX)).contains(&millis) {
            return Err(bad());
        }
        policy.cgroup.cpu_millis = Some(millis as u32);
    }
    if let Some(pids) = &args.pids {
        match pids.parse::<u32>() {
            Ok(n) if n >= 2 => policy.cgroup.pids = Some(n),
            _ => return Err(ArgumentError::Pids(pids.clone())),
        }
    }
    if let Some(timeout) = &args.timeout {
        policy.wall_clock_ms = Some(duration::parse(timeout)?.as_millis() as u64);
    }
    Ok(())
}

/// The limits of a cgroup that are asked for by name, which a policy's are not.
fn asked(args: &JailArgs) -> Vec<&'static str> {
    [
        ("--memory", args.memory.is_some()),
        ("--cpus", args.cpus.is_some()),
        ("--pids", args.pids.is_some()),
    ]
    .into_iter()
    .filter_map(|(option, given)| given.then_some(option))
    .collect()
}

fn cpu_list(text: &str) -> Result<Vec<usize>, ArgumentError> {
    let cpus = cpus::expand(text);
    match cpus.is_empty() {
        true => Err(ArgumentError::CpuList(text.to_owned())),
        false => Ok(cpus),
    }
}

fn parent(text: &str) -> Result<String, ArgumentError> {
    let inside = text.trim_matches('/');
    let plain = inside
        .split('/')
        .all(|name| !name.is_empty() && name != "." && name != "..");
    match plain {
        true => Ok(inside.to_owned()),
        false => Err(ArgumentError::ParentCgroup(text.to_owned())),
    }
}

/// The policy's variables, then the user's; the last of a name wins.
fn environment(args: &JailArgs, policy: &Policy) -> Result<Vec<CString>, ArgumentError> {
    let mut variables: Vec<(Vec<u8>, CString)> = Vec::new();
    let mut set = |whole: OsString| -> Result<(), ArgumentError> {
        let bytes = whole.as_bytes();
        let at = bytes
            .iter()
            .position(|&byte| byte == b'=')
            .filter(|&at| at > 0);
        let name = at.map(|at| bytes[..at].to_vec());
        let Some(name) = name else {
            return Err(ArgumentError::Env(whole));
        };
        variables.retain(|(other, _)| *other != name);
        variables.push((name, c_string(&whole)?));
        Ok(())
    };
    let joined = |name: &OsStr, value: &OsStr| {
        OsString::from_vec([name.as_bytes(), b"=", value.as_bytes()].concat())
    };
    for name in policy.environment.keep.iter() {
        if let Some(value) = std::env::var_os(&**name) {
            set(joined(OsStr::new(&**name), &value))?;
        }
    }
    for (name, value) in policy.environment.set.iter() {
        set(joined(OsStr::new(&**name), OsStr::new(&**value)))?;
    }
    for variable in &args.env {
        set(variable.clone())?;
    }
    Ok(variables.into_iter().map(|(_, whole)| whole).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    fn asked(extra: &[&str]) -> Result<Request, ArgumentError> {
        let words = ["casemate", "jail"]
            .iter()
            .chain(extra)
            .chain(&["--", "true"]);
        let Command::Jail(args) = Cli::try_parse_from(words).unwrap().command else {
            panic!("not jail");
        };
        let policy = crate::policy::load::jail(OsStr::new("default")).unwrap();
        request(&args, policy)
    }

    #[test]
    fn options_change_the_policy() {
        let request = asked(&[
            "--memory=64M",
            "--cpus=1.5",
            "--pids=7",
            "--timeout=2s",
            "--net=host",
            "--cpu-list=1,0",
            "--parent-cgroup=/a b/c=d/",
        ])
        .unwrap();
        let policy = request.policy;
        assert_eq!(policy.cgroup.memory_bytes, Some(64 << 20));
        assert_eq!(policy.cgroup.cpu_millis, Some(1500));
        assert_eq!(policy.cgroup.pids, Some(7));
        assert_eq!(policy.wall_clock_ms, Some(2000));
        assert_eq!(policy.network, Network::Host);
        assert!(!policy.unshares(Namespace::Net) && policy.unshares(Namespace::Pid));
        assert_eq!(request.cpus, [0, 1]);
        assert_eq!(request.parent_cgroup.as_deref(), Some("a b/c=d"));
    }

    #[test]
    fn a_mount_at_the_root_comes_first_and_ones_own_replace_the_policys() {
        let request = asked(&["--tmpfs=/tmp:1M", "--rw=/srv:/data", "--ro=/"]).unwrap();
        let mounts = request.policy.filesystem.mounts;
        assert_eq!(mounts[0].jail, "/");
        let at = |path: &str| mounts.iter().filter(|m| m.jail == path).collect::<Vec<_>>();
        assert_eq!(at("/tmp").len(), 1);
        assert_eq!(at("/tmp")[0].kind, MountKind::Tmpfs { bytes: 1 << 20 });
        assert_eq!(
            (&*at("/data")[0].host, at("/data")[0].kind),
            ("/srv", MountKind::Rw)
        );
    }

    #[test]
    fn the_last_variable_of_a_name_wins() {
        let request = asked(&["--env=A=1", "--env=A=2", "--env=PATH=/x"]).unwrap();
        let environment = request.environment;
        assert!(environment.contains(&c"A=2".to_owned()));
        assert!(environment.contains(&c"PATH=/x".to_owned()));
        assert!(!environment.contains(&c"A=1".to_owned()));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        for (argument, word) in [
            ("--memory=lots", "--memory"),
            ("--cpus=0", "--cpus"),
            ("--cpus=NaN", "--cpus"),
            ("--cpu-list=a", "--cpu-list"),
            ("--pids=1", "--pids"),
            ("--timeout=soon", "--timeout"),
            ("--env==x", "--env"),
            ("--ro=etc", "--ro"),
            ("--rw=/a:b", "--rw"),
            ("--tmpfs=/a:x", "--tmpfs"),
            ("--net=netns=x", "--net"),
            ("--parent-cgroup=../x", "--parent-cgroup"),
            ("--workdir=x", "--workdir"),
            ("--id=..", "--id"),
        ] {
            let error = asked(&[argument]).unwrap_err().to_string();
            assert!(
                error.contains(word) && !error.contains('\n'),
                "{argument}: {error}"
            );
        }
    }
}
