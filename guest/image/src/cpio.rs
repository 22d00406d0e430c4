//! The "newc" cpio format of an initramfs.
//!
//! Source: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
//! Every number is eight hexadecimal digits; names end in NUL; names and
//! contents are padded to four bytes; the archive ends with `TRAILER!!!`.

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const SYMLINK: u32 = 0o120_000;

/// Writes an archive into memory. Owners are root, times are zero: the same
/// content is always the same bytes.
#[derive(Debug, Default)]
pub struct Cpio {
    bytes: Vec<u8>,
    inode: u32,
}

struct Entry<'a> {
    name: &'a str,
    mode: u32,
    links: u32,
    device: (u32, u32),
    content: &'a [u8],
}

impl Cpio {
    /// An empty archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory. Parents first: the kernel makes none by itself.
    pub fn directory(&mut self, name: &str, permissions: u32) {
        self.entry(Entry {
            name,
            mode: DIRECTORY | permissions,
            links: 2,
            device: (0, 0),
            content: &[],
        });
    }

    /// Adds a file.
    ///
    /// # Panics
    /// On 4 GiB of content or more, which the format cannot say.
    pub fn file(&mut self, name: &str, permissions: u32, content: &[u8]) {
        self.entry(Entry {
            name,
            mode: FILE | permissions,
            links: 1,
            device: (0, 0),
            content,
        });
    }

    /// Adds a character device.
    pub fn character_device(&mut self, name: &str, permissions: u32, major: u32, minor: u32) {
        self.entry(Entry {
            name,
            mode: CHARACTER_DEVICE | permissions,
            links: 1,
            device: (major, minor),
            content: &[],
        });
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, name: &str, target: &str) {
        self.entry(Entry {
            name,
            mode: SYMLINK | 0o777,
            links: 1,
            device: (0, 0),
            content: target.as_bytes(),
        });
    }

    /// Ends the archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.inode = 0;
        self.entry(Entry {
            name: "TRAILER!!!",
            mode: 0,
            links: 1,
            device: (0, 0),
            content: &[],
        });
        self.bytes
    }

    fn entry(&mut self, entry: Entry) {
        let size = u32::try_from(entry.content.len()).expect("an initramfs file of 4 GiB");
        let name = entry.name.trim_start_matches('/');
        let fields = [
            self.inode,
            entry.mode,
            0,
            0,
            entry.links,
            0,
            size,
            0,
            0,
            entry.device.0,
            entry.device.1,
            name.len() as u32 + 1,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(entry.content);
        self.pad();
        self.inode += 1;
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn sample() -> Vec<u8> {
        let mut cpio = Cpio::new();
        cpio.directory("/etc", 0o755);
        cpio.file("/etc/name", 0o640, b"casemate\n");
        cpio.symlink("/etc/link", "name");
        cpio.finish()
    }

    #[test]
    fn headers_are_as_the_format_says() {
        let bytes = sample();
        assert_eq!(bytes.len() % 4, 0);
        assert!(bytes.starts_with(b"07070100000000000041ED"));
        assert!(bytes.windows(10).any(|w| w == b"TRAILER!!!"));
        assert_eq!(bytes, sample());
    }

    /// Against an independent reader, where there is one.
    #[test]
    fn another_reader_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let reader = Command::new("busybox")
            .args(["cpio", "-idm"])
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut reader) = reader else {
            eprintln!("skipped: no busybox to read the archive with");
            return;
        };
        let mut stdin = reader.stdin.take().unwrap();
        stdin.write_all(&sample()).unwrap();
        drop(stdin);
        assert!(reader.wait().unwrap().success());
        let read = std::fs::read(folder.path().join("etc/link")).unwrap();
        assert_eq!(read, b"casemate\n");
    }
}
