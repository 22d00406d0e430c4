//! Each layer left out, one by one: the read-back must notice.

use crate::support::{Bench, JAILER, expect_refusal};
use casemate_jailer::client::Jailer;
use casemate_proto::cell::{FromJailer, Layer};
use std::fs::File;
use std::path::Path;

#[test]
fn each_layer_left_out_is_noticed_and_named() {
    for layer in Layer::ALL {
        if matches!(
            layer,
            Layer::FullKvm | Layer::CoreScheduling | Layer::CpuPinning
        ) {
            // A property of the host, which the jailer does not look at; and what no VM asks for.
            continue;
        }
        let mut bench = Bench::new(&format!("off-{layer}"));
        bench.launch.leave_out.insert(layer);
        let (named, message) = bench.refused();
        assert_eq!(named, Some(layer), "{message}");
        assert!(message.contains(layer.name()), "{message}");
    }
}

#[test]
fn a_layer_left_out_that_may_be_missing_is_reported_as_not_holding() {
    for layer in [Layer::NetNs, Layer::Cgroup, Layer::Landlock, Layer::Seccomp] {
        let mut bench = Bench::new(&format!("may-{layer}"));
        bench.launch.leave_out.insert(layer);
        bench.launch.allow_missing.insert(layer);
        let cell = bench.run();
        for report in &cell.confinement {
            assert_eq!(report.holds, report.layer != layer, "{report:?}");
        }
        cell.jailer.stop().unwrap();
        cell.ended();
        bench.nothing_is_left();
    }
}

#[test]
fn without_a_mount_namespace_there_is_no_new_root_either() {
    let mut bench = Bench::new("no-mounts");
    bench.launch.leave_out.insert(Layer::MountNs);
    bench.launch.allow_missing.insert(Layer::MountNs);
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    let (named, message) = bench.refused();
    assert_eq!(named, Some(Layer::Root), "{message}");
    assert_eq!(mounts(), before, "the host's mounts changed");
}

#[test]
fn a_layer_that_holds_is_reported_as_such_although_it_may_be_missing() {
    let mut bench = Bench::new("may-all");
    bench.launch.allow_missing.extend(Layer::ALL);
    let cell = bench.run();
    assert!(cell.confinement.iter().all(|report| report.holds));
    cell.jailer.stop().unwrap();
    cell.ended();
}

#[test]
fn an_fd_too_many_is_noticed() {
    let (layer, message) = Bench::told("leak", "leak").refused();
    assert_eq!(layer, Some(Layer::Fds), "{message}");
}

#[test]
fn a_thread_without_a_filter_is_noticed() {
    let (layer, message) = Bench::told("no-filter", "no-filter").refused();
    assert_eq!(layer, Some(Layer::Seccomp), "{message}");
}

#[test]
fn fds_that_the_jailer_inherited_do_not_reach_the_vmm() {
    let bench = Bench::new("inherit");
    let root = File::open("/").unwrap();
    // SAFETY: a copy without close-on-exec, closed below.
    let leaked = unsafe { libc::dup(std::os::fd::AsRawFd::as_raw_fd(&root)) };
    let (attached, _ends) = bench.fds();
    let jailer = Jailer::start(Path::new(JAILER)).unwrap();
    // SAFETY: made above, and nobody else's.
    unsafe { libc::close(leaked) };
    jailer.launch(bench.launch.clone(), &attached).unwrap();
    let started = jailer.next().unwrap();
    assert!(
        matches!(started, Some(FromJailer::Running { .. })),
        "{started:?}"
    );
    jailer.wait().unwrap();
    bench.nothing_is_left();
}

#[test]
fn a_binary_that_cannot_be_executed_is_refused_with_the_remedy() {
    let bench = Bench::new("noexec");
    let (good, _ends) = bench.fds();
    let mut attached = casemate_jailer::client::Attached::new();
    for (&role, fd) in good.roles().iter().zip(good.fds()) {
        match role {
            casemate_proto::cell::FdRole::Vmm => {
                attached.push(role, File::open(bench.path("kernel")).unwrap())
            }
            role => attached.push(role, fd.try_clone_to_owned().unwrap()),
        };
    }
    let jailer = Jailer::start(Path::new(JAILER)).unwrap();
    jailer.launch(bench.launch.clone(), &attached).unwrap();
    let (_, message) = expect_refusal(jailer);
    assert!(message.contains("chmod 755"), "{message}");
    bench.nothing_is_left();
}
