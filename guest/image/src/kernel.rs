//! From any kernel file to the ELF that is booted.

use crate::bzimage::{self, BzImageError};
use object::LittleEndian as LE;
use object::elf::{
    EM_386, EM_AARCH64, EM_ARM, EM_RISCV, EM_X86_64, FileHeader64, Machine, PT_LOAD,
};
use object::read::elf::{FileHeader, ProgramHeader};
use std::borrow::Cow;
use thiserror::Error;

/// Why a file is no kernel that we can boot.
#[derive(Debug, Error)]
pub enum KernelError {
    /// No bytes.
    #[error("empty file")]
    Empty,
    /// Neither format.
    #[error("neither an ELF vmlinux nor a bzImage")]
    NotKernel,
    /// Of another machine.
    #[error("a kernel for {0}, where x86-64 is needed")]
    Architecture(String),
    /// The bzImage is unusable.
    #[error(transparent)]
    BzImage(#[from] BzImageError),
    /// The ELF file is unusable.
    #[error("ELF: {0}")]
    Elf(String),
    /// The ELF file ends before its segments.
    #[error("truncated: {have} bytes, where its program headers announce {need}")]
    Truncated {
        /// Bytes there are.
        have: u64,
        /// Bytes needed.
        need: u64,
    },
}

/// The kernel in `file` (an ELF vmlinux or a bzImage) as an ELF image, checked:
/// x86-64, with segments to load, all of them there.
pub fn vmlinux(file: &[u8]) -> Result<Cow<'_, [u8]>, KernelError> {
    let elf = if file.is_empty() {
        return Err(KernelError::Empty);
    } else if is_elf(file) {
        Cow::Borrowed(file)
    } else if bzimage::is_bzimage(file) {
        Cow::Owned(bzimage::unpack(file)?)
    } else {
        return Err(foreign(file));
    };
    check(&elf)?;
    Ok(elf)
}

/// Whether the bytes begin as an ELF file.
pub fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x7fELF")
}

/// Says what else a file is.
fn foreign(file: &[u8]) -> KernelError {
    // Documentation/arch/arm64/booting.rst, arch/riscv/boot-image-header.rst
    match file.get(56..60) {
        Some(b"ARM\x64") => KernelError::Architecture("aarch64".to_owned()),
        Some(b"RSC\x05") => KernelError::Architecture("riscv".to_owned()),
        _ => KernelError::NotKernel,
    }
}

/// Checks an ELF image: see [`vmlinux`].
pub fn check(elf: &[u8]) -> Result<(), KernelError> {
    let wrong = |what: &str| KernelError::Elf(what.to_owned());
    // EI_CLASS and EI_DATA, before a 64-bit header is looked for.
    match (elf.get(4), elf.get(5)) {
        (Some(2), Some(1)) => {}
        (Some(1), _) => return Err(KernelError::Architecture("a 32-bit machine".to_owned())),
        (Some(2), Some(2)) => {
            return Err(KernelError::Architecture("a big-endian machine".to_owned()));
        }
        _ => return Err(wrong("no class or byte order")),
    }
    let header =
        FileHeader64::<LE>::parse(elf).map_err(|_| wrong("the header is damaged or cut short"))?;
    let machine = header.e_machine(LE);
    if machine != EM_X86_64 {
        return Err(KernelError::Architecture(machine_name(machine)));
    }
    let headers = header.program_headers(LE, elf).map_err(|_| {
        wrong("the program headers lie outside the file: it is damaged or truncated")
    })?;
    let mut loads = 0;
    for segment in headers.iter().filter(|s| s.p_type(LE) == PT_LOAD) {
        let end = segment
            .p_offset(LE)
            .checked_add(segment.p_filesz(LE))
            .ok_or_else(|| wrong("a segment's end does not fit in 64 bits"))?;
        if end > elf.len() as u64 {
            return Err(KernelError::Truncated {
                have: elf.len() as u64,
                need: end,
            });
        }
        loads += 1;
    }
    if loads == 0 {
        return Err(wrong("nothing to load: an object file, or no kernel"));
    }
    Ok(())
}

fn machine_name(machine: Machine) -> String {
    match machine {
        EM_386 => "i386".to_owned(),
        EM_ARM => "arm".to_owned(),
        EM_AARCH64 => "aarch64".to_owned(),
        EM_RISCV => "riscv".to_owned(),
        Machine(other) => format!("ELF machine {other}"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::bzimage::tests::bzimage;
    use proptest::prelude::*;

    /// The smallest ELF with one segment of 16 bytes.
    pub(crate) fn elf(machine: u16) -> Vec<u8> {
        let mut elf = vec![0; 64 + 56 + 16];
        elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        elf[16] = 2;
        elf[18..20].copy_from_slice(&machine.to_le_bytes());
        elf[20] = 1;
        elf[32] = 64;
        elf[52] = 64;
        elf[54] = 56;
        elf[56] = 1;
        elf[64] = 1;
        elf[72] = 120;
        elf[96] = 16;
        elf
    }

    #[test]
    fn takes_both_formats() {
        let good = elf(EM_X86_64.0);
        assert_eq!(*vmlinux(&good).unwrap(), good);
        assert_eq!(*vmlinux(&bzimage(&good)).unwrap(), good);
    }

    #[test]
    fn says_what_is_wrong() {
        let good = elf(EM_X86_64.0);
        for (file, says) in [
            (Vec::new(), "empty file"),
            (b"#!/bin/sh\n".to_vec(), "neither an ELF"),
            (elf(EM_AARCH64.0), "a kernel for aarch64, where x86-64"),
            (bzimage(&elf(EM_AARCH64.0)), "a kernel for aarch64"),
            (good[..good.len() - 1].to_vec(), "truncated: 135 bytes"),
            (good[..80].to_vec(), "program headers lie outside"),
            (good[..30].to_vec(), "the header is damaged"),
            (bzimage(b"no kernel"), "ELF: no class"),
            ([&[0; 56], b"ARM\x64".as_slice()].concat(), "aarch64"),
        ] {
            let error = vmlinux(&file).unwrap_err().to_string();
            assert!(error.contains(says), "{error:?} lacks {says:?}");
        }
    }

    proptest! {
        #[test]
        fn hostile_elf_never_panics(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            cut in 0usize..136,
        ) {
            let mut file = elf(EM_X86_64.0);
            for (at, value) in damage {
                let at = at.index(file.len());
                file[at] = value;
            }
            file.truncate(file.len() - cut);
            let _ = vmlinux(&file);
        }
    }
}
