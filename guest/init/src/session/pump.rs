//! Carries bytes from one fd to another, never blocking, with a bounded buffer.
//!
//! A pump reads only when its buffer is empty, so a sink that is slow stops its
//! own source and nothing else. How ends travel:
//!
//! | happens | follows |
//! |---|---|
//! | source ends | the buffer is written out, then the sink is ended (see [`Sink`]) |
//! | sink breaks (reader gone) | source and sink are closed: whoever writes to the source learns it by `SIGPIPE` or a reset |

use super::control::set_nonblocking;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{Shutdown, shutdown};
use nix::sys::termios::{LocalFlags, SpecialCharacterIndices, tcgetattr};
use nix::unistd::{read, write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Bytes a pump holds at most. A Linux pipe holds as many.
const BUFFER: usize = 65536;

/// Where a pump writes to, and how it passes on the end.
#[derive(Debug)]
pub enum Sink {
    /// A pipe: closed.
    Pipe(OwnedFd),
    /// A connection to the host: half-closed, and kept, so that nothing under way is lost.
    Stream(OwnedFd),
    /// A terminal's master: gets the end-of-file character where its line discipline has one.
    Tty(OwnedFd),
}

impl Sink {
    fn fd(&self) -> &OwnedFd {
        match self {
            Self::Pipe(fd) | Self::Stream(fd) | Self::Tty(fd) => fd,
        }
    }
}

#[derive(Debug)]
enum State {
    /// Both ends are open.
    Open { source: OwnedFd, sink: Sink },
    /// The source has ended; the buffer is to be written.
    Draining { sink: Sink },
    /// All was passed on. A half-closed stream is kept open.
    Done { _kept: Option<OwnedFd> },
}

/// One direction of one stream.
#[derive(Debug)]
pub struct Pump {
    state: State,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// The last byte that came, for the end of file on a terminal.
    last: u8,
    /// Whether a terminal got its end of file.
    eof_sent: bool,
}

impl Pump {
    /// A pump between two fds, which become non-blocking.
    pub fn new(source: OwnedFd, sink: Sink) -> nix::Result<Self> {
        set_nonblocking(source.as_fd())?;
        set_nonblocking(sink.fd().as_fd())?;
        Ok(Self {
            state: State::Open { source, sink },
            buffer: vec![0; BUFFER].into_boxed_slice(),
            start: 0,
            end: 0,
            last: b'\n',
            eof_sent: false,
        })
    }

    /// Whether everything was passed on, or nobody is left to take it.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done { .. })
    }

    fn pending(&self) -> bool {
        self.start < self.end
    }

    /// What to poll for. The sink is listed even with nothing to write: its break is news.
    pub fn interest(&self) -> impl Iterator<Item = PollFd<'_>> {
        let pending = self.pending();
        let (source, sink) = match &self.state {
            State::Open { source, sink } => ((!pending).then_some(source), Some(sink)),
            State::Draining { sink } => (None, Some(sink)),
            State::Done { .. } => (None, None),
        };
        let write = if pending {
            PollFlags::POLLOUT
        } else {
            PollFlags::empty()
        };
        source
            .map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN))
            .into_iter()
            .chain(sink.map(|sink| PollFd::new(sink.fd().as_fd(), write)))
    }

    /// Moves what can be moved. `revents` tells what poll said of an fd.
    pub fn work(&mut self, revents: &dyn Fn(i32) -> PollFlags) {
        let broken = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
        if let State::Open { sink, .. } | State::Draining { sink } = &self.state
            && revents(sink.fd().as_raw_fd()).intersects(broken)
        {
            self.finish(None);
            return;
        }
        // A few rounds, so that a firehose does not starve the others.
        for _ in 0..8 {
            if !(self.fill() && self.drain()) {
                return;
            }
        }
    }

    /// Reads into an empty buffer. False: nothing to do now.
    fn fill(&mut self) -> bool {
        if self.pending() {
            return true;
        }
        let State::Open { source, .. } = &self.state else {
            return !self.is_done();
        };
        match read(source, &mut self.buffer) {
            Ok(n) if n > 0 => {
                (self.start, self.end) = (0, n);
                self.last = self.buffer[n - 1];
                true
            }
            Err(Errno::EAGAIN | Errno::EINTR) => false,
            // End of file; EIO is a terminal's, ECONNRESET a connection's.
            Ok(_) | Err(_) => {
                let state = std::mem::replace(&mut self.state, State::Done { _kept: None });
                if let State::Open { sink, .. } = state {
                    self.state = State::Draining { sink };
                }
                true
            }
        }
    }

    /// Writes the buffer. False: nothing more to do now.
    fn drain(&mut self) -> bool {
        let sink = match &self.state {
            State::Open { sink, .. } | State::Draining { sink } => sink,
            State::Done { .. } => return false,
        };
        while self.start < self.end {
            match write(sink.fd(), &self.buffer[self.start..self.end]) {
                Ok(n) => self.start += n,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return false,
                Err(_) => {
                    self.finish(None);
                    return false;
                }
            }
        }
        if let State::Draining { sink } = &self.state {
            if let (Sink::Tty(tty), false) = (sink, self.eof_sent) {
                let bytes = end_of_file(tty, self.last);
                self.buffer[..bytes.len()].copy_from_slice(&bytes);
                (self.start, self.end) = (0, bytes.len());
                self.eof_sent = true;
                return true;
            }
            self.pass_end();
            return false;
        }
        true
    }

    fn pass_end(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Done { _kept: None });
        if let State::Draining {
            sink: Sink::Stream(fd),
        } = state
        {
            // Fails only where the host is gone, and then there is nobody to tell.
            let _ = shutdown(fd.as_raw_fd(), Shutdown::Write);
            self.finish(Some(fd));
        }
    }

    fn finish(&mut self, kept: Option<OwnedFd>) {
        self.state = State::Done { _kept: kept };
        (self.start, self.end) = (0, 0);
    }
}

/// What a terminal takes for the end of its input: the end-of-file character
/// reads as the end at the start of a line, and before that ends a line that is
/// begun. Nothing in raw mode.
fn end_of_file(tty: &OwnedFd, last: u8) -> Vec<u8> {
    let modes = match tcgetattr(tty) {
        Ok(modes) if modes.local_flags.contains(LocalFlags::ICANON) => modes,
        _ => return Vec::new(),
    };
    let times = if matches!(last, b'\n' | b'\r') { 1 } else { 2 };
    vec![modes.control_chars[SpecialCharacterIndices::VEOF as usize]; times]
}
