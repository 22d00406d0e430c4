//! Starts cells with the stand-in VMM.

use casemate_jailer::client::{Attached, Jailer};
use casemate_proto::cell::{FdRole, FromJailer, Launch, Layer, LayerReport, Limits, VmEnd};
use casemate_proto::control::{DiskConfig, StreamConfig, VmConfig};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{PipeReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The jailer under test.
pub const JAILER: &str = env!("CARGO_BIN_EXE_casemate-jailer");

/// A run directory and images of its own. The id is unique among tests, because cgroups are
/// the host's.
pub struct Bench {
    dir: TempDir,
    pub launch: Launch,
}

/// The CLI's ends of a cell.
pub struct Ends {
    pub log: PipeReader,
    _others: (PipeReader, UnixStream),
}

impl Ends {
    /// Everything the VMM wrote to its log; waits for its end.
    pub fn log(mut self) -> String {
        let mut text = String::new();
        self.log.read_to_string(&mut text).unwrap();
        text
    }
}

impl Bench {
    pub fn new(test: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("kernel"), "a kernel").unwrap();
        std::fs::write(dir.path().join("disk"), vec![0; 8192]).unwrap();
        let launch = Launch {
            audit: None,
            tenant: "jailer-tests".parse().unwrap(),
            id: format!("{test}-{}", std::process::id()).parse().unwrap(),
            run_dir: dir.path().join("run"),
            vm: VmConfig {
                vcpus: 1,
                memory_mib: 16,
                cmdline: String::new(),
                initrd: false,
                disks: vec![DiskConfig {
                    read_only: true,
                    serial: "root".to_owned(),
                }],
                streams: vec![StreamConfig { port: 1024 }],
                entropy: true,
            },
            limits: Limits {
                memory_bytes: 64 << 20,
                cpu_millis: 1000,
                pids: 32,
                nofile: 256,
            },
            timeout_ms: Some(60_000),
            allow_missing: BTreeSet::new(),
            leave_out: BTreeSet::new(),
            roles: Vec::new(),
        };
        Self { dir, launch }
    }

    pub fn told(test: &str, words: &str) -> Self {
        let mut bench = Self::new(test);
        bench.launch.vm.cmdline = words.to_owned();
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The fds as they should be.
    pub fn fds(&self) -> (Attached, Ends) {
        let (console, console_end) = std::io::pipe().unwrap();
        let (log, log_end) = std::io::pipe().unwrap();
        let (stream, stream_end) = UnixStream::pair().unwrap();
        let mut attached = Attached::new();
        attached
            .push(FdRole::Vmm, probe())
            .push(FdRole::Kvm, kvm())
            .push(FdRole::Kernel, File::open(self.path("kernel")).unwrap())
            .push(FdRole::Disk(0), File::open(self.path("disk")).unwrap())
            .push(FdRole::Stream(0), stream_end)
            .push(FdRole::Console, console_end)
            .push(FdRole::Log, log_end);
        let ends = Ends {
            log,
            _others: (console, stream),
        };
        (attached, ends)
    }

    /// Starts the cell.
    pub fn start(&self) -> (Jailer, Ends) {
        let (attached, ends) = self.fds();
        let jailer = Jailer::start(Path::new(JAILER)).unwrap();
        jailer.launch(self.launch.clone(), &attached).unwrap();
        (jailer, ends)
    }

    /// Starts the cell, which must come to run.
    pub fn run(&self) -> Running {
        let (jailer, ends) = self.start();
        match jailer.next().unwrap() {
            Some(FromJailer::Running {
                pid, confinement, ..
            }) => Running {
                jailer,
                ends,
                pid,
                confinement,
            },
            other => panic!("not running: {other:?}"),
        }
    }

    /// Starts the cell, which must be refused; checks that nothing is left.
    pub fn refused(&self) -> (Option<Layer>, String) {
        let (jailer, _ends) = self.start();
        let refusal = expect_refusal(jailer);
        self.nothing_is_left();
        refusal
    }

    /// The cell's cgroup directories, those that are there.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        casemate_jailer::cgroup::detect()
            .unwrap()
            .iter()
            .map(|h| h.cell_path(&self.launch.tenant, &self.launch.id))
            .filter(|path| path.exists())
            .collect()
    }

    pub fn nothing_is_left(&self) {
        assert_eq!(self.cgroups(), Vec::<PathBuf>::new());
        let left: Vec<_> = walk(&self.launch.run_dir);
        assert_eq!(left, Vec::<PathBuf>::new());
    }
}

/// A cell that runs.
pub struct Running {
    pub jailer: Jailer,
    pub ends: Ends,
    pub pid: i32,
    pub confinement: Vec<LayerReport>,
}

impl Running {
    /// Waits for its end.
    pub fn ended(self) -> (VmEnd, Ends) {
        let end = match self.jailer.next().unwrap() {
            Some(FromJailer::Ended { end, .. }) => end,
            other => panic!("not ended: {other:?}"),
        };
        assert!(self.jailer.wait().unwrap().success());
        (end, self.ends)
    }
}

pub fn expect_refusal(jailer: Jailer) -> (Option<Layer>, String) {
    let refusal = match jailer.next().unwrap() {
        Some(FromJailer::Refused { layer, message }) => (layer, message),
        other => panic!("not refused: {other:?}"),
    };
    assert_eq!(jailer.wait().unwrap().code(), Some(125));
    refusal
}

/// The stand-in's binary.
pub fn probe() -> OwnedFd {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(env!("CARGO_BIN_EXE_jail-probe"))
        .unwrap()
        .into()
}

pub fn kvm() -> OwnedFd {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .unwrap()
        .into()
}

pub fn alive(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}/exe")).exists()
        && std::fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            let mut found = walk(&path);
            found.push(path);
            found
        })
        .collect()
}
