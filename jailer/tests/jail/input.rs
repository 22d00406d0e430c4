//! Bad input: each refused with an error that names the object, leaving nothing.

use crate::support::{Bench, JAILER, expect_refusal, kvm};
use casemate_jailer::client::{Attached, Jailer};
use casemate_proto::cell::FdRole;
use casemate_proto::seqpacket;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;

/// Starts with `role`'s fd replaced by `fd`, or with `role` left out.
fn refused_with(bench: &Bench, role: FdRole, fd: Option<OwnedFd>) -> String {
    let (good, _ends) = bench.fds();
    let mut attached = Attached::new();
    for (&there, kept) in good.roles().iter().zip(good.fds()) {
        if there != role {
            attached.push(there, kept.try_clone_to_owned().unwrap());
        }
    }
    if let Some(fd) = fd {
        attached.push(role, fd);
    }
    let jailer = Jailer::start(Path::new(JAILER)).unwrap();
    jailer.launch(bench.launch.clone(), &attached).unwrap();
    let (layer, message) = expect_refusal(jailer);
    assert_eq!(layer, None);
    bench.nothing_is_left();
    message
}

fn open(path: impl AsRef<Path>, write: bool) -> OwnedFd {
    OpenOptions::new()
        .read(true)
        .write(write)
        .open(path)
        .unwrap()
        .into()
}

#[test]
fn a_missing_fd_is_named() {
    let bench = Bench::new("missing");
    for role in [
        FdRole::Vmm,
        FdRole::Kvm,
        FdRole::Kernel,
        FdRole::Disk(0),
        FdRole::Stream(0),
        FdRole::Console,
        FdRole::Log,
    ] {
        let message = refused_with(&bench, role, None);
        assert!(message.contains(&format!("{role:?}")), "{message}");
    }
}

#[test]
fn an_fd_of_the_wrong_kind_is_named() {
    let bench = Bench::new("wrong");
    let kernel = bench.path("kernel");
    let (unconnected, datagram) = (
        std::os::unix::net::UnixListener::bind(bench.path("socket")).unwrap(),
        UnixDatagram::pair().unwrap().0,
    );
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = std::net::TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
    let (read_end, write_end) = std::io::pipe().unwrap();
    let wrong: Vec<(FdRole, OwnedFd)> = vec![
        (FdRole::Vmm, open("/", false)),
        (FdRole::Vmm, open(&kernel, true)),
        (FdRole::Kvm, open("/dev/null", true)),
        (FdRole::Kvm, open("/dev/kvm", false)),
        (FdRole::Kvm, open(&kernel, true)),
        (FdRole::Kernel, open("/", false)),
        (FdRole::Kernel, open("/dev/zero", false)),
        (FdRole::Kernel, open(&kernel, true)),
        (FdRole::Kernel, read_end.into()),
        (FdRole::Disk(0), open("/", false)),
        (FdRole::Disk(0), open(bench.path("disk"), true)),
        (FdRole::Disk(0), kvm()),
        (FdRole::Stream(0), unconnected.into()),
        (FdRole::Stream(0), datagram.into()),
        (FdRole::Stream(0), tcp.into()),
        (FdRole::Stream(0), write_end.into()),
        (FdRole::Console, open(&kernel, true)),
        (FdRole::Console, std::io::pipe().unwrap().0.into()),
        (FdRole::Log, UnixStream::pair().unwrap().0.into()),
    ];
    for (role, fd) in wrong {
        let message = refused_with(&bench, role, Some(fd));
        assert!(
            message.contains(&format!("{role:?}")) && message.contains("must be"),
            "{message}"
        );
    }
}

#[test]
fn doubled_and_superfluous_fds_are_named() {
    let bench = Bench::new("twofold");
    for (role, word) in [
        (FdRole::Kernel, "two fds"),
        (FdRole::Initrd, "leave it out"),
        (FdRole::Disk(1), "leave it out"),
        (FdRole::Stream(7), "leave it out"),
    ] {
        let (mut attached, _ends) = bench.fds();
        attached.push(role, File::open(bench.path("kernel")).unwrap());
        let jailer = Jailer::start(Path::new(JAILER)).unwrap();
        jailer.launch(bench.launch.clone(), &attached).unwrap();
        let (_, message) = expect_refusal(jailer);
        assert!(
            message.contains(&format!("{role:?}")) && message.contains(word),
            "{message}"
        );
        bench.nothing_is_left();
    }
}

#[test]
fn values_that_cannot_be_are_refused() {
    let refused = |change: &dyn Fn(&mut Bench), word: &str| {
        let mut bench = Bench::new("values");
        change(&mut bench);
        let (_, message) = bench.refused();
        assert!(message.contains(word), "{message}");
    };
    refused(&|b| b.launch.vm.vcpus = 0, "vCPUs");
    refused(&|b| b.launch.vm.vcpus = 33, "vCPUs");
    refused(&|b| b.launch.vm.memory_mib = 0, "memory");
    refused(&|b| b.launch.limits.memory_bytes = 1, "memory");
    refused(&|b| b.launch.limits.cpu_millis = 0, "CPU");
    refused(&|b| b.launch.limits.pids = 1, "tasks");
    refused(&|b| b.launch.limits.nofile = 4, "fds");
    refused(&|b| b.launch.vm.cmdline = "a\0b".to_owned(), "NUL");
    refused(&|b| b.launch.vm.disks[0].serial = "x".repeat(21), "serial");
    refused(&|b| b.launch.run_dir = "run".into(), "absolute");
}

#[test]
fn junk_instead_of_a_launch_is_refused() {
    let (ours, theirs) = seqpacket::pair().unwrap();
    seqpacket::send(ours.as_fd(), &"launch!", &[]).unwrap();
    let status = supervise_with(theirs);
    let answer = seqpacket::recv::<serde_json::Value>(ours.as_fd()).unwrap();
    let (answer, _) = answer.expect("a refusal");
    assert_eq!(answer["is"], "refused");
    assert_eq!(status, Some(125));
}

#[test]
fn a_closed_socket_ends_it_before_it_began() {
    let (ours, theirs) = seqpacket::pair().unwrap();
    drop(ours);
    assert_eq!(supervise_with(theirs), Some(0));
    let by_hand = std::process::Command::new(JAILER)
        .arg("supervise")
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert_eq!(by_hand.code(), Some(125));
}

/// Runs `casemate-jailer supervise` with this socket as its fd 3, to its end.
fn supervise_with(socket: OwnedFd) -> Option<i32> {
    use std::os::fd::AsRawFd;
    use std::os::unix::process::CommandExt;
    let raw = socket.as_raw_fd();
    let mut command = std::process::Command::new(JAILER);
    command.arg("supervise");
    // SAFETY: dup2 and fcntl are async-signal-safe, and `socket` lives until the end.
    unsafe {
        command.pre_exec(move || {
            match raw {
                3 => libc::fcntl(3, libc::F_SETFD, 0),
                raw => libc::dup2(raw, 3),
            };
            Ok(())
        });
    }
    let mut child = command.spawn().unwrap();
    drop(socket);
    child.wait().unwrap().code()
}

#[test]
fn whatever_was_placed_in_the_run_directory_beforehand_is_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("lock"), "precious").unwrap();
    type Place = fn(&Path, &Path);
    let places: [(&str, Place); 5] = [
        ("", |at, outside| symlink(outside, at).unwrap()),
        ("", |at, _| std::fs::write(at, "x").unwrap()),
        ("", |at, _| {
            nix::unistd::mkfifo(at, nix::sys::stat::Mode::S_IRWXU).unwrap();
        }),
        ("", |at, _| {
            drop(std::os::unix::net::UnixListener::bind(at).unwrap());
        }),
        ("", |at, _| {
            std::fs::create_dir(at).unwrap();
            std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o777)).unwrap();
        }),
    ];
    for level in 0..4 {
        for (_, place) in &places {
            let bench = Bench::new("placed");
            let run = &bench.launch.run_dir;
            let tenant = run.join(bench.launch.tenant.as_str());
            let id = tenant.join(bench.launch.id.as_str());
            let path = [run.clone(), tenant, id.clone(), id.join("lock")][level].clone();
            for dir in path.ancestors().skip(1).collect::<Vec<_>>().iter().rev() {
                if dir.starts_with(run) {
                    std::fs::create_dir(dir).unwrap();
                    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).unwrap();
                }
            }
            place(&path, outside.path());
            let (jailer, _ends) = bench.start();
            // A plain file of root's at the lock's place is a lock somebody left.
            if level == 3 && path.is_file() && !path.is_symlink() {
                assert!(matches!(
                    jailer.next().unwrap(),
                    Some(casemate_proto::cell::FromJailer::Running { .. })
                ));
                jailer.wait().unwrap();
                continue;
            }
            let (_, message) = expect_refusal(jailer);
            assert!(
                message.contains(&path.display().to_string()),
                "{path:?}: {message}"
            );
            assert!(path.symlink_metadata().is_ok(), "{path:?} was removed");
        }
    }
    let kept = std::fs::read_to_string(outside.path().join("lock")).unwrap();
    assert_eq!(kept, "precious");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn a_hard_link_at_the_lock_is_refused() {
    let bench = Bench::new("hardlink");
    let id = bench
        .launch
        .run_dir
        .join(bench.launch.tenant.as_str())
        .join(bench.launch.id.as_str());
    std::fs::create_dir_all(&id).unwrap();
    for dir in id.ancestors().take(3) {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
    std::fs::hard_link(bench.path("kernel"), id.join("lock")).unwrap();
    let (jailer, _ends) = bench.start();
    let (_, message) = expect_refusal(jailer);
    assert!(message.contains("lock"), "{message}");
    assert_eq!(
        std::fs::read_to_string(bench.path("kernel")).unwrap(),
        "a kernel"
    );
}
