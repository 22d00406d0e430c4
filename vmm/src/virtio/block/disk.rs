//! The host's side of a disk: a raw image or block device behind an fd.

use super::request::SECTOR;
use crate::virtio::Mem;
use crate::virtio::guest_io::{GuestIo, TransferError};
use crate::virtio::queue::Cursor;
use casemate_proto::control::DiskConfig;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use thiserror::Error;
use virtio_bindings::virtio_blk::VIRTIO_BLK_ID_BYTES;

/// Length of what `VIRTIO_BLK_T_GET_ID` answers.
pub const SERIAL: usize = VIRTIO_BLK_ID_BYTES as usize;

/// Why a file can't be a disk.
#[derive(Debug, Error)]
pub enum DiskError {
    /// Not a regular file or block device.
    #[error("disk {serial}: neither a regular file nor a block device: give a raw image")]
    Kind {
        /// The disk.
        serial: String,
    },
    /// Not a whole number of sectors.
    #[error(
        "disk {serial}: {bytes} bytes is not a whole number of 512-byte sectors: extend it with `truncate -s %512`"
    )]
    OddLength {
        /// The disk.
        serial: String,
        /// Its length.
        bytes: u64,
    },
    /// Nothing in it.
    #[error("disk {serial}: the image is empty")]
    Empty {
        /// The disk.
        serial: String,
    },
    /// The fd's access mode is not what the configuration says.
    #[error("disk {serial}: configured {} but not opened so", if *.read_only { "read-only" } else { "read-write" })]
    Access {
        /// The disk.
        serial: String,
        /// As configured.
        read_only: bool,
    },
    /// A serial that is too long or not ASCII.
    #[error("disk {serial:?}: a serial is 1 to {SERIAL} bytes of printable ASCII")]
    Serial {
        /// The disk.
        serial: String,
    },
    /// The file could not be examined.
    #[error("disk {serial}: cannot examine the file: {source}")]
    Examine {
        /// The disk.
        serial: String,
        /// What failed.
        source: io::Error,
    },
}

/// A raw disk. Its format is never guessed: byte `n` of the guest's disk is byte
/// `n` of the file (compare GHSA-jmr4-g2hv-mjj6). Its capacity is fixed here.
#[derive(Debug)]
pub struct Disk {
    file: File,
    sectors: u64,
    read_only: bool,
    serial: [u8; SERIAL],
}

impl Disk {
    /// Takes an open file that agrees with its configuration.
    pub fn new(mut file: File, config: &DiskConfig) -> Result<Self, DiskError> {
        let serial = config.serial.clone();
        let fail = |source| DiskError::Examine {
            serial: config.serial.clone(),
            source,
        };
        let printable = serial.bytes().all(|b| b.is_ascii_graphic());
        if serial.is_empty() || serial.len() > SERIAL || !printable {
            return Err(DiskError::Serial { serial });
        }
        let kind = file.metadata().map_err(fail)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(DiskError::Kind { serial });
        }
        let flags = fcntl(file.as_fd(), FcntlArg::F_GETFL).map_err(|e| fail(e.into()))?;
        let mode = OFlag::from_bits_retain(flags) & OFlag::O_ACCMODE;
        let wanted = if config.read_only {
            OFlag::O_RDONLY
        } else {
            OFlag::O_RDWR
        };
        if mode != wanted {
            return Err(DiskError::Access {
                serial,
                read_only: config.read_only,
            });
        }
        // A block device's length is only told by seeking.
        let bytes = file.seek(SeekFrom::End(0)).map_err(fail)?;
        if bytes == 0 {
            return Err(DiskError::Empty { serial });
        }
        if !bytes.is_multiple_of(SECTOR) {
            return Err(DiskError::OddLength { serial, bytes });
        }
        let mut padded = [0; SERIAL];
        padded[..serial.len()].copy_from_slice(serial.as_bytes());
        Ok(Self {
            file,
            sectors: bytes / SECTOR,
            read_only: config.read_only,
            serial: padded,
        })
    }

    /// Length in sectors of 512 bytes.
    pub fn sectors(&self) -> u64 {
        self.sectors
    }

    /// Whether the guest may only read.
    pub fn read_only(&self) -> bool {
        self.read_only
    }

    /// What `VIRTIO_BLK_T_GET_ID` answers, padded with zeroes.
    pub fn serial(&self) -> &[u8; SERIAL] {
        &self.serial
    }

    /// Reads at byte `offset`, wholly or not at all as the guest sees it. A file
    /// that has become too short is an error, never a signal: it is not mapped.
    pub(super) fn read(
        &self,
        io: &mut GuestIo,
        mem: &Mem,
        to: Cursor<'_>,
        offset: u64,
    ) -> Result<(), TransferError> {
        io.read_at(mem, to, self.file.as_fd(), offset)
    }

    /// Writes at byte `offset`.
    pub(super) fn write(
        &self,
        io: &mut GuestIo,
        mem: &Mem,
        from: Cursor<'_>,
        offset: u64,
    ) -> Result<(), TransferError> {
        io.write_at(mem, from, self.file.as_fd(), offset)
    }

    /// Brings all that was written to stable storage.
    pub(super) fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use tempfile::NamedTempFile;

    fn config(serial: &str, read_only: bool) -> DiskConfig {
        DiskConfig {
            read_only,
            serial: serial.into(),
        }
    }

    fn image(len: u64) -> NamedTempFile {
        let image = NamedTempFile::new().unwrap();
        image.as_file().set_len(len).unwrap();
        image
    }

    fn open(image: &NamedTempFile, write: bool) -> File {
        OpenOptions::new()
            .read(true)
            .write(write)
            .open(image.path())
            .unwrap()
    }

    #[test]
    fn takes_what_agrees() {
        let image = image(4096);
        let disk = Disk::new(open(&image, true), &config("root", false)).unwrap();
        assert_eq!((disk.sectors(), disk.read_only()), (8, false));
        assert_eq!(disk.serial(), b"root\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        assert!(Disk::new(open(&image, false), &config("root", true)).is_ok());
    }

    #[test]
    fn refuses_what_does_not() {
        let good = image(4096);
        let refuse = |file, serial: &str, ro| Disk::new(file, &config(serial, ro)).unwrap_err();
        assert!(matches!(
            refuse(open(&image(513), true), "a", false),
            DiskError::OddLength { bytes: 513, .. }
        ));
        assert!(matches!(
            refuse(open(&image(0), true), "a", false),
            DiskError::Empty { .. }
        ));
        assert!(matches!(
            refuse(open(&good, true), "a", true),
            DiskError::Access { .. }
        ));
        assert!(matches!(
            refuse(open(&good, false), "a", false),
            DiskError::Access { .. }
        ));
        assert!(matches!(
            refuse(File::open("/").unwrap(), "a", true),
            DiskError::Kind { .. }
        ));
        assert!(matches!(
            refuse(File::open("/dev/zero").unwrap(), "a", true),
            DiskError::Kind { .. }
        ));
        for serial in ["", "a-serial-of-21-bytes-", "with space", "ünicode", "n\0l"] {
            assert!(
                matches!(
                    refuse(open(&good, true), serial, false),
                    DiskError::Serial { .. }
                ),
                "{serial}"
            );
        }
    }
}
