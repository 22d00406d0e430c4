//! One byte, with or without fds, between the supervisor and its child (unix(7)).
//!
//! Both ends are our own code, before anything untrusted runs; so no more is needed.

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Word {
    /// To the child: the cgroups are made; their files to join by are attached.
    Join = b'j',
    /// To the child of an ordinary user: its user namespace has its ids.
    Mapped = b'm',
    /// To the program, once all was read back: execute.
    Go = b'g',
    /// From the init: the program is there; its pidfd is attached.
    Program = b'p',
    /// From the init: it is under its own filter.
    Confined = b'c',
}

/// Most fds with one word: a cgroup file for each hierarchy.
const MAX_FDS: usize = 8;

/// Says one word.
///
/// # Errors
/// The call's own.
pub fn say(socket: BorrowedFd<'_>, word: Word, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let byte = [word as u8];
    loop {
        let sent = sendmsg::<()>(
            socket.as_raw_fd(),
            &[IoSlice::new(&byte)],
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        );
        match sent {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Waits for this word, and returns what came with it.
///
/// # Errors
/// The call's own; `UnexpectedEof` where the other side is gone, `InvalidData` where it said
/// something else.
pub fn hear(socket: BorrowedFd<'_>, word: Word) -> io::Result<Vec<OwnedFd>> {
    let mut byte = [0];
    let mut space = nix::cmsg_space!([RawFd; MAX_FDS]);
    let mut io = [IoSliceMut::new(&mut byte)];
    let (len, fds) = loop {
        let got = recvmsg::<()>(
            socket.as_raw_fd(),
            &mut io,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        );
        match got {
            Ok(got) => {
                let mut fds = Vec::new();
                for message in got.cmsgs()? {
                    if let ControlMessageOwned::ScmRights(raw) = message {
                        // SAFETY: the kernel has just installed these fds for us; nothing
                        // else in the process knows their numbers.
                        fds.extend(raw.iter().map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                    }
                }
                break (got.bytes, fds);
            }
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    };
    match len {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ if byte[0] == word as u8 => Ok(fds),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use casemate_proto::seqpacket;
    use std::os::fd::AsFd;

    #[test]
    fn a_word_brings_its_fds() {
        let (a, b) = seqpacket::pair().unwrap();
        say(a.as_fd(), Word::Join, &[a.as_fd(), b.as_fd()]).unwrap();
        assert_eq!(hear(b.as_fd(), Word::Join).unwrap().len(), 2);
        say(a.as_fd(), Word::Go, &[]).unwrap();
        let error = hear(b.as_fd(), Word::Join).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        drop(a);
        let error = hear(b.as_fd(), Word::Go).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
