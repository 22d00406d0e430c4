//! One running QEMU: its sockets, its console, its end.

use crate::error::{BedError, Result};
use crate::qemu::PORTS;
use crate::qmp::Qmp;
use crate::tool;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use serde_json::json;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Lines of the console that an error quotes.
const TAIL: usize = 20;

/// Socket pairs between us and a QEMU that is about to start.
pub struct Sockets {
    ours: Vec<UnixStream>,
    theirs: Vec<UnixStream>,
}

impl Sockets {
    /// One for the control protocol, one for the console, one for each port.
    pub fn new() -> Result<Self> {
        let mut ours = Vec::new();
        let mut theirs = Vec::new();
        for _ in 0..2 + PORTS {
            let (a, b) = UnixStream::pair()
                .map_err(|e| BedError::Qmp(format!("cannot create a socket pair: {e}")))?;
            ours.push(a);
            theirs.push(b);
        }
        Ok(Self { ours, theirs })
    }

    /// QEMU's end of the control protocol.
    pub fn qmp_fd(&self) -> RawFd {
        self.theirs[0].as_raw_fd()
    }

    /// QEMU's end of the console.
    pub fn console_fd(&self) -> RawFd {
        self.theirs[1].as_raw_fd()
    }

    /// QEMU's ends of the ports.
    pub fn port_fds(&self) -> [RawFd; PORTS] {
        std::array::from_fn(|i| self.theirs[2 + i].as_raw_fd())
    }
}

/// A QEMU that dies with this value (and with this thread).
pub struct Running {
    child: Child,
    /// The control connection.
    pub qmp: Qmp,
    /// Our ends of the ports, in order.
    pub ports: Vec<UnixStream>,
    console: Arc<Mutex<Vec<u8>>>,
    /// The way to the bed's serial line.
    serial: UnixStream,
    reader: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts `command`, which was made for `sockets`.
    pub fn start(mut command: Command, sockets: Sockets) -> Result<Self> {
        let Sockets { ours, theirs } = sockets;
        let inherited: Vec<RawFd> = theirs.iter().map(AsRawFd::as_raw_fd).collect();
        let prepare = move || {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            for &fd in &inherited {
                // SAFETY: `theirs` outlives the spawn, so the descriptors are open in the child.
                let fd = unsafe { BorrowedFd::borrow_raw(fd) };
                fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
            }
            Ok(())
        };
        // SAFETY: between fork and exec the closure makes only prctl and fcntl calls.
        unsafe { command.pre_exec(prepare) };
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| BedError::Tool {
                what: "starting QEMU".into(),
                detail: e.to_string(),
            })?;
        drop(theirs);
        let mut ours = ours.into_iter();
        let (Some(qmp), Some(serial)) = (ours.next(), ours.next()) else {
            return Err(BedError::Qmp("sockets are missing".into()));
        };
        let console = Arc::new(Mutex::new(Vec::new()));
        let typing = serial
            .try_clone()
            .map_err(|e| BedError::Qmp(format!("cannot duplicate the console's socket: {e}")))?;
        let reader = std::thread::spawn({
            let console = Arc::clone(&console);
            move || collect(serial, &console)
        });
        let mut half_started = HalfStarted(Some(child));
        let qmp = Qmp::new(qmp).map_err(|e| half_started.explain(e))?;
        let Some(child) = half_started.0.take() else {
            return Err(BedError::Qmp("QEMU is gone".into()));
        };
        Ok(Self {
            child,
            qmp,
            ports: ours.collect(),
            console,
            serial: typing,
            reader: Some(reader),
        })
    }

    /// What the console has said so far.
    pub fn console(&self) -> String {
        let bytes = self.console.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The console's last lines.
    pub fn console_tail(&self) -> String {
        tool::tail(&self.console(), TAIL)
    }

    /// Has the bed's kernel print everything from here on (sysrq `9`), what its CPUs do
    /// (`l`) and which tasks are stuck (`w`), by breaks on the serial line. A kernel that
    /// prints nothing is itself stuck: then it is not the job's fault.
    pub fn explain_silence(&mut self) -> String {
        let before = self.console().len();
        for key in [b"9", b"l", b"w"] {
            let sent = self
                .qmp
                .call("chardev-send-break", json!({ "id": "console" }))
                .is_ok();
            if !sent || self.serial.write_all(key).is_err() {
                return "QEMU itself does not answer".to_owned();
            }
            std::thread::sleep(Duration::from_secs(3));
        }
        let console = self.console();
        match console.get(before..).unwrap_or_default().trim() {
            "" => "the bed's own kernel does not answer".to_owned(),
            said => said.to_owned(),
        }
    }

    /// Whether the bed's own kernel panicked. Nested guests write elsewhere.
    pub fn panicked(&self) -> bool {
        let console = self.console();
        console.contains("Kernel panic") || console.contains("Fatal exception")
    }

    /// Gives a QEMU that closed its sockets a moment to end by itself.
    pub fn wait_briefly(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(2);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends QEMU, waits for it and for the last of the console; says how it had ended.
    pub fn stop(&mut self) -> String {
        let already = self.child.try_wait().ok().flatten();
        if already.is_none() {
            let _ = self.child.kill();
        }
        let status = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        match (already, status) {
            (Some(status), _) => status.to_string(),
            (None, Ok(_)) => "still running, ended by us".into(),
            (None, Err(e)) => format!("cannot wait for it: {e}"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A QEMU that has not greeted yet.
struct HalfStarted(Option<Child>);

impl HalfStarted {
    /// Adds what QEMU wrote to standard error, if it ended.
    fn explain(&mut self, error: BedError) -> BedError {
        let Some(mut child) = self.0.take() else {
            return error;
        };
        let _ = child.kill();
        let mut text = String::new();
        if let Some(stderr) = &mut child.stderr {
            let _ = stderr.read_to_string(&mut text);
        }
        let _ = child.wait();
        BedError::Tool {
            what: "starting QEMU".into(),
            detail: format!("{error}\n{}", tool::tail(&text, TAIL)),
        }
    }
}

fn collect(mut serial: UnixStream, into: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4096];
    loop {
        match serial.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(n) => into
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend_from_slice(&buffer[..n]),
        }
    }
}
