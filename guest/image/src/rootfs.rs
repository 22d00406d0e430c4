//! Which file system a root image has.
//!
//! The host looks at a magic number and states the format to the guest, whose
//! kernel then mounts that and nothing else. A wrong image harms the guest only.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};
use thiserror::Error;

/// A disk's unit in bytes.
pub const SECTOR: u64 = 512;

/// A file system that a guest can have as its root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RootfsFormat {
    /// ext4 (and ext2, ext3, which its driver mounts).
    Ext4,
    /// EROFS.
    Erofs,
    /// Squashfs 4.
    Squashfs,
}

impl RootfsFormat {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Erofs, Self::Ext4, Self::Squashfs];

    /// The kernel's name; also the value of `casemate.rootfs=` and the module's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Erofs => "erofs",
            Self::Squashfs => "squashfs",
        }
    }
}

impl fmt::Display for RootfsFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why an image was refused. The caller names the file.
#[derive(Debug, Error)]
pub enum RootfsError {
    /// Neither a file nor a block device.
    #[error("neither a regular file nor a block device")]
    NotRegular,
    /// No bytes.
    #[error("empty file")]
    Empty,
    /// It cannot be read.
    #[error("read: {0}")]
    Read(#[from] io::Error),
    /// No known magic number.
    #[error("unknown format: ext4, erofs and squashfs images are taken, and directories")]
    Unknown,
    /// Not a whole number of sectors.
    #[error(
        "{format} image of {len} bytes, which is no multiple of {SECTOR}: pad it (truncate -s %{SECTOR} FILE)"
    )]
    OddLength {
        /// What it is.
        format: RootfsFormat,
        /// Its length in bytes.
        len: u64,
    },
    /// The file system is longer than the file.
    #[error("truncated {format} image: {have} bytes, where its superblock says {need}")]
    Truncated {
        /// What it is.
        format: RootfsFormat,
        /// Bytes there are.
        have: u64,
        /// Bytes needed.
        need: u64,
    },
}

/// A checked image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detected {
    /// Its format.
    pub format: RootfsFormat,
    /// Its length in bytes, a multiple of [`SECTOR`].
    pub len: u64,
}

/// Tells the format of an open image and checks its length. The fd's position moves.
pub fn detect(image: &File) -> Result<Detected, RootfsError> {
    let kind = image.metadata()?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(RootfsError::NotRegular);
    }
    let len = (&*image).seek(SeekFrom::End(0))?;
    if len == 0 {
        return Err(RootfsError::Empty);
    }
    let mut head = vec![0; 2048];
    let mut have = 0;
    while have < head.len() {
        match image.read_at(&mut head[have..], have as u64) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
    head.truncate(have);
    check(&head, len)
}

/// As [`detect`], on an image's first 2048 bytes and its length.
pub fn check(head: &[u8], len: u64) -> Result<Detected, RootfsError> {
    let (format, need) = squashfs(head)
        .or_else(|| ext4(head))
        .or_else(|| erofs(head))
        .ok_or(RootfsError::Unknown)?;
    if need > len {
        return Err(RootfsError::Truncated {
            format,
            have: len,
            need,
        });
    }
    if !len.is_multiple_of(SECTOR) {
        return Err(RootfsError::OddLength { format, len });
    }
    Ok(Detected { format, len })
}

fn field<const N: usize>(head: &[u8], at: usize) -> Option<[u8; N]> {
    head.get(at..at + N)?.try_into().ok()
}

fn u32_at(head: &[u8], at: usize) -> Option<u64> {
    field(head, at).map(|bytes| u32::from_le_bytes(bytes).into())
}

/// Documentation/filesystems/ext4/globals.rst "Super Block", at byte 1024.
fn ext4(head: &[u8]) -> Option<(RootfsFormat, u64)> {
    const INCOMPAT_64BIT: u64 = 0x80;
    let sb = head.get(1024..)?;
    if field(sb, 0x38)? != 0xEF53_u16.to_le_bytes() {
        return None;
    }
    let high = if u32_at(sb, 0x60)? & INCOMPAT_64BIT == 0 {
        0
    } else {
        u32_at(sb, 0x150)?
    };
    let blocks = high << 32 | u32_at(sb, 0x4)?;
    let block_size = 1024_u64.checked_shl(u32_at(sb, 0x18)? as u32);
    // Nonsense sizes read as longer than any file.
    let need = block_size.map_or(u64::MAX, |size| blocks.saturating_mul(size));
    Some((RootfsFormat::Ext4, need))
}

/// `struct erofs_super_block` (fs/erofs/erofs_fs.h), at byte 1024.
fn erofs(head: &[u8]) -> Option<(RootfsFormat, u64)> {
    let sb = head.get(1024..)?;
    if field(sb, 0)? != 0xE0F5_E1E2_u32.to_le_bytes() {
        return None;
    }
    let block_size = 1_u64.checked_shl((*sb.get(12)?).into());
    let blocks = u32_at(sb, 36)?;
    let need = block_size.map_or(u64::MAX, |size| blocks.saturating_mul(size));
    Some((RootfsFormat::Erofs, need))
}

/// `struct squashfs_super_block` (fs/squashfs/squashfs_fs.h), at byte 0.
fn squashfs(head: &[u8]) -> Option<(RootfsFormat, u64)> {
    let magic: [u8; 4] = field(head, 0)?;
    if &magic != b"hsqs" {
        return None;
    }
    let used = field(head, 40).map(u64::from_le_bytes)?;
    Some((RootfsFormat::Squashfs, used))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn superblock(format: RootfsFormat) -> Vec<u8> {
        let mut head = vec![0; 2048];
        match format {
            RootfsFormat::Ext4 => {
                head[1024 + 0x38..][..2].copy_from_slice(&[0x53, 0xef]);
                head[1024 + 0x4] = 4;
            }
            RootfsFormat::Erofs => {
                head[1024..1028].copy_from_slice(&0xE0F5_E1E2_u32.to_le_bytes());
                head[1024 + 12] = 12;
                head[1024 + 36] = 1;
            }
            RootfsFormat::Squashfs => {
                head[..4].copy_from_slice(b"hsqs");
                head[41] = 16;
            }
        }
        head
    }

    #[test]
    fn formats_and_lengths() {
        for format in RootfsFormat::ALL {
            let head = superblock(format);
            assert_eq!(check(&head, 4096).unwrap(), Detected { format, len: 4096 });
            assert!(matches!(
                check(&head, 4095),
                Err(RootfsError::Truncated { need: 4096, .. })
            ));
            assert!(matches!(
                check(&head, 4097),
                Err(RootfsError::OddLength { len: 4097, .. })
            ));
        }
        assert!(matches!(check(&[0; 2048], 4096), Err(RootfsError::Unknown)));
        assert!(matches!(check(b"short", 5), Err(RootfsError::Unknown)));
    }

    #[test]
    fn only_files_with_something_in_them() {
        let mut file = tempfile::tempfile().unwrap();
        assert!(matches!(detect(&file), Err(RootfsError::Empty)));
        file.write_all(&superblock(RootfsFormat::Erofs)).unwrap();
        file.write_all(&[0; 2048]).unwrap();
        assert_eq!(detect(&file).unwrap().format, RootfsFormat::Erofs);
        for path in ["/dev/null", "/"] {
            let other = File::open(path).unwrap();
            assert!(matches!(detect(&other), Err(RootfsError::NotRegular)));
        }
    }

    proptest! {
        #[test]
        fn hostile_superblocks_never_panic(
            which in 0usize..3,
            damage in prop::collection::vec((0usize..2048, any::<u8>()), 0..40),
            cut in 0usize..2048,
            len in any::<u64>(),
        ) {
            let mut head = superblock(RootfsFormat::ALL[which]);
            for (at, value) in damage {
                head[at] = value;
            }
            head.truncate(2048 - cut);
            if let Ok(found) = check(&head, len) {
                prop_assert_eq!(found.len % SECTOR, 0);
            }
        }
    }
}
