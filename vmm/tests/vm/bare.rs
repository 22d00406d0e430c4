//! Starts the VMM as the jailer does, but without a jail: the fds at their
//! numbers, no environment, and the conversation over the control socket.

use casemate_proto::control::{DiskConfig, Ended, FromVmm, Ready, StreamConfig, ToVmm, VmConfig};
use casemate_proto::fds;
use casemate_proto::seqpacket::{self, SeqpacketError};
use casemate_testbed::Way;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::{File, OpenOptions};
use std::io::{PipeReader, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// Longest wait for anything: far beyond what is normal on a busy machine. A kernel that
/// boots quietly in an emulated host takes 10 s, and three times that where other work
/// takes the emulator's processors.
pub const PATIENCE: Duration = Duration::from_secs(150);

/// A VM to be started.
pub struct Setup {
    pub config: VmConfig,
    pub kernel: File,
    pub initrd: Option<File>,
    pub disks: Vec<File>,
    pub streams: Vec<OwnedFd>,
    /// Arguments of the VMM: none, but in builds for tests.
    pub arguments: Vec<String>,
}

impl Setup {
    /// One vCPU and no devices.
    pub fn new(kernel: &Path, cmdline: &str, memory_mib: u32) -> Self {
        Self {
            config: VmConfig {
                vcpus: 1,
                memory_mib,
                cmdline: cmdline.to_owned(),
                initrd: false,
                disks: Vec::new(),
                streams: Vec::new(),
                entropy: false,
            },
            kernel: File::open(kernel).unwrap(),
            initrd: None,
            disks: Vec::new(),
            streams: Vec::new(),
            arguments: Vec::new(),
        }
    }

    pub fn initrd(mut self, initrd: File) -> Self {
        self.config.initrd = true;
        self.initrd = Some(initrd);
        self
    }

    pub fn disk(mut self, disk: File, read_only: bool) -> Self {
        let serial = format!("disk{}", self.disks.len());
        self.config.disks.push(DiskConfig { read_only, serial });
        self.disks.push(disk);
        self
    }

    /// Gives the guest a stream, and its other end to the caller.
    pub fn stream(&mut self, port: u32) -> UnixStream {
        let (near, far) = UnixStream::pair().unwrap();
        self.config.streams.push(StreamConfig { port });
        self.streams.push(far.into());
        near
    }

    /// Starts the VMM; nothing is said to it yet.
    pub fn spawn(self) -> Vmm {
        let null = File::open("/dev/null").unwrap();
        let kvm = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .unwrap();
        let (console, console_end) = std::io::pipe().unwrap();
        let (log, log_end) = std::io::pipe().unwrap();
        for end in [console_end.as_fd(), log_end.as_fd()] {
            fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        }
        let (control, control_end) = seqpacket::pair().unwrap();
        let mut given: Vec<(RawFd, OwnedFd)> = vec![
            (fds::NULL, null.into()),
            (fds::CONSOLE, console_end.into()),
            (fds::LOG, log_end.into()),
            (fds::CONTROL, control_end),
            (fds::KVM, kvm.into()),
            (fds::KERNEL, self.kernel.into()),
        ];
        given.extend(self.initrd.map(|file| (fds::INITRD, file.into())));
        given.extend((fds::DISK_BASE..).zip(self.disks.into_iter().map(OwnedFd::from)));
        given.extend((fds::STREAM_BASE..).zip(self.streams));

        let mut command = Command::new(vmm());
        command.arg0("casemate-vmm").env_clear();
        command.args(&self.arguments);
        let numbers: Vec<_> = given.iter().map(|(to, fd)| (*to, fd.as_raw_fd())).collect();
        // SAFETY: between fork and exec only system calls and stack memory are used.
        unsafe { command.pre_exec(move || place(&numbers)) };
        let child = command.spawn().unwrap();
        Vmm {
            child,
            config: self.config,
            control,
            console,
            log,
        }
    }

    /// Starts the VMM and configures it.
    pub fn start(self) -> Vmm {
        let vmm = self.spawn();
        vmm.send(&ToVmm::Configure(vmm.config.clone()));
        vmm
    }

    /// Starts the VMM, and the guest in it.
    pub fn run(self) -> Vmm {
        let mut vmm = self.start();
        vmm.ready();
        vmm.send(&ToVmm::Go);
        vmm
    }
}

/// The VMM under test: the build's own, or in the test-bed the one that came along.
fn vmm() -> PathBuf {
    match Way::detect() {
        Way::InsideBed => casemate_testbed::programs().unwrap().join("casemate-vmm"),
        _ => env!("CARGO_BIN_EXE_casemate-vmm").into(),
    }
}

/// Puts each fd at its number, by way of numbers that none of them has.
fn place(fds: &[(RawFd, RawFd)]) -> std::io::Result<()> {
    const ASIDE: RawFd = 400;
    let check = |answer: i32| match answer {
        -1 => Err(std::io::Error::last_os_error()),
        _ => Ok(()),
    };
    // SAFETY: system calls on numbers; what they replace is not used after exec.
    unsafe {
        // What the tests' own parent left open must not reach the VMM.
        let cloexec = libc::CLOSE_RANGE_CLOEXEC as i32;
        check(libc::close_range(3, u32::MAX, cloexec))?;
        for (n, &(_, from)) in (ASIDE..).zip(fds) {
            check(libc::dup3(from, n, libc::O_CLOEXEC))?;
        }
        for (n, &(to, _)) in (ASIDE..).zip(fds) {
            check(libc::dup2(n, to))?;
        }
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    }
}

/// A running VMM; killed when dropped.
pub struct Vmm {
    pub child: Child,
    pub config: VmConfig,
    control: OwnedFd,
    pub console: PipeReader,
    pub log: PipeReader,
}

impl Vmm {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn send(&self, message: &ToVmm) {
        self.try_send(message).unwrap();
    }

    /// The same where the VMM may be gone already.
    pub fn try_send(&self, message: &ToVmm) -> Result<(), SeqpacketError> {
        seqpacket::send(self.control.as_fd(), message, &[])
    }

    /// The next message; `None` when the VMM is gone.
    pub fn receive(&self) -> Option<FromVmm> {
        wait_for(&self.control);
        seqpacket::recv(self.control.as_fd())
            .unwrap()
            .map(|(message, _)| message)
    }

    pub fn ready(&mut self) -> Ready {
        match self.receive() {
            Some(FromVmm::Ready(ready)) => ready,
            other => panic!("not ready: {other:?}, log: {}", self.dying_words()),
        }
    }

    pub fn ended(&mut self) -> Ended {
        match self.receive() {
            Some(FromVmm::Ended(ended)) => ended,
            other => panic!("not ended: {other:?}, log: {}", self.dying_words()),
        }
    }

    /// Closes the supervisor's end of the control socket.
    pub fn close_control(&mut self) {
        let (other, _) = seqpacket::pair().unwrap();
        self.control = other;
    }

    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "the VMM does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Reads the console until a whole line with `text` has come; gives all that was read.
    pub fn console_until(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        let mut part = [0; 4096];
        let has_come = |seen: &[u8]| {
            let seen = String::from_utf8_lossy(seen);
            seen.split_inclusive('\n')
                .any(|line| line.contains(text) && line.ends_with('\n'))
        };
        while !has_come(&seen) {
            wait_for(&self.console);
            match self.console.read(&mut part).unwrap() {
                0 => panic!(
                    "the console ended after {:?}, log: {}",
                    String::from_utf8_lossy(&seen),
                    self.dying_words()
                ),
                n => seen.extend_from_slice(&part[..n]),
            }
        }
        String::from_utf8_lossy(&seen).into_owned()
    }

    /// Takes what the console has within `time`, in bytes.
    pub fn console_bytes_within(&mut self, time: Duration) -> usize {
        let start = Instant::now();
        let mut part = [0; 65536];
        let mut total = 0;
        while let Some(left) = time.checked_sub(start.elapsed()) {
            let mut fds = [PollFd::new(self.console.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(left).unwrap();
            if poll(&mut fds, timeout).unwrap() > 0 {
                total += self.console.read(&mut part).unwrap();
            }
        }
        total
    }

    fn dying_words(&mut self) -> String {
        let status = self.wait();
        let mut log = String::new();
        let _ = self.log.read_to_string(&mut log);
        format!("{log:?}, {status}")
    }
}

impl Drop for Vmm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_for(fd: &impl AsFd) {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(PATIENCE).unwrap();
    assert!(poll(&mut fds, timeout).unwrap() > 0, "the VMM is silent");
}
