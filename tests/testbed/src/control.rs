//! The bed's control port: lines in both directions, with deadlines.
//!
//! ```text
//! bed  → here  WARM              ready; the warm state is saved here
//! here → bed   GO EPOCH STDIN    wall clock in seconds; 1 when there is standard input
//! bed  → here  STARTED           the job runs
//! bed  → here  EXIT STATUS       the job ended, its output is delivered
//! bed  → here  FAIL WHY          the bed itself failed
//! ```

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Why no line came.
#[derive(Debug, PartialEq, Eq)]
pub enum NoLine {
    /// The deadline passed.
    TimedOut,
    /// QEMU is gone.
    Closed,
}

/// The control port.
pub struct Control {
    stream: UnixStream,
    pending: Vec<u8>,
}

impl Control {
    /// Takes the port's socket.
    pub fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            pending: Vec::new(),
        }
    }

    /// Starts the job.
    pub fn go(&mut self, has_stdin: bool) -> Result<(), NoLine> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let line = format!("GO {} {}\n", now.as_secs(), u8::from(has_stdin));
        self.stream
            .write_all(line.as_bytes())
            .map_err(|_| NoLine::Closed)
    }

    /// The next line, without its end.
    pub fn line(&mut self, deadline: Instant) -> Result<String, NoLine> {
        loop {
            if let Some(end) = self.pending.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(NoLine::TimedOut);
            }
            // A zero limit would mean "none".
            let limit = left.max(Duration::from_millis(1));
            if self.stream.set_read_timeout(Some(limit)).is_err() {
                return Err(NoLine::Closed);
            }
            let mut buffer = [0; 256];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(NoLine::Closed),
                Ok(n) => self.pending.extend_from_slice(&buffer[..n]),
                Err(e)
                    if matches!(
                        e.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) => {}
                Err(_) => return Err(NoLine::Closed),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_deadlines_and_ends_are_told_apart() {
        let (a, mut b) = UnixStream::pair().unwrap();
        let mut control = Control::new(a);
        b.write_all(b"WARM\nEXIT 1").unwrap();
        let soon = || Instant::now() + Duration::from_millis(20);
        assert_eq!(control.line(soon()).unwrap(), "WARM");
        assert_eq!(control.line(soon()), Err(NoLine::TimedOut));
        b.write_all(b"39\n").unwrap();
        assert_eq!(control.line(soon()).unwrap(), "EXIT 139");
        drop(b);
        assert_eq!(control.line(soon()), Err(NoLine::Closed));
    }
}
