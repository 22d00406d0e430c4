//! The control connection: frames in, frames out, never blocking for long.

use casemate_proto::agent::{self, FrameError, FromInit, MAX_FROM_INIT, MAX_TO_INIT, ToInit};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{read, write};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use thiserror::Error;

/// Why the control connection is of no more use.
#[derive(Debug, Error)]
pub enum ControlError {
    /// It failed.
    #[error("control connection: {0}")]
    Io(#[from] io::Error),
    /// The host sent something that is no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The host closed it.
    #[error("control connection: closed by the host")]
    Closed,
}

impl From<Errno> for ControlError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// A connection to the host on [`agent::PORT_CONTROL`].
#[derive(Debug)]
pub struct Control {
    fd: OwnedFd,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
}

/// Makes an fd non-blocking.
pub fn set_nonblocking(fd: BorrowedFd) -> nix::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(|_| ())
}

impl Control {
    /// Takes over a connected socket.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        set_nonblocking(fd.as_fd())?;
        Ok(Self {
            fd,
            inbox: Vec::new(),
            outbox: Vec::new(),
        })
    }

    /// The fd and what to poll it for.
    pub fn interest(&self) -> PollFd<'_> {
        let mut events = PollFlags::POLLIN;
        events.set(PollFlags::POLLOUT, !self.outbox.is_empty());
        PollFd::new(self.fd.as_fd(), events)
    }

    /// Queues a message and sends what the socket takes at once.
    pub fn send(&mut self, message: &FromInit) -> Result<(), ControlError> {
        self.outbox.extend(agent::encode(message, MAX_FROM_INIT)?);
        self.flush()
    }

    /// Sends what is queued, as far as the socket takes it.
    pub fn flush(&mut self) -> Result<(), ControlError> {
        while !self.outbox.is_empty() {
            match write(&self.fd, &self.outbox) {
                Ok(n) => drop(self.outbox.drain(..n)),
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Reads what is there and returns the next whole message, if there is one.
    ///
    /// Call it until it returns `None`, then poll.
    pub fn receive(&mut self) -> Result<Option<ToInit>, ControlError> {
        loop {
            if let Some(message) = self.take_frame()? {
                return Ok(Some(message));
            }
            let mut chunk = [0; 16384];
            match read(&self.fd, &mut chunk) {
                Ok(0) | Err(Errno::ECONNRESET) => return Err(ControlError::Closed),
                Ok(n) => self.inbox.extend_from_slice(&chunk[..n]),
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn take_frame(&mut self) -> Result<Option<ToInit>, FrameError> {
        let Some((length, rest)) = self.inbox.split_first_chunk() else {
            return Ok(None);
        };
        let len = u32::from_le_bytes(*length) as usize;
        if len > MAX_TO_INIT {
            return Err(FrameError::TooLong {
                len,
                max: MAX_TO_INIT,
            });
        }
        let Some(body) = rest.get(..len) else {
            return Ok(None);
        };
        let message = agent::decode(body)?;
        self.inbox.drain(..4 + len);
        // The Exec frame can be megabytes; the program shall have that memory.
        self.inbox.shrink_to_fit();
        Ok(Some(message))
    }

    /// Waits until the socket is ready for what [`Self::interest`] says.
    pub fn wait(&self) -> Result<(), ControlError> {
        match poll(&mut [self.interest()], PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits for the next message.
    pub fn wait_message(&mut self) -> Result<ToInit, ControlError> {
        loop {
            self.flush()?;
            if let Some(message) = self.receive()? {
                return Ok(message);
            }
            self.wait()?;
        }
    }

    /// Tells the host that the guest is of no use: one line, cut to the protocol's size.
    pub fn send_broken(&mut self, message: &str) -> Result<(), ControlError> {
        let mut message = message.replace(['\n', '\r'], " ");
        let cut = (0..=MAX_FROM_INIT / 2).rev();
        if let Some(at) = cut.into_iter().find(|&at| message.is_char_boundary(at)) {
            message.truncate(at);
        }
        self.send(&FromInit::Broken { message })
    }

    /// Sends what is still queued and blocks until the host closes the connection
    /// or, as it should, stops the VM.
    pub fn wait_closed(&mut self) {
        while self.wait_message().is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use casemate_proto::agent::TtySize;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn pair() -> (Control, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        (Control::new(near.into()).unwrap(), far)
    }

    #[test]
    fn frames_arrive_however_they_are_cut() {
        let (mut control, mut host) = pair();
        let messages = [
            ToInit::Signal(15),
            ToInit::Resize(TtySize { rows: 3, cols: 4 }),
        ];
        let bytes: Vec<u8> = messages
            .iter()
            .flat_map(|m| agent::encode(m, MAX_TO_INIT).unwrap())
            .collect();
        let mut got = Vec::new();
        for byte in bytes {
            host.write_all(&[byte]).unwrap();
            while let Some(message) = control.receive().unwrap() {
                got.push(message);
            }
        }
        assert_eq!(got, messages);
        drop(host);
        assert!(matches!(control.receive(), Err(ControlError::Closed)));
    }

    #[test]
    fn a_huge_length_ends_it() {
        let (mut control, mut host) = pair();
        host.write_all(&[0xff; 8]).unwrap();
        assert!(matches!(
            control.receive(),
            Err(ControlError::Frame(FrameError::TooLong { .. }))
        ));
    }

    #[test]
    fn broken_is_cut_to_a_frame() {
        let (mut control, mut host) = pair();
        control.send_broken(&"ä\n".repeat(5000)).unwrap();
        drop(control);
        let mut bytes = Vec::new();
        host.read_to_end(&mut bytes).unwrap();
        let read = agent::read_frame::<FromInit>(&mut bytes.as_slice(), MAX_FROM_INIT);
        let Ok(Some(FromInit::Broken { message })) = read else {
            panic!("{read:?}");
        };
        assert!(message.len() > 2000 && !message.contains('\n'));
    }
}
