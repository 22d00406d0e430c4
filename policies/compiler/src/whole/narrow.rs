//! A policy that has a base can only take away from it. Each value that it names is held
//! against the base's; what it does not name stays the base's.

use super::declared::{At, Connect, Declared};
use crate::source::{Error, Problem};
use casemate_policy::{
    CgroupLimits, Environment, Filesystem, IoLimit, Landlock, Mount, MountKind, Network, Policy,
    RlimitValue,
};
use std::fmt::{Debug, Display};

/// The base with what the file takes away.
pub(crate) fn narrow(base: &Policy, said: &Declared) -> Result<Policy, Error> {
    let name = &base.name;
    let wide = |what: &'static str, at: &crate::Location, asked: String, allowed: String| {
        Err(Problem::Widening {
            what,
            asked,
            base: name.to_string(),
            allowed,
        }
        .at(at.clone()))
    };
    let mut policy = base.clone();

    if let Some(At { value, at }) = &said.namespaces {
        if base.namespaces.iter().any(|kind| !value.contains(kind)) {
            return wide(
                "namespaces of its own",
                at,
                list(value),
                list(&base.namespaces),
            );
        }
        policy.namespaces = value.clone().into();
    }
    if let Some(At { value, at }) = &said.network {
        if *value != base.network && *value != Network::None {
            return wide("network", at, network(value), network(&base.network));
        }
        policy.network = value.clone();
    }
    policy.filesystem = filesystem(base, said, &wide)?;
    if let Some(At { value, at }) = &said.capabilities {
        if value.0 & !base.capabilities.0 != 0 {
            let names = |set: casemate_policy::Capabilities| list(&set.names().collect::<Vec<_>>());
            return wide("capabilities", at, names(*value), names(base.capabilities));
        }
        policy.capabilities = *value;
    }
    policy.landlock = landlock(&base.landlock, said, &wide)?;
    policy.rlimits = rlimits(&base.rlimits, said, &wide)?.into();
    policy.cgroup = cgroup(&base.cgroup, said, &wide)?;
    if let Some(limit) = &said.wall_clock_ms {
        policy.wall_clock_ms = lower("wall-clock limit in ms", limit, base.wall_clock_ms, &wide)?;
    }
    policy.environment = environment(&base.environment, said, &wide)?;
    if let Some(At { value, at }) = &said.keep_fds {
        if value.iter().any(|fd| !base.keep_fds.contains(fd)) {
            return wide("fds kept", at, list(value), list(&base.keep_fds));
        }
        policy.keep_fds = value.clone().into();
    }
    if let Some(At { value, at }) = &said.devices {
        if value.iter().any(|device| !base.devices.contains(device)) {
            let names = |devices: &[casemate_policy::Device]| {
                list(
                    &devices
                        .iter()
                        .map(|device| device.name())
                        .collect::<Vec<_>>(),
                )
            };
            return wide(
                "devices of the guest",
                at,
                names(value),
                names(&base.devices),
            );
        }
        policy.devices = value.clone().into();
    }
    Ok(policy)
}

/// Refuses a widening: what, where, asked, allowed.
trait Refuse: Fn(&'static str, &crate::Location, String, String) -> Result<Policy, Error> {}
impl<F: Fn(&'static str, &crate::Location, String, String) -> Result<Policy, Error>> Refuse for F {}

fn refused<T>(answer: Result<Policy, Error>) -> Result<T, Error> {
    match answer {
        Err(error) => Err(error),
        Ok(_) => unreachable!("a widening is always refused"),
    }
}

fn filesystem(base: &Policy, said: &Declared, wide: &impl Refuse) -> Result<Filesystem, Error> {
    let mut files = base.filesystem.clone();
    if let Some(At { value, at }) = &said.proc {
        if *value > files.proc {
            return refused(wide("/proc", at, word(value), word(&files.proc)));
        }
        files.proc = *value;
    }
    if let Some(At { value, at }) = &said.dev {
        if *value && !files.dev {
            return refused(wide("/dev", at, word(value), word(&files.dev)));
        }
        files.dev = *value;
    }
    if said.mounts.is_empty() {
        return Ok(files);
    }
    for asked in &said.mounts {
        let covered = files
            .mounts
            .iter()
            .any(|base| mount_covers(base, &asked.value));
        if !covered {
            let at_path = files.mounts.iter().find(|m| m.jail == asked.value.jail);
            let allowed = at_path.map_or("no mount there".to_owned(), mount);
            return refused(wide("mount", &asked.at, mount(&asked.value), allowed));
        }
    }
    // In the base's order: a mount that hides part of another stays on top of it.
    let mut kept: Vec<Mount> = Vec::new();
    for base in files.mounts.iter() {
        let asked = said.mounts.iter().find(|m| m.value.jail == base.jail);
        match asked {
            Some(asked) => kept.push(asked.value.clone()),
            None => {
                if let Some(under) = kept.iter().find(|kept| beneath(&base.jail, &kept.jail)) {
                    let at = said.mounts.iter().find(|m| m.value.jail == under.jail);
                    let at = &at.unwrap_or(&said.mounts[0]).at;
                    let asked = format!("{} without {}", under.jail, base.jail);
                    let allowed = format!("{} under {}", under.jail, mount(base));
                    return refused(wide("mount", at, asked, allowed));
                }
            }
        }
    }
    files.mounts = kept.into();
    Ok(files)
}

/// Whether `base` gives all that `asked` does. The paths must be the same: what a path
/// beneath another one leads to is for the host's links to say.
fn mount_covers(base: &Mount, asked: &Mount) -> bool {
    let narrower = match (base.kind, asked.kind) {
        (MountKind::Tmpfs { bytes }, MountKind::Tmpfs { bytes: fewer }) => fewer <= bytes,
        (MountKind::RwExec, MountKind::Ro | MountKind::Rw | MountKind::RwExec) => true,
        (base, asked) => base == asked,
    };
    narrower && base.host == asked.host && base.jail == asked.jail
}

fn beneath(path: &str, top: &str) -> bool {
    path.strip_prefix(top)
        .is_some_and(|rest| rest.starts_with('/'))
}

fn landlock(base: &Landlock, said: &Declared, wide: &impl Refuse) -> Result<Landlock, Error> {
    let mut rules = base.clone();
    if let Some(At { value, at }) = &said.min_abi {
        if *value < base.min_abi {
            return refused(wide(
                "least Landlock ABI",
                at,
                word(value),
                word(&base.min_abi),
            ));
        }
        rules.min_abi = *value;
    }
    if let Some(At { value, at }) = &said.bind_tcp {
        if value.iter().any(|port| !base.bind_tcp.contains(port)) {
            return refused(wide(
                "TCP ports to bind",
                at,
                list(value),
                list(&base.bind_tcp),
            ));
        }
        rules.bind_tcp = value.clone().into();
    }
    if let Some(At { value, at }) = &said.connect_tcp {
        let allowed = || match base.connect_any {
            true => "any".to_owned(),
            false => list(&base.connect_tcp),
        };
        match value {
            Connect::Any if !base.connect_any => {
                return refused(wide("TCP ports to connect to", at, "any".into(), allowed()));
            }
            Connect::Any => {}
            Connect::To(ports) => {
                let outside = |port| !base.connect_tcp.contains(port);
                if !base.connect_any && ports.iter().any(outside) {
                    return refused(wide("TCP ports to connect to", at, list(ports), allowed()));
                }
                rules.connect_any = false;
                rules.connect_tcp = ports.clone().into();
            }
        }
    }
    if let Some(At { value, at }) = &said.ioctl_dev {
        if *value && !base.ioctl_dev {
            return refused(wide("ioctls on devices", at, word(value), word(&false)));
        }
        rules.ioctl_dev = *value;
    }
    for (what, given, scope) in [
        (
            "scope of abstract sockets",
            &said.scope_abstract_socket,
            &mut rules.scope_abstract_socket,
        ),
        (
            "scope of signals",
            &said.scope_signal,
            &mut rules.scope_signal,
        ),
    ] {
        if let Some(At { value, at }) = given {
            if !*value && *scope {
                return refused(wide(what, at, word(value), word(scope)));
            }
            *scope = *value;
        }
    }
    Ok(rules)
}

fn rlimits(
    base: &[RlimitValue],
    said: &Declared,
    wide: &impl Refuse,
) -> Result<Vec<RlimitValue>, Error> {
    let mut limits = base.to_vec();
    for At { value, at } in &said.rlimits {
        match limits.iter_mut().find(|l| l.resource == value.resource) {
            Some(limit) if value.value > limit.value => {
                let what = value.resource.name();
                return refused(wide(what, at, word(&value.value), word(&limit.value)));
            }
            Some(limit) => *limit = *value,
            None => limits.push(*value),
        }
    }
    limits.sort_unstable_by_key(|limit| limit.resource);
    Ok(limits)
}

fn cgroup(base: &CgroupLimits, said: &Declared, wide: &impl Refuse) -> Result<CgroupLimits, Error> {
    let mut limits = base.clone();
    if let Some(limit) = &said.memory {
        limits.memory_bytes = lower("memory in bytes", limit, base.memory_bytes, wide)?;
    }
    if let Some(limit) = &said.swap {
        limits.swap_bytes = lower("swap in bytes", limit, base.swap_bytes, wide)?;
    }
    if let Some(limit) = &said.cpu_millis {
        limits.cpu_millis = lower("cpu-millis", limit, base.cpu_millis, wide)?;
    }
    if let Some(limit) = &said.cpu_weight {
        // Not named, a weight is the kernel's default, and not without limit.
        let weight = |weight: Option<u32>| Some(weight.unwrap_or(DEFAULT_WEIGHT));
        let asked = At {
            value: weight(limit.value),
            at: limit.at.clone(),
        };
        limits.cpu_weight = lower("cpu-weight", &asked, weight(base.cpu_weight), wide)?;
    }
    if let Some(limit) = &said.pids {
        limits.pids = lower("pids", limit, base.pids, wide)?;
    }
    let mut io = base.io.to_vec();
    for At { value, at } in &said.io {
        let Some(known) = io.iter_mut().find(|limit| limit.device == value.device) else {
            io.push(value.clone());
            continue;
        };
        let part = |what, asked, allowed| {
            let asked = At {
                value: asked,
                at: at.clone(),
            };
            match asked.value {
                Some(_) => lower(what, &asked, allowed, wide),
                None => Ok(allowed),
            }
        };
        *known = IoLimit {
            device: known.device.clone(),
            read_bps: part("bytes read in a second", value.read_bps, known.read_bps)?,
            write_bps: part(
                "bytes written in a second",
                value.write_bps,
                known.write_bps,
            )?,
        };
    }
    limits.io = io.into();
    Ok(limits)
}

/// The kernel's default of `cpu.weight`.
const DEFAULT_WEIGHT: u32 = 100;

fn lower<T: Copy + Ord + Display>(
    what: &'static str,
    asked: &At<Option<T>>,
    allowed: Option<T>,
    wide: &impl Refuse,
) -> Result<Option<T>, Error> {
    let text = |limit: Option<T>| limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
    match (asked.value, allowed) {
        (Some(asked), Some(allowed)) if asked <= allowed => Ok(Some(asked)),
        (_, Some(_)) => refused(wide(what, &asked.at, text(asked.value), text(allowed))),
        (asked, None) => Ok(asked),
    }
}

fn environment(
    base: &Environment,
    said: &Declared,
    wide: &impl Refuse,
) -> Result<Environment, Error> {
    let mut environment = base.clone();
    if let Some(At { value, at }) = &said.keep_variables {
        let known = |name: &String| base.keep.iter().any(|kept| kept == name);
        if !value.iter().all(known) {
            return refused(wide("variables kept", at, list(value), list(&base.keep)));
        }
        environment.keep = value.iter().map(|name| name.clone().into()).collect();
    }
    if let Some(At { value, at }) = &said.set_variables {
        let text = |pairs: &[(String, String)]| {
            let pairs = pairs.iter().map(|(name, value)| format!("{name}={value}"));
            list(&pairs.collect::<Vec<_>>())
        };
        let known: Vec<(String, String)> = base
            .set
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        if value.iter().any(|pair| !known.contains(pair)) {
            return refused(wide("variables set", at, text(value), text(&known)));
        }
        environment.set = value
            .iter()
            .map(|(name, value)| (name.clone().into(), value.clone().into()))
            .collect();
    }
    Ok(environment)
}

fn list<T: ToString>(members: &[T]) -> String {
    let members: Vec<_> = members.iter().map(ToString::to_string).collect();
    match members.is_empty() {
        true => "none".to_owned(),
        false => members.join(", "),
    }
}

fn word(value: &impl Debug) -> String {
    format!("{value:?}").to_lowercase()
}

fn network(network: &Network) -> String {
    match network {
        Network::None => "none".to_owned(),
        Network::Host => "host".to_owned(),
        Network::Join(path) => format!("join {path}"),
    }
}

fn mount(mount: &Mount) -> String {
    let Mount {
        kind, host, jail, ..
    } = mount;
    match kind {
        MountKind::Ro => format!("ro {host} at {jail}"),
        MountKind::Rw => format!("rw {host} at {jail}"),
        MountKind::RwExec => format!("rw-exec {host} at {jail}"),
        MountKind::Tmpfs { bytes } => format!("tmpfs {jail} of {bytes} bytes"),
    }
}
