//! The guest's console: a pipe that the guest can neither block nor flood.

use std::io::{self, Write};
use std::time::Instant;

/// Bytes that may come at once.
pub const BURST: u64 = 256 << 10;
/// Bytes that may come per second after that.
pub const RATE: u64 = 64 << 10;
/// After a byte was dropped, so many follow before clock and pipe are tried
/// again: a flood costs no system calls.
const LOOK_EVERY: u64 = 256;

/// Longest piece that is passed on at once, in bytes.
const LINE: usize = 1024;

/// A writer that passes on whole lines, and drops those that exceed [`BURST`] and
/// [`RATE`] or that the reader does not take. Never fails and never waits; where
/// output resumes, a line says how much was dropped.
///
/// Whole lines, because a write to the pipe wakes its reader, and kernels send one
/// byte at a time.
pub struct Console<W> {
    out: W,
    line: Vec<u8>,
    tokens: u64,
    refilled: Instant,
    dropped: u64,
    skip: u64,
}

impl<W: Write> Console<W> {
    /// A console on a non-blocking writer.
    pub fn new(out: W) -> Self {
        Self {
            out,
            line: Vec::with_capacity(LINE),
            tokens: BURST,
            refilled: Instant::now(),
            dropped: 0,
            skip: 0,
        }
    }

    /// Passes on what there is of a line.
    pub fn finish(&mut self) {
        self.pass_on(Instant::now);
    }

    fn take(&mut self, byte: u8, now: impl Fn() -> Instant) {
        self.line.push(byte);
        if byte == b'\n' || self.line.len() == LINE {
            self.pass_on(now);
        }
    }

    fn pass_on(&mut self, now: impl Fn() -> Instant) {
        let mut line = std::mem::take(&mut self.line);
        self.write_at(&line, now);
        line.clear();
        self.line = line;
    }

    /// Adds the tokens of the time since the last refill.
    fn refill(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.refilled);
        let new = since.as_millis().min(1 << 32) as u64 * RATE / 1000;
        if new > 0 {
            self.tokens = (self.tokens + new).min(BURST);
            self.refilled = now;
        }
    }

    fn put(&mut self, bytes: &[u8]) -> bool {
        if self.tokens < bytes.len() as u64 {
            return false;
        }
        // A reader that is gone or slow loses the console's bytes, not the guest.
        let taken = matches!(self.out.write(bytes), Ok(n) if n == bytes.len());
        if taken {
            self.tokens -= bytes.len() as u64;
        }
        taken
    }

    fn drop_bytes(&mut self, len: usize) {
        self.dropped += len as u64;
        self.skip = LOOK_EVERY;
    }

    fn write_at(&mut self, bytes: &[u8], now: impl Fn() -> Instant) {
        if self.skip > 0 {
            self.skip = self.skip.saturating_sub(bytes.len() as u64);
            self.dropped += bytes.len() as u64;
            return;
        }
        if self.tokens < BURST / 2 {
            self.refill(now());
        }
        if self.dropped > 0 {
            // Resume only with some room, so that a flood is cut in few places.
            let note = format!("\n[casemate: {} console bytes dropped]\n", self.dropped);
            if self.tokens < RATE / 4 || !self.put(note.as_bytes()) {
                return self.drop_bytes(bytes.len());
            }
            self.dropped = 0;
        }
        if !self.put(bytes) {
            self.drop_bytes(bytes.len());
        }
    }
}

impl<W: Write> Write for Console<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        bytes.iter().for_each(|&byte| self.take(byte, Instant::now));
        Ok(bytes.len())
    }
    /// Does nothing: the serial port asks for it after each byte.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    /// Takes nothing while blocked, as a full pipe does.
    #[derive(Default)]
    struct Pipe {
        bytes: Vec<u8>,
        blocked: bool,
        calls: u64,
    }
    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            if self.blocked {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.bytes.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_normal_boot_log_passes_unchanged() {
        let mut console = Console::new(Pipe::default());
        let log = b"a line of a boot log\n".repeat(5000);
        for byte in log.chunks(1) {
            console.write_all(byte).unwrap();
        }
        assert!(console.out.bytes == log);
        assert_eq!(console.out.calls, 5000);
    }

    #[test]
    fn a_flood_costs_few_system_calls_and_is_told() {
        let mut console = Console::new(Pipe::default());
        let start = Instant::now();
        for _ in 0..10 * BURST {
            console.write_at(b"x", || start);
        }
        assert_eq!(console.out.calls, BURST);
        for _ in 0..2 * LOOK_EVERY {
            console.write_at(b"y", || start + Duration::from_secs(1));
        }
        let tail = &console.out.bytes[BURST as usize..];
        assert!(tail.starts_with(b"\n[casemate: "), "{tail:?}");
        assert!(tail.ends_with(b"dropped]\nyy") || tail.ends_with(b"y"));
    }

    #[test]
    fn a_line_without_an_end_comes_at_the_end() {
        let mut console = Console::new(Pipe::default());
        console.write_all(b"prompt> ").unwrap();
        assert_eq!(console.out.calls, 0);
        console.finish();
        assert_eq!(console.out.bytes, b"prompt> ");
        console.write_all(&[b'x'; LINE]).unwrap();
        assert_eq!(console.out.bytes.len(), 8 + LINE);
    }

    #[test]
    fn a_full_pipe_is_no_error() {
        let mut console = Console::new(Pipe::default());
        console.out.blocked = true;
        for _ in 0..LOOK_EVERY {
            console.write_at(b"x", Instant::now);
        }
        assert_eq!(console.out.calls, 1);
        console.out.blocked = false;
        for _ in 0..2 {
            console.write_at(b"y", Instant::now);
        }
        assert_eq!(
            String::from_utf8_lossy(&console.out.bytes),
            "\n[casemate: 257 console bytes dropped]\ny"
        );
    }

    proptest! {
        #[test]
        fn never_above_burst_and_rate(
            steps in prop::collection::vec((0u64..3000, 0usize..100_000), 1..30),
        ) {
            let mut console = Console::new(Pipe::default());
            let start = console.refilled;
            let mut elapsed = 0;
            for (wait_ms, bytes) in steps {
                elapsed += wait_ms;
                let now = start + Duration::from_millis(elapsed);
                for _ in 0..bytes {
                    console.write_at(b"x", || now);
                }
                let most = BURST + elapsed * RATE / 1000;
                prop_assert!(console.out.bytes.len() as u64 <= most);
            }
        }
    }
}
