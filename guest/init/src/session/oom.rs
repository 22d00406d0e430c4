//! The kernel's count of processes killed for want of memory.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

/// Where the count comes from. Held open: it is read when memory is short.
#[derive(Debug)]
pub enum OomCounter {
    /// `oom_kill` of `/proc/vmstat`, and its value at the start.
    Vmstat(File, u64),
    /// Messages in `/dev/kmsg` after the start, for kernels without
    /// `CONFIG_VM_EVENT_COUNTERS`.
    Log(File),
    /// Neither.
    None,
}

impl OomCounter {
    /// Starts to count.
    pub fn start() -> Self {
        if let Ok(file) = File::open("/proc/vmstat")
            && let Some(before) = total(&file)
        {
            return Self::Vmstat(file, before);
        }
        Self::log().unwrap_or(Self::None)
    }

    fn log() -> Option<Self> {
        let mut log = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")
            .ok()?;
        log.seek(SeekFrom::End(0)).ok()?;
        Some(Self::Log(log))
    }

    /// Kills since the start, or since the last call.
    pub fn kills(&mut self) -> u32 {
        match self {
            Self::Vmstat(file, before) => {
                let now = total(file).unwrap_or(*before);
                let kills = now.saturating_sub(*before);
                *before = now;
                u32::try_from(kills).unwrap_or(u32::MAX)
            }
            Self::Log(log) => logged(log),
            Self::None => 0,
        }
    }
}

fn total(vmstat: &File) -> Option<u64> {
    let mut text = [0; 16384];
    let mut len = 0;
    while let Ok(n @ 1..) = vmstat.read_at(&mut text[len..], len as u64) {
        len += n;
    }
    parse(&text[..len])
}

/// The value of the line `oom_kill N`.
fn parse(vmstat: &[u8]) -> Option<u64> {
    vmstat
        .split(|&b| b == b'\n')
        .find_map(|line| line.strip_prefix(b"oom_kill "))
        .and_then(|n| std::str::from_utf8(n).ok()?.trim().parse().ok())
}

/// Counts the messages up to the log's end.
fn logged(log: &mut File) -> u32 {
    let mut record = [0; 8192];
    let mut kills = 0;
    loop {
        match log.read(&mut record) {
            Ok(0) => return kills,
            Ok(n) => kills += u32::from(is_kill(&record[..n])),
            // Records were overwritten before they were read: go on with the oldest.
            Err(e) if e.raw_os_error() == Some(libc::EPIPE) => {}
            // EAGAIN: the end.
            Err(_) => return kills,
        }
    }
}

/// Whether a record (`PRIORITY,SEQUENCE,…;TEXT`, kernel documentation
/// ABI/testing/dev-kmsg) is the kernel's of a kill. Programs can write there,
/// but not with the kernel's facility, which is 0.
fn is_kill(record: &[u8]) -> bool {
    let Ok(record) = std::str::from_utf8(record) else {
        return false;
    };
    let of_kernel = record
        .split_once(',')
        .and_then(|(priority, _)| priority.parse::<u32>().ok())
        .is_some_and(|priority| priority < 8);
    let text = record.split_once(';').map_or("", |(_, text)| text);
    of_kernel
        && (text.starts_with("Out of memory: Killed process ")
            || text.starts_with("Memory cgroup out of memory: Killed process "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_line() {
        assert_eq!(parse(b"nr_free 9\noom_kill 17\noom_kill_x 3\n"), Some(17));
        assert_eq!(parse(b"nr_free 9\n"), None);
        assert_eq!(parse(b"oom_kill \xff\n"), None);
    }

    #[test]
    fn only_the_kernel_tells_of_kills() {
        let kill = "Out of memory: Killed process 30 (tail) total-vm:235568kB";
        assert!(is_kill(format!("3,512,9,-;{kill}\n").as_bytes()));
        assert!(!is_kill(format!("12,512,9,-;{kill}\n").as_bytes()));
        assert!(!is_kill(format!("3,512,9,-;x {kill}\n").as_bytes()));
        assert!(!is_kill(b"junk") && !is_kill(b"\xff"));
    }

    #[test]
    fn nothing_happened_nothing_counted() {
        let mut log = tempfile::tempfile().unwrap();
        assert_eq!(logged(&mut log), 0);
    }
}
