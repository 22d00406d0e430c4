//! Writes the initramfs archive format ("newc"; kernel documentation,
//! driver-api/early-userspace/buffer-format).

use std::fmt::Write as _;

/// An uncompressed initramfs being made; files belong to root.
#[derive(Debug, Default)]
pub struct Cpio {
    bytes: Vec<u8>,
    inode: u32,
}

impl Cpio {
    /// Adds a folder with mode 0755.
    pub fn dir(&mut self, name: &str) -> &mut Self {
        self.member(name, 0o040_755, b"")
    }

    /// Adds a regular file with mode 0755.
    pub fn file(&mut self, name: &str, data: &[u8]) -> &mut Self {
        self.member(name, 0o100_755, data)
    }

    /// The archive, ended.
    pub fn finish(mut self) -> Vec<u8> {
        self.inode = 0;
        self.member("TRAILER!!!", 0, b"");
        self.bytes
    }

    fn member(&mut self, name: &str, mode: u32, data: &[u8]) -> &mut Self {
        self.inode += 1;
        // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor
        // namesize check, eight hexadecimal digits each.
        let fields = [
            self.inode,
            mode,
            0,
            0,
            1,
            0,
            data.len() as u32,
            0,
            0,
            0,
            0,
            name.len() as u32 + 1,
            0,
        ];
        let mut header = String::from("070701");
        for field in fields {
            let _ = write!(header, "{field:08x}");
        }
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
        self
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_aligned_and_ended() {
        let mut cpio = Cpio::default();
        cpio.dir("d").file("d/f", b"hello");
        let bytes = cpio.finish();
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(&bytes[..6], b"070701");
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("d/f\0") && text.contains("hello") && text.contains("TRAILER!!!"));
    }
}
