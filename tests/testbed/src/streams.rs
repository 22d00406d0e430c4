//! Carries a job's streams between the bed's ports and this process.

use crate::error::{BedError, Result};
use crate::job::{Job, Output, Stdin};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};

/// Threads that carry one job's streams.
pub struct Streams {
    stdout: JoinHandle<Vec<u8>>,
    stderr: JoinHandle<Vec<u8>>,
    outputs: JoinHandle<io::Result<()>>,
    outputs_dir: Option<PathBuf>,
}

impl Streams {
    /// Starts carrying; `ports` are standard input, output, error and the output archive.
    pub fn start(ports: Vec<UnixStream>, job: &Job) -> Result<Self> {
        let Ok([stdin, stdout, stderr, archive]) = <[UnixStream; 4]>::try_from(ports) else {
            return Err(BedError::Qmp("ports are missing".into()));
        };
        match job.stdin.clone() {
            // Kept open by the thread's end only: the bed does not read it.
            Stdin::Null => drop(stdin),
            Stdin::Bytes(bytes) => feed(io::Cursor::new(bytes), stdin),
            Stdin::Inherit => feed(io::stdin(), stdin),
        }
        let streamed = job.output == Output::Stream;
        let outputs_dir = job.outputs.clone();
        Ok(Self {
            stdout: thread::spawn(move || carry(stdout, streamed.then(io::stdout))),
            stderr: thread::spawn(move || carry(stderr, streamed.then(io::stderr))),
            outputs: thread::spawn({
                let dir = outputs_dir.clone();
                move || unpack(archive, dir)
            }),
            outputs_dir,
        })
    }

    /// Waits for the ends, which come when QEMU is gone. A failure to unpack the outputs
    /// counts only when the job `ended`.
    pub fn finish(self, ended: bool) -> Result<(Vec<u8>, Vec<u8>)> {
        let stdout = self.stdout.join().unwrap_or_default();
        let stderr = self.stderr.join().unwrap_or_default();
        let unpacked = self.outputs.join();
        if ended && let (Ok(Err(e)), Some(dir)) = (unpacked, self.outputs_dir) {
            return Err(BedError::io("unpack outputs into", dir)(e));
        }
        Ok((stdout, stderr))
    }
}

/// Copies `from` into the port and closes it. Not waited for: the job may end first.
fn feed(mut from: impl Read + Send + 'static, mut to: UnixStream) {
    thread::spawn(move || {
        // A job that ends without reading breaks the copy; that is its right.
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
        // Hold our end until QEMU is gone.
        let _ = io::copy(&mut to, &mut io::sink());
    });
}

/// Copies the port to `to` as it comes, or into the returned bytes.
fn carry(mut from: UnixStream, to: Option<impl Write>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut to) = to else {
        let _ = from.read_to_end(&mut kept);
        return kept;
    };
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 {
            break;
        }
        // Our own reader may be gone; the job must not block on it.
        let _ = to.write_all(&buffer[..count]).and_then(|()| to.flush());
    }
    kept
}

fn unpack(mut from: UnixStream, dir: Option<PathBuf>) -> io::Result<()> {
    let unpacked = match dir {
        Some(dir) => {
            let mut archive = tar::Archive::new(&mut from);
            archive.set_preserve_permissions(true);
            archive.unpack(dir)
        }
        None => Ok(()),
    };
    io::copy(&mut from, &mut io::sink())?;
    unpacked
}
