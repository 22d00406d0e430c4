//! Bytes between our standard streams and the guest's.
//!
//! One thread a direction, each with plain blocking calls: a reader that does
//! not read stops its own stream and no other, all the way to the program's
//! `write`. Nothing is kept in between but one buffer.
//!
//! ```text
//! our stdin  --read--> buffer --write--> socket == VMM == guest   end of file: shutdown(SHUT_WR)
//! our stdout <--write- buffer <--read-- socket == VMM == guest   our reader gone: shutdown(SHUT_RD)
//! ```

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{read, write};
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Bytes moved at once: what a unix socket holds by default is about as much.
const BUFFER: usize = 256 << 10;

/// What a relay is doing, for who waits for its end.
#[derive(Debug, Default)]
pub struct Progress(AtomicU64);

impl Progress {
    /// Counts up with each change of state; odd while bytes are on their way to
    /// a reader of ours, even while the guest is waited for.
    pub fn state(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn step(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// Carries `from` (our standard input) to the guest until either ends.
pub fn input(from: OwnedFd, to: UnixStream) -> io::Result<()> {
    thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            // Whatever ends the input, the guest sees the end of a file.
            let _ = pump(from, &to, &Progress::default());
            let _ = to.shutdown(Shutdown::Write);
        })
        .map(drop)
}

/// Carries what the guest writes to `to` (our standard output or error), and
/// calls `done` at its end: an error when bytes could not be delivered. A reader
/// that is gone (`EPIPE`) is no error: the guest's program is told instead.
pub fn output(
    name: &str,
    from: UnixStream,
    to: OwnedFd,
    done: impl FnOnce(io::Result<()>) + Send + 'static,
) -> io::Result<Arc<Progress>> {
    let progress = Arc::new(Progress::default());
    let seen = Arc::clone(&progress);
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let result = pump(&from, to, &seen);
            // After an end of file this changes nothing; else the VMM, and through
            // it the guest's program, learns that nobody reads any more.
            let _ = from.shutdown(Shutdown::Read);
            // What was queued before that goes nowhere; closing a socket over it
            // would show the VMM a reset where a plain EPIPE is meant.
            let _ = io::copy(&mut &from, &mut io::sink());
            done(match result {
                Err(Stop::Write(Errno::EPIPE)) | Ok(()) => Ok(()),
                // A VMM that was killed with bytes in flight resets its sockets.
                Err(Stop::Read(Errno::ECONNRESET)) => Ok(()),
                Err(Stop::Read(e) | Stop::Write(e)) => Err(e.into()),
            });
        })?;
    Ok(progress)
}

/// Which side stopped a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Read(Errno),
    Write(Errno),
}

/// Until end of file. Our ends may have been made non-blocking by whoever
/// shares them with us, hence the polls.
fn pump(from: impl AsFd, to: impl AsFd, progress: &Progress) -> Result<(), Stop> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let len = match read(&from, &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => len,
            Err(Errno::EINTR) => continue,
            Err(Errno::EAGAIN) => {
                wait(&from, PollFlags::POLLIN).map_err(Stop::Read)?;
                continue;
            }
            Err(e) => return Err(Stop::Read(e)),
        };
        progress.step();
        let mut rest = &buffer[..len];
        while !rest.is_empty() {
            match write(&to, rest) {
                Ok(n) => rest = &rest[n..],
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => wait(&to, PollFlags::POLLOUT).map_err(Stop::Write)?,
                Err(e) => return Err(Stop::Write(e)),
            }
        }
        progress.step();
    }
}

fn wait(fd: &impl AsFd, what: PollFlags) -> Result<(), Errno> {
    match poll(&mut [PollFd::new(fd.as_fd(), what)], PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    fn pipe() -> (File, File) {
        let (r, w) = nix::unistd::pipe().unwrap();
        (r.into(), w.into())
    }

    /// What `cat` in the guest does.
    fn cat(mut stdin: UnixStream, mut stdout: UnixStream) {
        thread::spawn(move || {
            let _ = std::io::copy(&mut stdin, &mut stdout);
        });
    }

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        File::open("/dev/urandom")
            .unwrap()
            .read_exact(&mut bytes)
            .unwrap();
        bytes
    }

    #[test]
    fn sixty_four_mib_come_back_the_same_and_quickly() {
        let (in_near, in_far) = UnixStream::pair().unwrap();
        let (out_near, out_far) = UnixStream::pair().unwrap();
        cat(in_far, out_far);
        let (our_stdin, mut feed) = pipe();
        let (mut sink, our_stdout) = pipe();
        let (done, end) = mpsc::channel();
        let started = Instant::now();
        input(our_stdin.into(), in_near).unwrap();
        output("stdout", out_near, our_stdout.into(), move |r| {
            done.send(r).unwrap()
        })
        .unwrap();
        let sent = noise(64 << 20);
        let hash = blake3::hash(&sent);
        thread::spawn(move || feed.write_all(&sent).unwrap());
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match sink.read(&mut buffer).unwrap() {
                0 => break,
                n => hasher.update(&buffer[..n]),
            };
        }
        end.recv().unwrap().unwrap();
        assert_eq!(hasher.finalize(), hash);
        assert!(started.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn half_close_leaves_the_other_direction_open() {
        let (in_near, mut in_far) = UnixStream::pair().unwrap();
        let (out_near, mut out_far) = UnixStream::pair().unwrap();
        let (our_stdin, feed) = pipe();
        let (mut sink, our_stdout) = pipe();
        input(our_stdin.into(), in_near).unwrap();
        output("stdout", out_near, our_stdout.into(), |r| r.unwrap()).unwrap();
        drop(feed);
        let mut rest = Vec::new();
        in_far.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty());
        out_far.write_all(b"after").unwrap();
        drop(out_far);
        let mut got = String::new();
        sink.read_to_string(&mut got).unwrap();
        assert_eq!(got, "after");
    }

    #[test]
    fn a_reader_that_goes_is_an_epipe_for_the_guest() {
        let (out_near, mut out_far) = UnixStream::pair().unwrap();
        let (sink, our_stdout) = pipe();
        let (done, end) = mpsc::channel();
        output("stdout", out_near, our_stdout.into(), move |r| {
            done.send(r).unwrap()
        })
        .unwrap();
        drop(sink);
        let error = (0..1000).find_map(|_| out_far.write_all(&[0; 4096]).err());
        assert_eq!(error.unwrap().kind(), io::ErrorKind::BrokenPipe);
        end.recv().unwrap().unwrap();
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let (out_near, mut out_far) = UnixStream::pair().unwrap();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (done, end) = mpsc::channel();
        output("stdout", out_near, full.into(), move |r| {
            done.send(r).unwrap()
        })
        .unwrap();
        out_far.write_all(b"x").unwrap();
        let error = end.recv().unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    }

    #[test]
    fn non_blocking_ends_are_waited_for() {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        let (out_near, mut out_far) = UnixStream::pair().unwrap();
        let (mut sink, our_stdout) = pipe();
        fcntl(&our_stdout, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        output("stdout", out_near, our_stdout.into(), |r| r.unwrap()).unwrap();
        let writer = thread::spawn(move || out_far.write_all(&[7; 1 << 20]).unwrap());
        thread::sleep(Duration::from_millis(50));
        let mut got = Vec::new();
        sink.read_to_end(&mut got).unwrap();
        writer.join().unwrap();
        assert_eq!(got, [7; 1 << 20]);
    }
}
