//! From what a file without a base says to a policy: what it does not say is at its
//! strictest, and the limits that keep a host alive must be said.

use super::declared::{At, Connect, Declared};
use crate::source::{Error, Location, Problem};
use casemate_policy::{
    Capabilities, CgroupLimits, Environment, Filesystem, Landlock, List, Namespace, Policy,
    Resource, RlimitValue,
};

/// Limits of those things that ordinary programs need none of, where a policy does not say
/// otherwise. Core is 1 since with 0 a `core_pattern` that is a pipe still gets the dump.
const RLIMITS: [(Resource, u64); 6] = [
    (Resource::Core, 1),
    (Resource::Memlock, 0),
    (Resource::Msgqueue, 0),
    (Resource::Nice, 0),
    (Resource::Rtprio, 0),
    (Resource::Sigpending, 256),
];

/// The strictest policy, with what the file says.
pub(crate) fn complete(name: &str, said: &Declared) -> Result<Policy, Error> {
    let need = |key, there: bool| match there {
        true => Ok(()),
        false => Err(Problem::NoLimit(key).at(Location {
            file: name.into(),
            line: 1,
        })),
    };
    need("memory", said.memory.is_some())?;
    need("pids", said.pids.is_some())?;

    let mut rlimits: Vec<RlimitValue> = RLIMITS
        .into_iter()
        .filter(|(kind, _)| {
            said.rlimits
                .iter()
                .all(|given| given.value.resource != *kind)
        })
        .map(|(resource, value)| RlimitValue { resource, value })
        .chain(said.rlimits.iter().map(|given| given.value))
        .collect();
    rlimits.sort_unstable_by_key(|limit| limit.resource);

    let (connect_any, connect_tcp) = match value(&said.connect_tcp) {
        Some(Connect::Any) => (true, vec![]),
        Some(Connect::To(ports)) => (false, ports),
        None => (false, vec![]),
    };
    Ok(Policy {
        name: super::stem(name).to_owned().into(),
        digest: "".into(),
        namespaces: value(&said.namespaces)
            .unwrap_or_else(|| Namespace::ALL.to_vec())
            .into(),
        network: value(&said.network).unwrap_or_default(),
        filesystem: Filesystem {
            mounts: said
                .mounts
                .iter()
                .map(|mount| mount.value.clone())
                .collect(),
            proc: value(&said.proc).unwrap_or_default(),
            dev: value(&said.dev).unwrap_or_default(),
        },
        capabilities: value(&said.capabilities).unwrap_or(Capabilities(0)),
        landlock: Landlock {
            min_abi: value(&said.min_abi).unwrap_or(1),
            bind_tcp: value(&said.bind_tcp).unwrap_or_default().into(),
            connect_tcp: connect_tcp.into(),
            connect_any,
            ioctl_dev: value(&said.ioctl_dev).unwrap_or(false),
            scope_abstract_socket: value(&said.scope_abstract_socket).unwrap_or(true),
            scope_signal: value(&said.scope_signal).unwrap_or(true),
        },
        rlimits: rlimits.into(),
        cgroup: CgroupLimits {
            memory_bytes: value(&said.memory).flatten(),
            // No swap unless it is given.
            swap_bytes: value(&said.swap).unwrap_or(Some(0)),
            cpu_millis: value(&said.cpu_millis).flatten(),
            cpu_weight: value(&said.cpu_weight).flatten(),
            pids: value(&said.pids).flatten(),
            io: said.io.iter().map(|limit| limit.value.clone()).collect(),
        },
        wall_clock_ms: value(&said.wall_clock_ms).flatten(),
        environment: Environment {
            keep: texts(value(&said.keep_variables).unwrap_or_default()),
            set: value(&said.set_variables)
                .unwrap_or_default()
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        },
        keep_fds: value(&said.keep_fds).unwrap_or_default().into(),
        devices: value(&said.devices).unwrap_or_default().into(),
        seccomp: None,
    })
}

fn value<T: Clone>(entry: &Option<At<T>>) -> Option<T> {
    entry.as_ref().map(|entry| entry.value.clone())
}

fn texts(list: Vec<String>) -> List<casemate_policy::Text> {
    list.into_iter().map(Into::into).collect()
}
