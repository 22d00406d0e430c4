//! JSON messages with fds over `SOCK_SEQPACKET` (unix(7), recvmsg(2)).

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use serde::{Serialize, de::DeserializeOwned};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use thiserror::Error;

/// Longest message, in bytes.
pub const MAX_MESSAGE: usize = 64 << 10;
/// Most fds with one message.
pub const MAX_FDS: usize = 32;

/// Most fds that the kernel lets anybody send at once (`SCM_MAX_FD`). There is room for all
/// of them: those that do not fit would be open here, at numbers nobody is told.
const KERNELS_MAX_FDS: usize = 253;

/// What can go wrong with a message.
#[derive(Debug, Error)]
pub enum SeqpacketError {
    /// The socket failed.
    #[error("control socket: {0}")]
    Socket(#[from] Errno),
    /// Longer than [`MAX_MESSAGE`], or with more fds than [`MAX_FDS`].
    #[error("control message exceeds {MAX_MESSAGE} bytes or {MAX_FDS} fds")]
    TooLong,
    /// Not the message that was expected.
    #[error("control message does not decode: {0}")]
    Decode(#[from] serde_json::Error),
}

impl SeqpacketError {
    /// Whether there is nobody on the other side any more.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Socket(Errno::EPIPE | Errno::ECONNRESET))
    }
}

/// A connected pair, close-on-exec.
pub fn pair() -> Result<(OwnedFd, OwnedFd), SeqpacketError> {
    Ok(socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?)
}

/// Sends one message with fds.
pub fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> Result<(), SeqpacketError> {
    let body = serde_json::to_vec(message)?;
    if body.len() > MAX_MESSAGE || fds.len() > MAX_FDS {
        return Err(SeqpacketError::TooLong);
    }
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    loop {
        match sendmsg::<()>(
            socket.as_raw_fd(),
            &[IoSlice::new(&body)],
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        ) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Receives one message with its fds (close-on-exec); `None` when the peer closed.
///
/// A peer that closes with messages of ours unread leaves an ECONNRESET, which the kernel
/// tells once and before what the peer had sent (`unix_release_sock`, `sock_error` in the
/// kernel's net/). What it had sent is still there, its reason for closing among it.
pub fn recv<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> Result<Option<(T, Vec<OwnedFd>)>, SeqpacketError> {
    let mut body = vec![0; MAX_MESSAGE];
    let mut space = nix::cmsg_space!([RawFd; KERNELS_MAX_FDS]);
    let mut io = [IoSliceMut::new(&mut body)];
    let mut reset = false;
    let (len, flags, fds) = loop {
        match recvmsg::<()>(
            socket.as_raw_fd(),
            &mut io,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        ) {
            Ok(got) => {
                let mut fds = Vec::new();
                for message in got.cmsgs()? {
                    if let ControlMessageOwned::ScmRights(raw) = message {
                        // SAFETY: the kernel has just installed these fds for us; nothing
                        // else in the process knows their numbers.
                        fds.extend(raw.iter().map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                    }
                }
                break (got.bytes, got.flags, fds);
            }
            Err(Errno::EINTR) => {}
            Err(Errno::ECONNRESET) if !reset => reset = true,
            Err(e) => return Err(e.into()),
        }
    };
    if flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) || fds.len() > MAX_FDS {
        return Err(SeqpacketError::TooLong);
    }
    if len == 0 {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&body[..len])?, fds)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::ToVmm;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn carries_a_message_and_an_fd() {
        let (a, b) = pair().unwrap();
        let (mut near, far) = UnixStream::pair().unwrap();
        send(a.as_fd(), &ToVmm::Go, &[far.as_fd()]).unwrap();
        drop(far);
        let (message, mut fds) = recv::<ToVmm>(b.as_fd()).unwrap().unwrap();
        assert_eq!(message, ToVmm::Go);
        let mut far = UnixStream::from(fds.pop().unwrap());
        far.write_all(b"x").unwrap();
        let mut byte = [0];
        near.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }

    #[test]
    fn too_many_fds_are_refused_and_closed() {
        let (a, b) = pair().unwrap();
        let (mut near, far) = UnixStream::pair().unwrap();
        for many in [MAX_FDS + 1, KERNELS_MAX_FDS] {
            let raw = vec![far.as_raw_fd(); many];
            sendmsg::<()>(
                a.as_raw_fd(),
                &[IoSlice::new(b"\"x\"")],
                &[ControlMessage::ScmRights(&raw)],
                MsgFlags::empty(),
                None,
            )
            .unwrap();
            assert!(matches!(
                recv::<String>(b.as_fd()),
                Err(SeqpacketError::TooLong)
            ));
        }
        drop(far);
        // The end of the stream shows only when no copy is left.
        near.set_read_timeout(Some(std::time::Duration::from_secs(5)))
            .unwrap();
        assert_eq!(near.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_closed_peer_is_none() {
        let (a, b) = pair().unwrap();
        drop(a);
        assert!(recv::<ToVmm>(b.as_fd()).unwrap().is_none());
    }

    #[test]
    fn last_words_outlive_a_reset() {
        let (a, b) = pair().unwrap();
        send(b.as_fd(), &"never read", &[]).unwrap();
        send(a.as_fd(), &"why", &[]).unwrap();
        drop(a);
        assert_eq!(recv::<String>(b.as_fd()).unwrap().unwrap().0, "why");
        assert!(recv::<String>(b.as_fd()).unwrap().is_none());
    }

    #[test]
    fn junk_is_an_error() {
        let (a, b) = pair().unwrap();
        send(a.as_fd(), &"junk", &[]).unwrap();
        assert!(matches!(
            recv::<ToVmm>(b.as_fd()),
            Err(SeqpacketError::Decode(_))
        ));
    }
}
