//! The protocol between `casemate run` and the init inside the guest.
//!
//! Four vsock connections, all opened by the guest to the host (CID 2):
//!
//! | port | carries | opened |
//! |---|---|---|
//! | [`PORT_CONTROL`] | frames of this module, both ways | at boot |
//! | [`PORT_STDIN`] | raw bytes to the program; end of file by half-close | on [`ToInit::Exec`] |
//! | [`PORT_STDOUT`] | raw bytes from the program (all of a tty's output) | on [`ToInit::Exec`] |
//! | [`PORT_STDERR`] | raw bytes from the program; not with a tty | on [`ToInit::Exec`] |
//!
//! Each stream has vsock's own credit, so a slow reader of one never holds up
//! another. A frame is a little-endian `u32` length and that many bytes of
//! postcard. **The host treats everything it reads here as hostile**: lengths
//! are bounded before anything is allocated.
//!
//! ```text
//! init                               host
//!  | -- Hello ----------------------> |
//!  | <------------------------ Exec - |
//!  |  opens stdin, stdout, stderr
//!  | -- Started / Failed -----------> |
//!  | <----------- Signal, Resize ---- |
//!  |  program ends; streams are drained and closed
//!  | -- Ended ----------------------> |  the host stops the VM
//! ```

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{self, Read, Write};
use thiserror::Error;

/// Version of this protocol; a mismatch ends the run.
pub const VERSION: u32 = 1;
/// vsock port of the control connection.
pub const PORT_CONTROL: u32 = 1024;
/// vsock port of the program's standard input.
pub const PORT_STDIN: u32 = 1025;
/// vsock port of the program's standard output.
pub const PORT_STDOUT: u32 = 1026;
/// vsock port of the program's standard error.
pub const PORT_STDERR: u32 = 1027;
/// The guest's context id.
pub const GUEST_CID: u64 = 3;

/// Longest frame from the host, in bytes: `execve`'s own limit on arguments and environment.
pub const MAX_TO_INIT: usize = 6 << 20;
/// Longest frame from the guest, in bytes.
pub const MAX_FROM_INIT: usize = 4096;

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TtySize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
}

/// The program to run. Bytes, as `execve` takes them: no NUL inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// Program and arguments; looked up along `PATH` of `env` when without a slash.
    pub argv: Vec<Vec<u8>>,
    /// `KEY=VALUE`, all of it: the program sees no other variable.
    pub env: Vec<Vec<u8>>,
    /// Working directory; the root where empty.
    pub workdir: Vec<u8>,
    /// A terminal of this size instead of three streams.
    pub tty: Option<TtySize>,
}

/// From the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToInit {
    /// Run this. Sent once.
    Exec(Exec),
    /// Send this signal to the program's process group.
    Signal(u8),
    /// The terminal's new size.
    Resize(TtySize),
}

/// Why a program could not be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartError {
    /// `ENOENT` or `ENOTDIR` for the program itself.
    NotFound,
    /// Any other error of `execve`.
    NotExecutable,
    /// The working directory cannot be entered.
    Workdir,
    /// The init failed before it came to the program.
    Init,
}

/// From the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromInit {
    /// The init is up.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// Microseconds from the kernel's start to the init's start.
        kernel_us: u64,
        /// Microseconds from the init's start to this message.
        init_us: u64,
    },
    /// The guest could not be made ready (a root that does not mount, a missing module).
    Broken {
        /// One line.
        message: String,
    },
    /// The program runs.
    Started,
    /// The program could not be started. Sent last.
    Failed {
        /// Which kind of failure.
        error: StartError,
        /// The guest's errno.
        errno: i32,
    },
    /// The program ended and all it wrote was sent. Sent last.
    Ended {
        /// Exit status, or the signal's number.
        status: ExitedHow,
        /// Times the guest's OOM killer ran while the program did.
        oom_kills: u32,
    },
}

/// A wait status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitedHow {
    /// It returned.
    Code(u8),
    /// A signal ended it.
    Signal(u8),
}

/// What can go wrong with a frame.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The stream failed or ended inside a frame.
    #[error("agent stream: {0}")]
    Io(#[from] io::Error),
    /// The frame announces more than is allowed.
    #[error("agent frame of {len} bytes, where at most {max} are taken")]
    TooLong {
        /// Announced length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The bytes are no message, or more than one.
    #[error("agent frame does not decode: {0}")]
    Decode(String),
}

/// Encodes one frame, length included.
pub fn encode<T: Serialize>(message: &T, max: usize) -> Result<Vec<u8>, FrameError> {
    let body = postcard::to_stdvec(message).map_err(|e| FrameError::Decode(e.to_string()))?;
    if body.len() > max {
        return Err(FrameError::TooLong {
            len: body.len(),
            max,
        });
    }
    let mut frame = Vec::with_capacity(4 + body.len());
    frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// Decodes one frame's body. Bytes left over are an error.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(FrameError::Decode(format!(
            "{} bytes left over",
            rest.len()
        ))),
        Err(e) => Err(FrameError::Decode(e.to_string())),
    }
}

/// Writes one frame.
pub fn write_frame<T: Serialize>(
    to: &mut impl Write,
    message: &T,
    max: usize,
) -> Result<(), FrameError> {
    Ok(to.write_all(&encode(message, max)?)?)
}

/// Reads one frame; `None` at a clean end of the stream.
pub fn read_frame<T: DeserializeOwned>(
    from: &mut impl Read,
    max: usize,
) -> Result<Option<T>, FrameError> {
    let mut length = [0; 4];
    let mut have = 0;
    while have < length.len() {
        match from.read(&mut length[have..]) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
    let len = u32::from_le_bytes(length) as usize;
    if len > max {
        return Err(FrameError::TooLong { len, max });
    }
    let mut body = vec![0; len];
    from.read_exact(&mut body)?;
    decode(&body).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_round_trip_and_end_cleanly() {
        let message = ToInit::Exec(Exec {
            argv: vec![b"sh".to_vec(), vec![0xff, 0xfe]],
            env: vec![b"A=1".to_vec()],
            workdir: Vec::new(),
            tty: Some(TtySize { rows: 24, cols: 80 }),
        });
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &message, MAX_TO_INIT).unwrap();
        let mut stream = bytes.as_slice();
        assert_eq!(read_frame(&mut stream, MAX_TO_INIT).unwrap(), Some(message));
        assert!(
            read_frame::<ToInit>(&mut stream, MAX_TO_INIT)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn a_huge_length_allocates_nothing() {
        let mut stream = [0xff; 64].as_slice();
        assert!(matches!(
            read_frame::<FromInit>(&mut stream, MAX_FROM_INIT),
            Err(FrameError::TooLong { .. })
        ));
    }

    #[test]
    fn a_torn_length_is_an_error() {
        let mut stream = [1u8, 0].as_slice();
        assert!(matches!(
            read_frame::<FromInit>(&mut stream, MAX_FROM_INIT),
            Err(FrameError::Io(_))
        ));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
            let mut stream = bytes.as_slice();
            while let Ok(Some(_)) = read_frame::<FromInit>(&mut stream, MAX_FROM_INIT) {}
        }
    }
}
