//! The VMM with the freestanding guest, on the machine's own /dev/kvm.

use crate::bare::Setup;
use casemate_proto::control::{Ended, FromVmm, StreamConfig, ToVmm};
use casemate_proto::fds;
use casemate_tests::tiny_guest;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

fn tiny(mode: &str) -> Setup {
    Setup::new(tiny_guest(), &format!("tiny={mode}"), 128)
}

fn temporary(bytes: &[u8]) -> fs::File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Two disk images: writable, and opened read-only.
fn images() -> (fs::File, fs::File) {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(1 << 20).unwrap();
    let read_only = fs::File::open(file.path()).unwrap();
    (file.into_file(), read_only)
}

#[test]
fn the_guest_finds_what_the_loader_left() {
    let initrd: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
    let sum = initrd
        .iter()
        .fold(0u32, |sum, &b| sum.wrapping_mul(31).wrapping_add(b.into()));
    for memory_mib in [4, 128, 5 << 10] {
        let mut setup = tiny("info a b").initrd(temporary(&initrd));
        setup.config.memory_mib = memory_mib;
        let mut vmm = setup.run();
        let seen = vmm.console_until("tiny: initrd ");
        assert!(seen.contains("tiny: cmdline tiny=info a b\n"), "{seen}");
        assert!(seen.contains("tiny: rsdp true\n"), "{seen}");
        let wanted = format!("tiny: initrd 100000 {sum:#x}\n");
        assert!(seen.contains(&wanted), "{seen}");
        let memory: u64 = seen
            .lines()
            .filter_map(|line| line.strip_prefix("tiny: e820 0x"))
            .filter(|line| line.ends_with(" 1"))
            .map(|line| {
                let len = line.split(' ').nth(1).unwrap();
                u64::from_str_radix(len.trim_start_matches("0x"), 16).unwrap()
            })
            .sum();
        let all = u64::from(memory_mib) << 20;
        assert!(memory <= all && memory + (1 << 20) > all, "{memory}");
    }
}

#[test]
fn the_guest_ends_in_every_way_it_can() {
    for (mode, wanted) in [
        ("reset", Ended::Reset),
        ("poweroff", Ended::Reset),
        ("triple", Ended::TripleFault),
        ("panic", Ended::TripleFault),
    ] {
        let mut vmm = tiny(mode).run();
        assert_eq!(vmm.ended(), wanted, "{mode}");
        assert_eq!(vmm.receive(), None);
        assert!(vmm.wait().success());
    }
}

#[test]
fn nothing_runs_before_go() {
    let mut vmm = tiny("reset").start();
    vmm.ready();
    assert_eq!(vmm.console_bytes_within(Duration::from_millis(200)), 0);
    vmm.send(&ToVmm::Go);
    assert_eq!(vmm.ended(), Ended::Reset);
}

#[test]
fn a_closed_control_socket_ends_the_vmm_at_any_time() {
    let mut silent = tiny("spin").spawn();
    silent.close_control();
    assert!(silent.wait().success());
    let mut parked = tiny("spin").start();
    parked.ready();
    parked.close_control();
    assert!(parked.wait().success());
    let mut running = tiny("spin").run();
    running.console_until("tiny: up");
    running.close_control();
    assert!(running.wait().success());
}

#[test]
fn an_unexpected_message_ends_the_vmm() {
    let mut vmm = tiny("spin").spawn();
    vmm.send(&ToVmm::Go);
    assert!(matches!(vmm.ended(), Ended::Failed { .. }));
    let mut vmm = tiny("spin").run();
    vmm.send(&ToVmm::Go);
    assert!(matches!(vmm.ended(), Ended::Failed { .. }));
}

#[test]
fn fds_that_the_configuration_does_not_speak_of_are_refused() {
    let mut more = tiny("spin");
    let _stream = more.stream(1);
    more.config.streams.clear();
    let mut less = tiny("spin");
    less.config.initrd = true;
    let mut wrong = tiny("spin");
    let (_near, far) = std::os::unix::net::UnixDatagram::pair().unwrap();
    wrong.config.streams.push(StreamConfig { port: 1 });
    wrong.streams.push(far.into());
    for (setup, words) in [
        (more, "asks for 0 initramfs, 0 disks, 0 streams"),
        (less, "there are 0 initramfs"),
        (wrong, "fd 24 is not a SOCK_STREAM socket"),
    ] {
        let mut vmm = setup.spawn();
        // A VMM that refuses its fds does not wait for the configuration.
        let _ = vmm.try_send(&ToVmm::Configure(vmm.config.clone()));
        match vmm.ended() {
            Ended::Failed { message } => {
                assert!(message.starts_with("layer fds: "), "{message}");
                assert!(message.contains(words), "{words:?} is not in {message:?}");
            }
            other => panic!("{words:?}: {other:?}"),
        }
    }
}

/// Every `/proc/PID/fd` link by number.
fn open_fds(pid: u32) -> BTreeMap<i32, String> {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let number = entry.file_name().to_str().unwrap().parse().unwrap();
            let link = fs::read_link(entry.path()).unwrap();
            (number, link.to_str().unwrap().to_owned())
        })
        .collect()
}

#[test]
fn threads_and_fds_are_the_documented_ones_and_confined() {
    let (image, read_only) = images();
    let mut setup = tiny("spin").disk(image, false).disk(read_only, true);
    setup.config.vcpus = 4;
    setup.config.entropy = true;
    let _streams = [setup.stream(1), setup.stream(2)];
    let mut vmm = setup.start();
    let ready = vmm.ready();
    assert!(ready.entered_us > 0 && ready.ready_us >= ready.entered_us);
    assert_eq!(
        ready.guest_memory.iter().map(|r| r.1).sum::<u64>(),
        128 << 20
    );
    let pid = vmm.pid();
    let mut comms = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let task = task.unwrap().path();
        comms.push(
            fs::read_to_string(task.join("comm"))
                .unwrap()
                .trim()
                .to_owned(),
        );
        let status = fs::read_to_string(task.join("status")).unwrap();
        for line in ["Seccomp:\t2", "Seccomp_filters:\t2", "NoNewPrivs:\t1"] {
            assert!(status.contains(line), "{line} is not in\n{status}");
        }
    }
    comms.sort();
    let mut named = ready.threads.clone();
    named.sort();
    assert_eq!(comms, named);

    let links = open_fds(pid);
    let low: BTreeMap<_, _> = links
        .iter()
        .filter(|&(&fd, _)| fd < fds::EVENT_BASE)
        .map(|(&fd, link)| (fd, fds::FdKind::of_link(fd, link).expect("a known kind")))
        .collect();
    assert_eq!(low, fds::expected(&vmm.config));
    for (fd, link) in links.range(fds::EVENT_BASE..) {
        assert_eq!(
            fds::FdKind::of_link(*fd, link),
            Some(fds::FdKind::Event),
            "{link}"
        );
    }
    assert_eq!(fs::read(format!("/proc/{pid}/environ")).unwrap(), b"");
}

/// CPU time of a process so far, user and system.
fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit_once(") ").unwrap().1;
    let ticks: u64 = after_name
        .split(' ')
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(ticks * 10)
}

#[test]
fn an_idle_guest_costs_no_cpu() {
    let mut vmm = tiny("idle").run();
    vmm.console_until("tiny: up");
    std::thread::sleep(Duration::from_millis(200));
    let before = cpu_time(vmm.pid());
    std::thread::sleep(Duration::from_secs(4));
    let used = cpu_time(vmm.pid()) - before;
    assert!(used <= Duration::from_millis(20), "{used:?} in 4 s");
}

/// Resident memory outside of guest memory, in KiB: /proc/PID/smaps less the mappings
/// that the VMM says are the guest's.
pub fn rss_outside_guest(pid: u32, guest: &[(u64, u64)]) -> u64 {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default();
    let mut counted = false;
    let mut total = 0;
    for line in smaps.lines() {
        let head = line.split(' ').next().unwrap_or_default();
        if let Some((from, _)) = head.split_once('-')
            && let Ok(from) = u64::from_str_radix(from, 16)
        {
            counted = !guest
                .iter()
                .any(|&(start, len)| (start..start + len).contains(&from));
        } else if let Some(rest) = line.strip_prefix("Rss:").filter(|_| counted) {
            total += rest.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
        }
    }
    total
}

#[test]
fn the_vmm_itself_takes_little_memory() {
    let (image, read_only) = images();
    let mut setup = tiny("idle").disk(image, false).disk(read_only, true);
    setup.config.vcpus = 4;
    setup.config.entropy = true;
    let _streams = [setup.stream(1), setup.stream(2)];
    let mut vmm = setup.start();
    let ready = vmm.ready();
    vmm.send(&ToVmm::Go);
    vmm.console_until("tiny: up");
    let kib = rss_outside_guest(vmm.pid(), &ready.guest_memory);
    println!("{kib} KiB");
    assert!(kib < 5 << 10, "{kib} KiB");
}

#[test]
fn a_flood_is_cut_to_its_rate() {
    let mut vmm = tiny("flood").run();
    let start = Instant::now();
    let bytes = vmm.console_bytes_within(Duration::from_secs(3)) as u64;
    let most = (256 << 10) + (start.elapsed().as_millis() as u64 * (64 << 10)) / 1000;
    assert!(bytes > 1000 && bytes <= most, "{bytes} of {most}");
}

#[test]
fn refusals_name_object_and_remedy() {
    let change = |change: &dyn Fn(&mut Setup)| {
        let mut setup = tiny("idle");
        change(&mut setup);
        setup
    };
    let mut twice = tiny("idle");
    let _streams = [twice.stream(7), twice.stream(7)];
    let cases: Vec<(Setup, &str)> = vec![
        (change(&|s| s.config.vcpus = 0), "0 vCPUs: give 1 to 32"),
        (change(&|s| s.config.vcpus = 33), "33 vCPUs: give 1 to 32"),
        (change(&|s| s.config.memory_mib = 0), "memory of 0 MiB"),
        (change(&|s| s.config.memory_mib = 1), "give at least 3 MiB"),
        (change(&|s| s.config.memory_mib = u32::MAX), "MiB"),
        (
            change(&|s| s.config.cmdline = "x".repeat(3000)),
            "command line",
        ),
        (change(&|s| s.kernel = temporary(b"")), "kernel is empty"),
        (
            change(&|s| s.kernel = temporary(b"#!/bin/sh")),
            "kernel is neither",
        ),
        (
            change(&|s| s.kernel = fs::File::open("/bin/true").unwrap()),
            "kernel is an ELF file",
        ),
        (tiny("idle").initrd(temporary(b"")), "initramfs is empty"),
        (
            tiny("idle").disk(temporary(b"odd"), false),
            "disk disk0: 3 bytes",
        ),
        (tiny("idle").disk(temporary(b"odd"), true), "not opened so"),
        (twice, "vsock port 7 is given twice"),
    ];
    for (setup, words) in cases {
        let start = Instant::now();
        let mut vmm = setup.start();
        match vmm.receive() {
            Some(FromVmm::Ended(Ended::Refused { message })) => {
                assert!(message.contains(words), "{words:?} is not in {message:?}");
                assert!(!message.contains('\n'), "{message:?}");
            }
            other => panic!("{words:?}: {other:?}"),
        }
        assert!(vmm.wait().success());
        assert!(start.elapsed() < Duration::from_secs(1));
    }
}
