//! What the layers beside seccomp leave a program, in words: one fact a line.

use casemate_policy::{MountKind, Namespace, Network, Policy, Proc};

/// A statement, and what it is about: two policies are compared subject by subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// `files`, `limits`, …
    pub section: &'static str,
    /// What it is about.
    pub subject: String,
    /// What is so.
    pub state: String,
}

/// All facts of a policy.
pub fn of(policy: &Policy) -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut say = |section, subject: &str, state: String| {
        facts.push(Fact {
            section,
            subject: subject.to_owned(),
            state,
        });
    };

    for mount in policy.filesystem.mounts.iter() {
        let from = match mount.host == mount.jail {
            true => String::new(),
            false => format!(", the host's {}", mount.host),
        };
        let state = match mount.kind {
            MountKind::Ro => format!("read and execute{from}"),
            MountKind::Rw => format!("read and write{from}; not execute"),
            MountKind::RwExec => format!("read, write and execute{from}"),
            MountKind::Tmpfs { bytes } => {
                format!("{} of its own, gone at the end; not execute", size(bytes))
            }
        };
        let state = match mount.optional {
            true => format!("{state}; where the host has it"),
            false => state,
        };
        say("files", &mount.jail, state);
    }
    let dev = match policy.filesystem.dev {
        true => "null, zero, full, random, urandom",
        false => "not there",
    };
    say("files", "/dev", dev.to_owned());
    let proc = match policy.filesystem.proc {
        Proc::None => "not there",
        Proc::Pids => "the jail's own processes, read-only",
    };
    say("files", "/proc", proc.to_owned());

    let network = match &policy.network {
        Network::None => "none: a namespace without an interface".to_owned(),
        Network::Host => "the host's".to_owned(),
        Network::Join(path) => format!("that of {path}"),
    };
    say("network", "network", network);
    let landlock = &policy.landlock;
    say("network", "TCP ports to bind", ports(&landlock.bind_tcp));
    let connect = match landlock.connect_any {
        true => "any".to_owned(),
        false => ports(&landlock.connect_tcp),
    };
    say("network", "TCP ports to connect to", connect);
    let outside = |scoped| match scoped {
        true => "out of reach".to_owned(),
        false => "not kept away by Landlock".to_owned(),
    };
    say(
        "network",
        "abstract sockets outside",
        outside(landlock.scope_abstract_socket),
    );
    say(
        "processes",
        "signals outside",
        outside(landlock.scope_signal),
    );
    for kind in Namespace::ALL {
        let state = match policy.unshares(kind) {
            true => "its own",
            false => "the host's",
        };
        say("namespaces", kind.name(), state.to_owned());
    }
    let kept: Vec<_> = policy.capabilities.names().collect();
    say("rights", "capabilities", list(&kept));
    let devices = match landlock.ioctl_dev {
        true => "allowed by Landlock",
        false => "refused by Landlock",
    };
    say("rights", "ioctls on device files", devices.to_owned());
    say("rights", "least Landlock ABI", landlock.min_abi.to_string());

    let cgroup = &policy.cgroup;
    let limit = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), size);
    let count = |limit: Option<u32>| limit.map_or("unlimited".to_owned(), |n| n.to_string());
    say("limits", "memory", limit(cgroup.memory_bytes));
    say("limits", "swap", limit(cgroup.swap_bytes));
    let cpus = cgroup
        .cpu_millis
        .map(|millis| format!("{}.{:03} CPUs", millis / 1000, millis % 1000));
    say("limits", "CPU time", cpus.unwrap_or("unlimited".to_owned()));
    if let Some(weight) = cgroup.cpu_weight {
        say(
            "limits",
            "CPU weight",
            format!("{weight} (others have 100)"),
        );
    }
    say("limits", "tasks", count(cgroup.pids));
    for io in cgroup.io.iter() {
        let state = format!(
            "{} read, {} written in a second",
            limit(io.read_bps),
            limit(io.write_bps)
        );
        say("limits", &format!("device {}", io.device), state);
    }
    for rlimit in policy.rlimits.iter() {
        say("limits", rlimit.resource.name(), rlimit.value.to_string());
    }
    let time = policy.wall_clock_ms.map(|ms| format!("{ms} ms"));
    say(
        "limits",
        "wall-clock time",
        time.unwrap_or("unlimited".to_owned()),
    );

    say(
        "inherited",
        "variables kept",
        list(&policy.environment.keep),
    );
    for (name, value) in policy.environment.set.iter() {
        say("inherited", &format!("${name}"), value.to_string());
    }
    let fds: Vec<_> = policy.keep_fds.iter().map(i32::to_string).collect();
    say("inherited", "fds beside 0, 1 and 2", list(&fds));
    if !policy.devices.is_empty() {
        let names: Vec<_> = policy.devices.iter().map(|device| device.name()).collect();
        say("devices", "of the guest", list(&names));
    }
    facts
}

fn ports(ports: &[u16]) -> String {
    list(&ports.iter().map(u16::to_string).collect::<Vec<_>>())
}

fn list<T: AsRef<str>>(members: &[T]) -> String {
    match members.is_empty() {
        true => "none".to_owned(),
        false => members
            .iter()
            .map(AsRef::as_ref)
            .collect::<Vec<_>>()
            .join(", "),
    }
}

fn size(bytes: u64) -> String {
    for (shift, unit) in [(40, 'T'), (30, 'G'), (20, 'M'), (10, 'K')] {
        if bytes >= 1 << shift && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}
