//! What the guest's console and the VMM's log say, for when a run fails.
//! Both are hostile: bounded in memory, on disk and in the time they cost us.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Kept in memory, in bytes.
const KEPT: usize = 16 << 10;
/// Most that is written to a console file, in bytes.
pub const MOST_FILE: u64 = 16 << 20;
/// Read at once, and at most this much in each [`PAUSE`]: the writer's end is
/// non-blocking, so a guest that floods loses its text and not our CPU time.
const CHUNK: usize = 64 << 10;
const PAUSE: Duration = Duration::from_millis(10);

/// The last [`KEPT`] bytes of one pipe.
pub struct Capture {
    tail: Arc<Mutex<VecDeque<u8>>>,
    thread: JoinHandle<()>,
}

impl Capture {
    /// Reads `from` to its end, and copies it to `file` up to [`MOST_FILE`].
    pub fn start(name: &str, mut from: File, mut file: Option<File>) -> io::Result<Self> {
        let tail = Arc::new(Mutex::new(VecDeque::with_capacity(KEPT)));
        let kept = Arc::clone(&tail);
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let mut room = MOST_FILE;
                let mut buffer = vec![0; CHUNK];
                let mut window = (Instant::now(), 0);
                loop {
                    let bytes = match from.read(&mut buffer) {
                        Ok(0) => return,
                        Ok(n) => &buffer[..n],
                        Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                        Err(_) => return,
                    };
                    keep(&kept, bytes);
                    if let Some(to) = &mut file {
                        let part = &bytes[..bytes.len().min(room as usize)];
                        room -= part.len() as u64;
                        if to.write_all(part).is_err() || room == 0 {
                            file = None;
                        }
                    }
                    window.1 += bytes.len();
                    if window.1 >= CHUNK {
                        thread::sleep(PAUSE.saturating_sub(window.0.elapsed()));
                        window = (Instant::now(), 0);
                    }
                }
            })?;
        Ok(Self { tail, thread })
    }

    /// What came last. Waits a moment for the pipe's end, which comes when the
    /// VMM is gone; a pipe that stays open all the same is not waited for.
    pub fn finish(self) -> String {
        let patience = Instant::now() + Duration::from_millis(500);
        while !self.thread.is_finished() && Instant::now() < patience {
            thread::sleep(Duration::from_millis(2));
        }
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = tail.iter().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn keep(tail: &Mutex<VecDeque<u8>>, bytes: &[u8]) {
    let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
    let bytes = &bytes[bytes.len().saturating_sub(KEPT)..];
    let excess = (tail.len() + bytes.len()).saturating_sub(KEPT);
    tail.drain(..excess);
    tail.extend(bytes);
}

/// The line of a guest's console that says why its kernel gave up.
pub fn panic_line(console: &str) -> Option<&str> {
    const SIGNS: [&str; 4] = ["Kernel panic - not syncing", "panicked at", "BUG:", "Oops:"];
    SIGNS.iter().find_map(|sign| {
        console
            .lines()
            .find_map(|line| line.find(sign).map(|at| line[at..].trim()))
    })
}

/// The last line that has any text.
pub fn last_line(text: &str) -> Option<&str> {
    text.lines().map(str::trim).rfind(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_kept_in_bounds() {
        let (from, to) = nix::unistd::pipe().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console");
        let file = File::create(&path).unwrap();
        let capture = Capture::start("test", from.into(), Some(file)).unwrap();
        let mut to = File::from(to);
        to.write_all(&vec![b'x'; 1 << 20]).unwrap();
        to.write_all(b"\nthe end\n").unwrap();
        drop(to);
        let text = capture.finish();
        assert_eq!(text.len(), KEPT);
        assert_eq!(last_line(&text), Some("the end"));
        assert_eq!(path.metadata().unwrap().len(), (1 << 20) + 9);
    }

    #[test]
    fn finds_why_a_kernel_gave_up() {
        let console = "[ 0.1] hello\r\n[    1.23] Kernel panic - not syncing: VFS: no root\r\n[ 1.3] ---[ end\r\n";
        assert_eq!(
            panic_line(console),
            Some("Kernel panic - not syncing: VFS: no root")
        );
        assert_eq!(panic_line("all is well\n"), None);
    }
}
