//! Tells what a kernel file is, and refuses one that cannot boot, before
//! anything is made. The VMM checks all of it again: this is for the words.

use casemate_guest_image::bzimage::MAX_FILE;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// What is wrong with a kernel.
#[derive(Debug, Error)]
pub enum KernelError {
    /// Neither of the formats.
    #[error("kernel {path} is neither an ELF vmlinux nor a bzImage: give one of these", path = .0.display())]
    Unknown(PathBuf),
    /// Not for this CPU.
    #[error("kernel {path} is for {arch}: give one for x86-64", path = path.display())]
    WrongArchitecture {
        /// Where.
        path: PathBuf,
        /// What it is for.
        arch: String,
    },
    /// Its headers speak of bytes that are not there.
    #[error("kernel {path} is truncated: its headers speak of {need} bytes and it has {have}; copy it anew", path = path.display())]
    Truncated {
        /// Where.
        path: PathBuf,
        /// Bytes its headers speak of.
        need: u64,
        /// Bytes it has.
        have: u64,
    },
    /// Longer than any kernel.
    #[error("kernel {path} is {len} bytes long, where at most {MAX_FILE} are taken for a bzImage: give a kernel", path = path.display())]
    TooLong {
        /// Where.
        path: PathBuf,
        /// Its length in bytes.
        len: u64,
    },
    /// An ELF file that is no kernel.
    #[error("kernel {path} is an ELF file that cannot be booted ({why}): give a vmlinux", path = path.display())]
    NotBootable {
        /// Where.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// A bzImage that is too old.
    #[error("kernel {path} is a bzImage without a 64-bit entry: give one of Linux 3.8 or later for x86-64", path = .0.display())]
    No64BitEntry(PathBuf),
    /// It cannot be read.
    #[error("kernel {path}: {source}; check the disk it is on", path = path.display())]
    Read {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What a kernel file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An ELF file.
    Elf {
        /// End of the highest segment in guest-physical memory, in bytes.
        end: u64,
    },
    /// A bzImage.
    BzImage {
        /// Guest memory it needs to unpack itself, in bytes.
        end: u64,
    },
}

impl Format {
    /// As reports call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Elf { .. } => "elf",
            Self::BzImage { .. } => "bzimage",
        }
    }
    /// Least guest memory the kernel itself needs, in bytes.
    pub const fn needs(self) -> u64 {
        match self {
            Self::Elf { end } | Self::BzImage { end } => end,
        }
    }
}

/// Most program headers that are looked at: a vmlinux has about five.
const MOST_HEADERS: u16 = 64;
const PT_LOAD: u32 = 1;

/// Looks at the headers of a file of `len` bytes.
pub fn inspect(path: &Path, file: &File, len: u64) -> Result<Format, KernelError> {
    let mut head = [0; 1024];
    let have = len.min(head.len() as u64) as usize;
    read(path, file, &mut head[..have], 0)?;
    if head.starts_with(b"\x7fELF") {
        elf(path, file, len, &head)
    } else if head[0x202..0x206] == *b"HdrS" {
        bzimage(path, len, &head)
    } else if head[0x38..0x3c] == *b"ARM\x64" {
        Err(wrong(path, "arm64"))
    } else {
        Err(KernelError::Unknown(path.to_owned()))
    }
}

fn wrong(path: &Path, arch: impl Into<String>) -> KernelError {
    KernelError::WrongArchitecture {
        path: path.to_owned(),
        arch: arch.into(),
    }
}

fn read(path: &Path, file: &File, into: &mut [u8], at: u64) -> Result<(), KernelError> {
    file.read_exact_at(into, at)
        .map_err(|source| KernelError::Read {
            path: path.to_owned(),
            source,
        })
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(std::array::from_fn(|n| bytes[at + n]))
}
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|n| bytes[at + n]))
}
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|n| bytes[at + n]))
}

/// System V ABI, "Object Files"; elf(5).
fn elf(path: &Path, file: &File, len: u64, head: &[u8]) -> Result<Format, KernelError> {
    let truncated = |need| KernelError::Truncated {
        path: path.to_owned(),
        need,
        have: len,
    };
    let not_bootable = |why| KernelError::NotBootable {
        path: path.to_owned(),
        why,
    };
    if len < 64 {
        return Err(truncated(64));
    }
    match (head[4], head[5], u16_at(head, 18)) {
        (2, 1, 62) => {}
        (_, 2, _) => return Err(wrong(path, "a big-endian machine")),
        (_, _, 3) => return Err(wrong(path, "32-bit x86")),
        (_, _, 183) => return Err(wrong(path, "arm64")),
        (_, _, 243) => return Err(wrong(path, "RISC-V")),
        (1, _, machine) => return Err(wrong(path, format!("a 32-bit machine ({machine})"))),
        (_, _, machine) => return Err(wrong(path, format!("machine {machine}"))),
    }
    let (at, size, count) = (u64_at(head, 32), u16_at(head, 54), u16_at(head, 56));
    if size != 56 || count == 0 || count > MOST_HEADERS {
        return Err(not_bootable("no usable program headers"));
    }
    let need = at.saturating_add(u64::from(size) * u64::from(count));
    if need > len {
        return Err(truncated(need));
    }
    let mut headers = vec![0; usize::from(size) * usize::from(count)];
    read(path, file, &mut headers, at)?;
    let mut end = 0;
    for header in headers.chunks_exact(usize::from(size)) {
        if u32_at(header, 0) != PT_LOAD {
            continue;
        }
        let need = u64_at(header, 8).saturating_add(u64_at(header, 32));
        if need > len {
            return Err(truncated(need));
        }
        end = end.max(u64_at(header, 24).saturating_add(u64_at(header, 40)));
    }
    if end == 0 {
        return Err(not_bootable("nothing to load"));
    }
    if u64_at(head, 24) == 0 {
        return Err(not_bootable("no entry point"));
    }
    Ok(Format::Elf { end })
}

/// Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header".
fn bzimage(path: &Path, len: u64, head: &[u8]) -> Result<Format, KernelError> {
    const XLF_KERNEL_64: u16 = 1;
    // It is read into memory to be unpacked.
    if len > MAX_FILE {
        return Err(KernelError::TooLong {
            path: path.to_owned(),
            len,
        });
    }
    let setup_sectors = match head[0x1f1] {
        0 => 4,
        n => u64::from(n),
    };
    let need = (setup_sectors + 1) * 512 + u64::from(u32_at(head, 0x1f4)) * 16;
    if need > len {
        return Err(KernelError::Truncated {
            path: path.to_owned(),
            need,
            have: len,
        });
    }
    if u16_at(head, 0x206) < 0x020c || u16_at(head, 0x236) & XLF_KERNEL_64 == 0 {
        return Err(KernelError::No64BitEntry(path.to_owned()));
    }
    // pref_address and init_size
    let end = u64_at(head, 0x258).saturating_add(u64::from(u32_at(head, 0x260)));
    Ok(Format::BzImage { end })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn look(bytes: &[u8]) -> Result<Format, KernelError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        inspect(Path::new("k"), &file, bytes.len() as u64)
    }

    /// One segment of 0x1000 bytes at 0x1000000, 0x3000 in memory.
    fn vmlinux() -> Vec<u8> {
        let mut elf = vec![0; 0x2000];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[18] = 62;
        elf[24..32].copy_from_slice(&0x100_0000u64.to_le_bytes());
        elf[32] = 64;
        elf[54] = 56;
        elf[56] = 1;
        elf[64] = 1;
        for (at, value) in [(8, 0x1000u64), (24, 0x100_0000), (32, 0x1000), (40, 0x3000)] {
            elf[64 + at..72 + at].copy_from_slice(&value.to_le_bytes());
        }
        elf
    }

    fn bz() -> Vec<u8> {
        let mut image = vec![0; 0x4000];
        image[0x1f1] = 4;
        image[0x1f4] = 16;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x020fu16.to_le_bytes());
        image[0x236] = 1;
        image[0x258..0x260].copy_from_slice(&0x100_0000u64.to_le_bytes());
        image[0x260..0x264].copy_from_slice(&0x20_0000u32.to_le_bytes());
        image
    }

    #[test]
    fn good_ones_are_told() {
        assert_eq!(look(&vmlinux()).unwrap(), Format::Elf { end: 0x100_3000 });
        assert_eq!(look(&bz()).unwrap(), Format::BzImage { end: 0x120_0000 });
    }

    #[test]
    fn bad_ones_are_refused_in_words() {
        let refused = |bytes: &[u8]| look(bytes).unwrap_err().to_string();
        assert!(refused(&vmlinux()[..0x1fff]).contains("truncated"));
        assert!(refused(&vmlinux()[..70]).contains("truncated"));
        assert!(refused(&vmlinux()[..20]).contains("truncated"));
        assert!(refused(&bz()[..0xa00]).contains("truncated"));
        assert!(refused(b"hello").contains("neither"));
        assert!(refused(&[0; 4096]).contains("neither"));
        let with = |at: usize, value: u8| {
            let mut elf = vmlinux();
            elf[at] = value;
            refused(&elf)
        };
        assert!(with(18, 183).contains("arm64"));
        assert!(with(18, 3).contains("32-bit x86"));
        assert!(with(5, 2).contains("big-endian"));
        assert!(with(64, 4).contains("nothing to load"));
        assert!(with(56, 0).contains("program headers"));
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bz()).unwrap();
        file.set_len(1 << 40).unwrap();
        let error = inspect(Path::new("k"), &file, 1 << 40).unwrap_err();
        assert!(error.to_string().contains("at most"), "{error}");
        let mut old = bz();
        old[0x236] = 0;
        assert!(refused(&old).contains("64-bit entry"));
    }

    proptest! {
        #[test]
        fn hostile_headers_never_panic(at in 0usize..200, bytes in prop::collection::vec(any::<u8>(), 1..64)) {
            for mut image in [vmlinux(), bz()] {
                let at = if image[0] == 0 { 0x1f0 + at % 0x80 } else { at };
                image[at..at + bytes.len()].copy_from_slice(&bytes);
                let _ = look(&image);
            }
        }
    }
}
