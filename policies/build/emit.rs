//! The Rust text of compiled policies.

use casemate_policy::{Filter, Mount, MountKind, Network, Policy};
use casemate_policy_compiler::{Compiled, sock_filter};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// The constant of a thread class.
pub fn threads(name: &str, compiled: &Compiled) -> String {
    let mut digest = blake3::Hasher::new();
    let mut code = format!("static {name}: Shipped = Shipped {{\n    program: &[\n");
    for i in &compiled.program {
        digest.update(&i.code.to_le_bytes());
        digest.update(&[i.jt, i.jf]);
        digest.update(&i.k.to_le_bytes());
        let (op, jt, jf, k) = (i.code, i.jt, i.jf, i.k);
        _ = writeln!(
            code,
            "        sock_filter {{ code: {op}, jt: {jt}, jf: {jf}, k: {k} }},"
        );
    }
    code += "    ],\n    holes: &[";
    for hole in &compiled.holes {
        _ = write!(code, "({}, Role::{:?}), ", hole.index, hole.role);
    }
    let digest = digest.finalize();
    _ = writeln!(code, "],\n    digest: \"{digest}\",\n}};");
    code
}

/// The constant of a filter alone.
pub fn filter(name: &str, compiled: &Compiled) -> String {
    assert!(compiled.holes.is_empty(), "{name} has roles of its own");
    let program = compiled.program.iter().map(instruction);
    format!("static {name}: model::Filter = {};\n", filter_of(program))
}

fn instruction(i: &sock_filter) -> (u16, u8, u8, u32) {
    (i.code, i.jt, i.jf, i.k)
}

fn filter_of(program: impl Iterator<Item = (u16, u8, u8, u32)>) -> String {
    let items = program.map(|(code, jt, jf, k)| {
        format!("model::Instruction {{ code: {code}, jt: {jt}, jf: {jf}, k: {k} }}")
    });
    format!("model::Filter {{ program: {} }}", list(items))
}

/// The constant of a whole policy.
pub fn policy(name: &str, policy: &Policy) -> String {
    let Policy {
        name: policy_name,
        digest,
        namespaces,
        network,
        filesystem,
        capabilities,
        landlock,
        rlimits,
        cgroup,
        wall_clock_ms,
        environment,
        keep_fds,
        devices,
        seccomp,
    } = policy;
    let seccomp = seccomp.as_ref().map_or("None".to_owned(), |filter| {
        format!("Some({})", filter_code(filter))
    });
    let mut code = format!("static {name}: model::Policy = model::Policy {{\n");
    for (field, value) in [
        ("name", text(policy_name)),
        ("digest", text(digest)),
        (
            "namespaces",
            list(
                namespaces
                    .iter()
                    .map(|n| format!("model::Namespace::{n:?}")),
            ),
        ),
        ("network", network_code(network)),
        (
            "filesystem",
            format!(
                "model::Filesystem {{ mounts: {}, proc: model::Proc::{:?}, dev: {} }}",
                list(filesystem.mounts.iter().map(mount)),
                filesystem.proc,
                filesystem.dev
            ),
        ),
        ("capabilities", format!("model::{capabilities:?}")),
        (
            "landlock",
            format!(
                "model::Landlock {{ min_abi: {}, bind_tcp: {}, connect_tcp: {}, connect_any: {}, \
                 ioctl_dev: {}, scope_abstract_socket: {}, scope_signal: {} }}",
                landlock.min_abi,
                list(landlock.bind_tcp.iter().map(u16::to_string)),
                list(landlock.connect_tcp.iter().map(u16::to_string)),
                landlock.connect_any,
                landlock.ioctl_dev,
                landlock.scope_abstract_socket,
                landlock.scope_signal
            ),
        ),
        (
            "rlimits",
            list(rlimits.iter().map(|limit| {
                format!(
                    "model::RlimitValue {{ resource: model::Resource::{:?}, value: {} }}",
                    limit.resource, limit.value
                )
            })),
        ),
        (
            "cgroup",
            format!(
                "model::CgroupLimits {{ memory_bytes: {:?}, swap_bytes: {:?}, cpu_millis: {:?}, \
                 cpu_weight: {:?}, pids: {:?}, io: {} }}",
                cgroup.memory_bytes,
                cgroup.swap_bytes,
                cgroup.cpu_millis,
                cgroup.cpu_weight,
                cgroup.pids,
                list(cgroup.io.iter().map(|io| {
                    format!(
                        "model::IoLimit {{ device: {}, read_bps: {:?}, write_bps: {:?} }}",
                        text(&io.device),
                        io.read_bps,
                        io.write_bps
                    )
                }))
            ),
        ),
        ("wall_clock_ms", format!("{wall_clock_ms:?}")),
        (
            "environment",
            format!(
                "model::Environment {{ keep: {}, set: {} }}",
                list(environment.keep.iter().map(|name| text(name))),
                list(environment.set.iter().map(|(name, value)| format!(
                    "({}, {})",
                    text(name),
                    text(value)
                )))
            ),
        ),
        ("keep_fds", list(keep_fds.iter().map(i32::to_string))),
        (
            "devices",
            list(
                devices
                    .iter()
                    .map(|device| format!("model::Device::{device:?}")),
            ),
        ),
        ("seccomp", seccomp),
    ] {
        _ = writeln!(code, "    {field}: {value},");
    }
    code + "};\n"
}

fn filter_code(filter: &Filter) -> String {
    filter_of(filter.program.iter().map(|i| (i.code, i.jt, i.jf, i.k)))
}

fn mount(mount: &Mount) -> String {
    let kind = match mount.kind {
        MountKind::Tmpfs { bytes } => format!("Tmpfs {{ bytes: {bytes} }}"),
        other => format!("{other:?}"),
    };
    format!(
        "model::Mount {{ kind: model::MountKind::{kind}, host: {}, jail: {}, optional: {} }}",
        text(&mount.host),
        text(&mount.jail),
        mount.optional
    )
}

fn network_code(network: &Network) -> String {
    match network {
        Network::Join(path) => format!("model::Network::Join({})", text(path)),
        other => format!("model::Network::{other:?}"),
    }
}

fn text(text: &str) -> String {
    format!("Cow::Borrowed({text:?})")
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("Cow::Borrowed(&[{}])", items.collect::<Vec<_>>().join(", "))
}

/// The texts of a folder's files: what explains a policy, and what another one narrows.
pub fn sources(name: &str, folder: &Path) -> String {
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    files.sort();
    let mut code = format!(
        "static {}_SOURCES: &[(&str, &str)] = &[\n",
        name.to_uppercase()
    );
    for path in files {
        let text = fs::read_to_string(&path).expect("the file can be read");
        let file = path
            .file_name()
            .expect("a file has a name")
            .to_string_lossy();
        _ = writeln!(code, "    ({file:?}, {text:?}),");
    }
    code + "];\n"
}
