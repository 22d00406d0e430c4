//! What the kernel says of a running VMM, thread by thread, from /proc alone:
//! nothing here asks Casemate. Each check is seen to fail with its layer off.

use casemate_proto::cell::Layer;
use casemate_proto::control::{DiskConfig, StreamConfig, VmConfig};
use casemate_proto::fds;
use casemate_tests::proc::Process;
use casemate_tests::{cell, leftovers};
use std::collections::BTreeSet;

/// Every way in which this VMM is less confined than promised, by layer.
fn violations(vmm: Process) -> Vec<(Layer, String)> {
    let mut found = Vec::new();
    let host = Process(std::process::id() as i32);
    for (layer, kind) in [
        (Layer::MountNs, "mnt"),
        (Layer::PidNs, "pid"),
        (Layer::NetNs, "net"),
        (Layer::IpcNs, "ipc"),
        (Layer::UtsNs, "uts"),
        (Layer::CgroupNs, "cgroup"),
    ] {
        let its = vmm.namespace(kind);
        if its.is_empty() || its == host.namespace(kind) {
            found.push((layer, format!("{kind} namespace {its:?} is the host's")));
        }
    }
    match vmm.root() {
        Ok(names) if names.is_empty() => {}
        other => found.push((Layer::Root, format!("root holds {other:?}"))),
    }
    let environment = vmm.read("environ");
    if !environment.is_empty() {
        found.push((Layer::Environment, format!("{} bytes", environment.len())));
    }
    if !String::from_utf8_lossy(&vmm.read("cgroup")).contains("casemate/") {
        found.push((Layer::Cgroup, "in no cgroup of ours".to_owned()));
    }
    let limits = String::from_utf8_lossy(&vmm.read("limits")).into_owned();
    if !limits.lines().any(|l| {
        l.split_whitespace()
            .eq("Max core file size 1 1 bytes".split(' '))
    }) {
        found.push((Layer::Rlimits, "may dump core".to_owned()));
    }
    found.extend(fd_violations(vmm).into_iter().map(|v| (Layer::Fds, v)));
    for (tid, name) in vmm.threads() {
        found.extend(
            thread_violations(vmm, tid)
                .into_iter()
                .map(|(layer, v)| (layer, format!("{name}: {v}"))),
        );
    }
    found
}

fn thread_violations(vmm: Process, tid: i32) -> Vec<(Layer, String)> {
    let status = vmm.status(tid);
    let get = |key: &str| status.get(key).map_or("", String::as_str);
    let mut found = Vec::new();
    if get("Seccomp") != "2" {
        found.push((Layer::Seccomp, format!("Seccomp {}", get("Seccomp"))));
    }
    if get("NoNewPrivs") != "1" {
        found.push((
            Layer::NoNewPrivs,
            format!("NoNewPrivs {}", get("NoNewPrivs")),
        ));
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        if get(set).is_empty() || get(set).bytes().any(|digit| digit != b'0') {
            found.push((Layer::Capabilities, format!("{set} {}", get(set))));
        }
    }
    for ids in ["Uid", "Gid"] {
        if get(ids).is_empty() || get(ids).split_whitespace().any(|id| id == "0") {
            found.push((Layer::User, format!("{ids} {}", get(ids))));
        }
    }
    if !get("Groups").is_empty() {
        found.push((Layer::User, format!("groups {}", get("Groups"))));
    }
    found
}

/// The documented fds of a VM with one vCPU, one disk and four streams.
fn documented() -> VmConfig {
    VmConfig {
        vcpus: 1,
        memory_mib: 0,
        cmdline: String::new(),
        initrd: true,
        disks: vec![DiskConfig {
            read_only: true,
            serial: String::new(),
        }],
        streams: (0..4).map(|n| StreamConfig { port: 1024 + n }).collect(),
        entropy: true,
    }
}

fn fd_violations(vmm: Process) -> Vec<String> {
    let mut expected = fds::expected(&documented());
    let mut found = Vec::new();
    for (fd, link) in vmm.fds() {
        let kind = fds::FdKind::of_link(fd, &link);
        let wanted = expected.remove(&fd);
        let fine = match wanted {
            Some(wanted) => kind == Some(wanted),
            None => fd >= fds::EVENT_BASE && kind == Some(fds::FdKind::Event),
        };
        if !fine {
            found.push(format!("fd {fd} is {link}, expected {wanted:?}"));
        }
    }
    found.extend(
        expected
            .into_iter()
            .map(|(fd, kind)| format!("no fd {fd} ({kind:?})")),
    );
    found
}

#[test]
fn every_thread_is_confined_as_promised() {
    let guest = cell::start(cell::Mode::Idle, &[]);
    let names: BTreeSet<String> = guest
        .vmm()
        .threads()
        .into_iter()
        .map(|(_, name)| name)
        .collect();
    for thread in ["main", "vcpu0", "blk0", "vsock", "rng"] {
        assert!(names.contains(thread), "no thread {thread} in {names:?}");
    }
    assert_eq!(violations(guest.vmm()), []);
    let run_dir = guest.stop();
    assert_eq!(leftovers::all(run_dir.path()), Vec::<String>::new());
}

/// Layers that a test can leave out, with what /proc then shows. Landlock shows
/// nowhere in /proc: there the report, which carries the child's own probe,
/// stands for it.
const OBSERVABLE: [Layer; 15] = [
    Layer::MountNs,
    Layer::PidNs,
    Layer::NetNs,
    Layer::IpcNs,
    Layer::UtsNs,
    Layer::CgroupNs,
    Layer::Root,
    Layer::Cgroup,
    Layer::Rlimits,
    Layer::User,
    Layer::Capabilities,
    Layer::NoNewPrivs,
    Layer::Seccomp,
    Layer::Environment,
    Layer::Fds,
];

#[test]
fn each_check_fails_with_its_layer_off() {
    for layer in OBSERVABLE {
        let guest = cell::start_with_layer_off(layer);
        let found = violations(guest.vmm());
        assert!(
            found.iter().any(|(of, _)| *of == layer),
            "{layer} is off and /proc shows no difference: {found:?}"
        );
        guest.stop();
    }
}

#[test]
fn a_layer_that_is_off_stops_the_start_and_is_named() {
    // A property of the host, and what no VM asks for.
    let others = [Layer::FullKvm, Layer::CoreScheduling, Layer::CpuPinning];
    for layer in Layer::ALL.into_iter().filter(|l| !others.contains(l)) {
        let said = cell::refused_with_layer_off(layer);
        assert!(said.contains(layer.name()), "{layer}: {said}");
    }
}
