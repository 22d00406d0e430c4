//! A host for the session example: the other ends of its sockets.

use casemate_proto::agent::{
    Exec, FromInit, MAX_FROM_INIT, MAX_TO_INIT, ToInit, TtySize, read_frame, write_frame,
};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

/// A running session and the host's ends.
pub struct Session {
    child: Child,
    control: UnixStream,
    pub stdin: Option<UnixStream>,
    pub stdout: Option<UnixStream>,
    pub stderr: Option<UnixStream>,
}

/// What came back.
pub struct Outcome {
    pub last: FromInit,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().join("examples/session")
}

pub fn exec(argv: &[&str]) -> Exec {
    Exec {
        argv: argv.iter().map(|a| a.as_bytes().to_vec()).collect(),
        env: vec![b"PATH=/usr/bin:/bin".to_vec()],
        workdir: Vec::new(),
        tty: None,
    }
}

pub fn sh(script: &str) -> Exec {
    exec(&["sh", "-c", script])
}

pub fn on_tty(mut exec: Exec, rows: u16, cols: u16) -> Exec {
    exec.tty = Some(TtySize { rows, cols });
    exec
}

impl Session {
    /// Starts it and waits for the answer to `exec`.
    pub fn start(exec: Exec) -> (Self, FromInit) {
        let (control, theirs) = UnixStream::pair().unwrap();
        let streams: Vec<(UnixStream, UnixStream)> =
            (0..3).map(|_| UnixStream::pair().unwrap()).collect();
        let (near, far): (Vec<_>, Vec<_>) = streams.into_iter().unzip();
        let fds: Vec<i32> = far.iter().map(AsRawFd::as_raw_fd).collect();
        let mut command = Command::new(example());
        command.stdin(Stdio::from(OwnedFd::from(theirs)));
        // SAFETY: dup2 is async-signal-safe, and the targets are above what the test uses.
        unsafe {
            command.pre_exec(move || {
                for (fd, port) in fds.iter().zip(1025..) {
                    // Out of the way first: a source may stand at another's target.
                    let high = libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, 100);
                    if high < 0 || libc::dup2(high, port - 1000) < 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        drop(far);
        let [stdin, stdout, stderr] = <[UnixStream; 3]>::try_from(near).unwrap();
        let mut session = Self {
            child,
            control,
            stdin: Some(stdin),
            stdout: Some(stdout),
            // A terminal has no second output.
            stderr: exec.tty.is_none().then_some(stderr),
        };
        assert!(matches!(
            session.receive(),
            FromInit::Hello { kernel_us: 1, .. }
        ));
        session.send(&ToInit::Exec(exec));
        let answer = session.receive();
        (session, answer)
    }

    pub fn started(exec: Exec) -> Self {
        let (session, answer) = Self::start(exec);
        assert_eq!(answer, FromInit::Started);
        session
    }

    pub fn send(&mut self, message: &ToInit) {
        write_frame(&mut self.control, message, MAX_TO_INIT).unwrap();
    }

    pub fn receive(&mut self) -> FromInit {
        read_frame(&mut self.control, MAX_FROM_INIT)
            .unwrap()
            .expect("a message")
    }

    pub fn no_input(&self) {
        let stdin = self.stdin.as_ref().unwrap();
        stdin.shutdown(Shutdown::Write).unwrap();
    }

    /// Reads both outputs to their end and then the last message.
    pub fn finish(mut self) -> Outcome {
        let stdout = reader(self.stdout.take());
        let stderr = reader(self.stderr.take());
        let last = self.receive();
        Outcome {
            last,
            stdout: stdout.join().unwrap(),
            stderr: stderr.join().unwrap(),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The session ends when its host closes the connection.
        self.control.shutdown(Shutdown::Both).unwrap();
        self.child.wait().unwrap();
    }
}

pub fn reader(stream: Option<UnixStream>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            stream.read_to_end(&mut bytes).unwrap();
        }
        bytes
    })
}

pub fn feed(stream: Option<UnixStream>, bytes: Vec<u8>) -> JoinHandle<std::io::Result<()>> {
    std::thread::spawn(move || {
        let mut stream = stream.unwrap();
        stream.write_all(&bytes)?;
        stream.shutdown(Shutdown::Write)
    })
}
