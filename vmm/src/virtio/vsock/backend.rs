//! Where the guest's connections to the host lead.

use casemate_proto::control::StreamConfig;
use nix::sys::socket::{SockType, getsockopt, sockopt};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use thiserror::Error;

/// The host's side of a connection: a connected stream socket.
pub type Stream = Arc<OwnedFd>;

/// Answers the guest's requests to connect to a port of the host's.
pub trait Backend: Send + 'static {
    /// A stream for a new connection to `port`; `None` refuses it.
    fn connect(&mut self, port: u32) -> Option<Stream>;
}

/// Why the streams can't be served.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum StreamsError {
    /// Two streams for one port.
    #[error("vsock port {port} is given twice: one stream a port")]
    Duplicate {
        /// The port.
        port: u32,
    },
    /// Not a stream socket.
    #[error("vsock port {port}: the fd is not a stream socket")]
    NotAStream {
        /// The port.
        port: u32,
    },
}

/// Sockets that somebody connected beforehand, each good for one connection of
/// the guest's. They stay open to the end, so that the VMM's list of fds never
/// changes; what ends a stream is shutdown(2).
#[derive(Debug)]
pub struct Streams(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    port: u32,
    stream: Stream,
    taken: bool,
}

impl Streams {
    /// Streams by port.
    pub fn new(
        streams: impl IntoIterator<Item = (StreamConfig, OwnedFd)>,
    ) -> Result<Self, StreamsError> {
        let mut entries: Vec<Entry> = Vec::new();
        for (StreamConfig { port }, fd) in streams {
            if entries.iter().any(|e| e.port == port) {
                return Err(StreamsError::Duplicate { port });
            }
            if getsockopt(&fd, sockopt::SockType) != Ok(SockType::Stream) {
                return Err(StreamsError::NotAStream { port });
            }
            entries.push(Entry {
                port,
                stream: Arc::new(fd),
                taken: false,
            });
        }
        Ok(Self(entries))
    }
}

impl Backend for Streams {
    fn connect(&mut self, port: u32) -> Option<Stream> {
        let entry = self.0.iter_mut().find(|e| e.port == port && !e.taken)?;
        entry.taken = true;
        Some(entry.stream.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    #[test]
    fn each_port_once() {
        let stream = |port| (StreamConfig { port }, UnixStream::pair().unwrap().0.into());
        let mut streams = Streams::new([stream(1), stream(2)]).unwrap();
        assert!(streams.connect(3).is_none());
        assert!(streams.connect(2).is_some());
        assert!(streams.connect(2).is_none());
        assert!(streams.connect(1).is_some());
        assert_eq!(
            Streams::new([stream(1), stream(1)]).unwrap_err(),
            StreamsError::Duplicate { port: 1 }
        );
        let datagram = UnixDatagram::pair().unwrap().0.into();
        assert_eq!(
            Streams::new([(StreamConfig { port: 7 }, datagram)]).unwrap_err(),
            StreamsError::NotAStream { port: 7 }
        );
    }
}
