//! The bed itself: streams, statuses, inputs and outputs, parallel use, retries.

use casemate_testbed::{Bed, BedError, Job, Stdin, in_kvm_host};
use std::collections::BTreeSet;
use std::time::Duration;

fn bed() -> Bed {
    Bed::prepare().expect("the bed can be built")
}

#[test]
fn streams_and_status_are_exact() {
    let result = bed()
        .run(&Job::new(["sh", "-c", "echo out; echo err >&2; exit 7"]))
        .unwrap();
    assert_eq!(result.status, 7);
    assert_eq!(result.stdout, b"out\n");
    assert_eq!(result.stderr, b"err\n");
}

#[test]
fn a_signal_gives_128_and_its_number() {
    let result = bed().run(&Job::new(["sh", "-c", "kill -SEGV $$"])).unwrap();
    assert_eq!(result.status, 139);
    let result = bed().run(&Job::new(["/nowhere"])).unwrap();
    assert_eq!(result.status, 127);
}

#[test]
fn bytes_pass_unchanged() {
    let mut bytes: Vec<u8> = (0..8 << 20)
        .map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    bytes.extend(0..=255);
    let mut job = Job::new(["cat"]);
    job.stdin = Stdin::Bytes(bytes.clone());
    let result = bed().run(&job).unwrap();
    assert_eq!(result.status, 0);
    assert!(
        result.stdout == bytes,
        "{} of {} bytes came back",
        result.stdout.len(),
        bytes.len()
    );
}

#[test]
fn files_go_in_and_come_out() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().join("in");
    std::fs::write(&here, "through").unwrap();
    let mut job = Job::new(["sh", "-c", "cp /data/in /out/copy; echo more > /out/more"])
        .input(&here, "/data/in");
    job.outputs = Some(dir.path().join("out"));
    assert_eq!(bed().run(&job).unwrap().status, 0);
    let read = |name: &str| std::fs::read_to_string(dir.path().join("out").join(name)).unwrap();
    assert_eq!(read("copy"), "through");
    assert_eq!(read("more"), "more\n");
}

#[test]
fn it_is_a_kvm_host_with_cgroup_v2() {
    let script = "test -c /dev/kvm && test -c /dev/net/tun && test -c /dev/vhost-vsock \
        && grep -q svm /proc/cpuinfo && grep -qw memory /sys/fs/cgroup/cgroup.subtree_control \
        && dd if=/dev/zero of=/scratch/x bs=1M count=1 && test -d /sys/kernel/security \
        && test \"$CASEMATE_IN_BED\" = 1 && test \"$GIVEN\" = \"a b\"";
    let result = bed()
        .run(&Job::new(["sh", "-c", script]).env("GIVEN", "a b"))
        .unwrap();
    assert_eq!(
        result.status,
        0,
        "{}",
        String::from_utf8_lossy(&result.stderr)
    );
}

#[test]
fn two_at_once_and_no_traces() {
    let bed = bed();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let job = Job::new(["sh", "-c", "test ! -e /root/mine && touch /root/mine"]);
                assert_eq!(bed.run(&job).unwrap().status, 0);
            });
        }
    });
}

#[test]
fn randomness_differs_between_beds() {
    let job = Job::new(["head", "-c", "16", "/dev/urandom"]);
    // Two that are not reseeded may differ by the number of processes before.
    let seen: BTreeSet<Vec<u8>> = (0..5).map(|_| bed().run(&job).unwrap().stdout).collect();
    assert!(seen.iter().all(|bytes| bytes.len() == 16));
    assert_eq!(seen.len(), 5, "{seen:?}");
}

#[test]
fn too_long_is_an_error_of_its_own() {
    let mut job = Job::new(["sleep", "100"]);
    job.timeout = Duration::from_secs(1);
    let error = bed().run(&job).unwrap_err();
    assert!(matches!(error, BedError::TimedOut { .. }), "{error}");
}

#[test]
fn a_panic_of_the_bed_is_retried_once_and_then_told() {
    let job = Job::new(["sh", "-c", "echo c > /proc/sysrq-trigger; sleep 10"]);
    let error = bed().run(&job).unwrap_err();
    assert!(matches!(error, BedError::Panicked(_)), "{error}");
}

#[test]
fn a_cold_bed_does_the_same() {
    let mut job = Job::new(["sh", "-c", "echo cold; exit 3"]);
    job.cold = true;
    let result = bed().run(&job).unwrap();
    assert_eq!(
        (result.status, result.stdout.as_slice()),
        (3, b"cold\n".as_slice())
    );
}

#[test]
fn a_test_can_be_carried_into_the_bed() {
    in_kvm_host("a_test_can_be_carried_into_the_bed", &[], || {
        assert!(std::path::Path::new("/casemate/kernels/lean/vmlinux").is_file());
        assert!(std::path::Path::new("/casemate/userlands/debian-python.erofs").is_file());
    });
}
