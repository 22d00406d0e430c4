//! Every device under the filter its thread will have.
//!
//! In a process of its own, since a filter that refuses a call ends the process,
//! and with one malloc heap, as the VMM has.

use super::block::{Block, Disk, SECTOR};
use super::device::VirtioDevice;
use super::entropy::Entropy;
use super::testing::{Driver, FREE};
use super::vsock::{Streams, Vsock};
use super::worker::Confine;
use casemate_policies::{Filter, Role, ThreadClass, filter};
use casemate_proto::control::{DiskConfig, StreamConfig};
use casemate_proto::fds::{DISK_BASE, STREAM_BASE};
use nix::fcntl::{FcntlArg, fcntl};
use std::io::{Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Command;

const CHILD: &str = "CASEMATE_CONFINED_TEST";

/// Runs `body` in a fresh process: this very test, called by itself.
fn in_a_process_of_its_own(test: &str, body: impl FnOnce()) {
    if std::env::var_os(CHILD).is_some() {
        return body();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("virtio::confined::{test}")])
        .args(["--test-threads=1", "--nocapture"])
        .env(CHILD, "1")
        .env("GLIBC_TUNABLES", "glibc.malloc.arena_max=1")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success(), "{}\n{text}", output.status);
    assert!(text.contains("1 passed"), "the test did not run:\n{text}");
}

/// Moves an fd to the first free number from `base` on, where the policy knows it.
fn at(base: i32, fd: impl Into<OwnedFd>) -> OwnedFd {
    let moved = fcntl(fd.into().as_fd(), FcntlArg::F_DUPFD_CLOEXEC(base)).unwrap();
    assert_eq!(moved, base, "taken");
    // SAFETY: fcntl has just made this fd; nobody else knows its number.
    unsafe { OwnedFd::from_raw_fd(moved) }
}

fn driver(name: &str, device: impl VirtioDevice, filter: Filter) -> Driver {
    let confine: Confine = Box::new(move || {
        nix::sys::prctl::set_no_new_privs()?;
        Ok(filter.install()?)
    });
    let driver = Driver::confined(name, device, confine);
    assert_eq!(driver.thread_status("Seccomp"), "2");
    driver
}

/// Breaks a queue of the device's, and starts it again.
fn break_and_restart(driver: &mut Driver, queue: usize) {
    let mem = driver.mem.clone();
    driver.queues[queue].advance(&mem, 1000);
    driver.kick(queue);
    driver.wait_broken();
    driver.start(u64::MAX, 64);
}

#[test]
fn block() {
    in_a_process_of_its_own("block", || {
        let file = tempfile::tempfile().unwrap();
        file.set_len(64 * SECTOR).unwrap();
        let config = DiskConfig {
            read_only: false,
            serial: "root".into(),
        };
        let disk = Disk::new(at(DISK_BASE, file.try_clone().unwrap()).into(), &config).unwrap();
        let filter = filter(ThreadClass::Block).bind(Role::Disk, DISK_BASE);
        let mut driver = driver("blk0", Block::new(disk), filter);
        for _ in 0..2 {
            driver.start(u64::MAX, 64);
            // Read, write, flush, serial, unknown, beyond the end.
            for (kind, sector) in [(0u32, 0u64), (1, 1), (4, 0), (8, 0), (77, 0), (0, 64)] {
                driver.poke(FREE, &kind.to_le_bytes());
                driver.poke(FREE + 8, &sector.to_le_bytes());
                let writable = kind != 1;
                let (data, len) = (FREE + 0x1000, if kind == 4 { 0 } else { 256 });
                driver.transact(
                    0,
                    &[
                        (FREE, 16, false),
                        (data, len, writable),
                        (data + 0x1000, len, writable),
                        (FREE + 64, 1, true),
                    ],
                );
            }
            break_and_restart(&mut driver, 0);
        }
        file.set_len(SECTOR).unwrap();
        driver.poke(FREE, &[0, 0, 0, 0, 0, 0, 0, 0, 5]);
        driver.transact(
            0,
            &[
                (FREE, 16, false),
                (FREE + 0x1000, 512, true),
                (FREE + 64, 1, true),
            ],
        );
        assert_eq!(driver.peek(FREE + 64, 1), [1]);
    });
}

#[test]
fn entropy() {
    in_a_process_of_its_own("entropy", || {
        let mut driver = driver("rng", Entropy::new(), filter(ThreadClass::Entropy));
        driver.start(u64::MAX, 64);
        assert_eq!(driver.transact(0, &[(FREE, 100_000, true)]), 64 << 10);
        break_and_restart(&mut driver, 0);
        assert_eq!(driver.transact(0, &[(FREE, 9, true)]), 9);
    });
}

#[test]
fn vsock() {
    in_a_process_of_its_own("vsock", || {
        use super::vsock::testing::{packet, packet_in};
        let (mut host, ours) = UnixStream::pair().unwrap();
        let streams = Streams::new([(StreamConfig { port: 1024 }, at(STREAM_BASE, ours))]);
        let device = Vsock::new(3, streams.unwrap());
        let mut driver = driver("vsock", device, filter(ThreadClass::Vsock));
        driver.start(u64::MAX, 128);
        for n in 0..64 {
            driver.offer(0, &[(FREE + 4096 * n, 4096, true)]);
        }
        driver.kick(0);
        let (headers, data) = (FREE + 0x10_0000, FREE + 0x11_0000);
        let mut sent = 0;
        let mut send = |driver: &mut Driver, op, flags, len: u32| {
            let at = headers + 64 * sent;
            sent += 1;
            driver.poke(at, &packet(3, 5000, 1024, op, flags, len));
            driver.transact(1, &[(at, 44, false), (data, len, false)]);
        };
        send(&mut driver, 1, 0, 0);
        driver.wait_used(0);
        // More than the socket holds: some is kept, and flushed when there is room.
        for _ in 0..6 {
            send(&mut driver, 5, 0, 60_000);
        }
        host.read_exact(&mut vec![0; 360_000]).unwrap();
        host.write_all(&[7; 10_000]).unwrap();
        driver.wait("the host's data", |driver| {
            let (head, _) = driver.used(0)?;
            let (op, len) = packet_in(&driver.peek(FREE + 4096 * u64::from(head), 44));
            (op == 5).then_some(len)
        });
        send(&mut driver, 4, 2, 0);
        assert_eq!(host.read(&mut [0]).unwrap(), 0);
        drop(host);
        // One to nowhere, one that breaks the rules, and a broken queue.
        send(&mut driver, 3, 0, 0);
        send(&mut driver, 5, 0, 9);
        break_and_restart(&mut driver, 1);
        driver.assert_asleep();
    });
}
