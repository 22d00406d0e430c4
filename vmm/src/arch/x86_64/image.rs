//! Judges a kernel image by its headers, before any of it is loaded.
//!
//! The image is a file of the user's and may be anything. Headers are read once
//! into a copy, the copy is judged, and every refusal says what the file is
//! taken for. What the loader reads afterwards can still differ (the file may be
//! written to meanwhile); the loader checks its own bounds, so that such a file
//! spoils its own guest only.

use super::layout::HIGH_MEMORY;
use linux_loader::elf::{
    EI_CLASS, EI_DATA, ELFCLASS64, ELFDATA2LSB, Elf64_Ehdr, Elf64_Phdr, PT_INTERP, PT_LOAD,
};
use linux_loader::loader::bootparam::setup_header;
use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::unix::fs::FileExt;
use thiserror::Error;
use vm_memory::ByteValued;

/// ELF `e_type` of an executable at a fixed address (elf(5)).
const ET_EXEC: u16 = 2;
/// ELF `e_machine` of x86-64 (elf(5)).
const EM_X86_64: u16 = 62;
/// Most program headers; a kernel has about five.
const MAX_PROGRAM_HEADERS: u16 = 64;
/// Where a bzImage has its setup header (Linux, x86/boot).
const SETUP_HEADER: u64 = 0x1f1;
/// `HdrS`.
const SETUP_MAGIC: u32 = 0x5372_6448;
/// The first boot protocol with `xloadflags`.
const PROTOCOL_64_BIT: u16 = 0x20c;
/// `xloadflags`: there is a 64-bit entry at 0x200.
const XLF_KERNEL_64: u16 = 1;

const REMEDY: &str =
    "give an x86-64 ELF vmlinux or bzImage, or import one with `casemate kernel import`";

/// Why a kernel image was refused.
#[derive(Debug, Error)]
pub enum ImageError {
    /// No bytes.
    #[error("kernel is empty: {REMEDY}")]
    Empty,
    /// Not a file whose bytes can be read at any place.
    #[error("kernel is not a regular file: {REMEDY}")]
    NotRegular,
    /// No known format.
    #[error("kernel is neither an ELF vmlinux nor a bzImage: {REMEDY}")]
    NotAKernel,
    /// The headers announce more than there is.
    #[error(
        "kernel is truncated: its headers announce {announced} bytes, the file has {len}: copy it again"
    )]
    Truncated {
        /// Length by the headers, in bytes.
        announced: u64,
        /// Length of the file, in bytes.
        len: u64,
    },
    /// For another processor.
    #[error("kernel is for {0}, not for x86-64: {REMEDY}")]
    WrongArchitecture(String),
    /// An ELF file that is no kernel.
    #[error("kernel is an ELF file but no kernel ({0}): {REMEDY}")]
    NotBootable(&'static str),
    /// Headers that contradict themselves.
    #[error("kernel is damaged ({0}): {REMEDY}")]
    Damaged(&'static str),
    /// The file cannot be read.
    #[error("kernel cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// A kernel image as its headers describe it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// An uncompressed ELF `vmlinux`.
    Elf {
        /// Guest-physical address after the last loaded byte, zeroed memory included.
        end: u64,
    },
    /// A bzImage with a 64-bit entry.
    BzImage {
        /// Guest-physical address after all that its decompressor uses.
        end: u64,
        /// Highest address that the initramfs may take, inclusive.
        initrd_max: u64,
    },
}

/// Tells what kind of kernel `file` is.
pub fn inspect(file: &File) -> Result<Image, ImageError> {
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(ImageError::NotRegular);
    }
    let len = meta.len();
    if len == 0 {
        return Err(ImageError::Empty);
    }
    let mut magic = [0; 64];
    let got = read_up_to(file, &mut magic, 0)?;
    if magic[..got].starts_with(b"\x7fELF") {
        return inspect_elf(file, len);
    }
    if got == magic.len() && &magic[0x38..0x3c] == b"ARM\x64" {
        return Err(ImageError::WrongArchitecture("AArch64".to_owned()));
    }
    inspect_bzimage(file, len)
}

fn inspect_elf(file: &File, len: u64) -> Result<Image, ImageError> {
    let header: Elf64_Ehdr = read_struct(file, 0, len)?;
    if header.e_ident[EI_DATA] != ELFDATA2LSB || header.e_machine != EM_X86_64 {
        return Err(ImageError::WrongArchitecture(machine(&header)));
    }
    if header.e_ident[EI_CLASS] != ELFCLASS64 {
        return Err(ImageError::WrongArchitecture("32-bit x86".to_owned()));
    }
    if header.e_type != ET_EXEC {
        return Err(ImageError::NotBootable(
            "not linked at a fixed address, as programs and modules are",
        ));
    }
    if usize::from(header.e_phentsize) != size_of::<Elf64_Phdr>()
        || header.e_phoff < size_of::<Elf64_Ehdr>() as u64
        || header.e_phnum > MAX_PROGRAM_HEADERS
    {
        return Err(ImageError::Damaged("its program header table"));
    }
    let mut end = 0;
    let mut entry_is_loaded = false;
    for n in 0..u64::from(header.e_phnum) {
        let at = header
            .e_phoff
            .checked_add(n * size_of::<Elf64_Phdr>() as u64)
            .ok_or(ImageError::Damaged("its program header table"))?;
        let segment: Elf64_Phdr = read_struct(file, at, len)?;
        if segment.p_type == PT_INTERP {
            return Err(ImageError::NotBootable("a program of an operating system"));
        }
        // One with bytes and no memory is not empty: the loader goes by the bytes.
        if segment.p_type != PT_LOAD || (segment.p_memsz, segment.p_filesz) == (0, 0) {
            continue;
        }
        let in_file = segment.p_offset.checked_add(segment.p_filesz);
        let in_memory = segment.p_paddr.checked_add(segment.p_memsz);
        let (Some(in_file), Some(in_memory)) = (in_file, in_memory) else {
            return Err(ImageError::Damaged("a segment wraps"));
        };
        if segment.p_filesz > segment.p_memsz {
            return Err(ImageError::Damaged("a segment is longer than its memory"));
        }
        if in_file > len {
            return Err(ImageError::Truncated {
                announced: in_file,
                len,
            });
        }
        if segment.p_paddr < HIGH_MEMORY {
            return Err(ImageError::NotBootable("it loads below 1 MiB"));
        }
        entry_is_loaded |= (segment.p_paddr..in_memory).contains(&header.e_entry);
        end = end.max(in_memory);
    }
    if !entry_is_loaded {
        return Err(ImageError::NotBootable(
            "its entry is no physical address that it loads",
        ));
    }
    Ok(Image::Elf { end })
}

fn inspect_bzimage(file: &File, len: u64) -> Result<Image, ImageError> {
    let mut header = setup_header::default();
    let got = read_up_to(file, header.as_mut_slice(), SETUP_HEADER)?;
    // The magic number must be there to say anything about the rest.
    if got < 0x15 || header.header != SETUP_MAGIC || header.boot_flag != 0xaa55 {
        return Err(ImageError::NotAKernel);
    }
    let truncated = |announced| ImageError::Truncated { announced, len };
    if got < header.as_slice().len() {
        return Err(truncated(SETUP_HEADER + header.as_slice().len() as u64));
    }
    if header.version < PROTOCOL_64_BIT || header.xloadflags & XLF_KERNEL_64 == 0 {
        return Err(ImageError::WrongArchitecture(
            "32-bit x86 (it has no 64-bit entry)".to_owned(),
        ));
    }
    if header.loadflags & 1 == 0 || u64::from(header.code32_start) < HIGH_MEMORY {
        return Err(ImageError::NotBootable("it loads below 1 MiB"));
    }
    let setup = (u64::from(match header.setup_sects {
        0 => 4,
        n => n,
    }) + 1)
        * 512;
    let announced = setup + u64::from(header.syssize) * 16;
    if announced > len || header.syssize == 0 {
        return Err(truncated(announced));
    }
    let loaded = u64::from(header.code32_start) + (len - setup);
    let run_from = u64::from(header.code32_start).max(header.pref_address);
    let run_to = run_from
        .checked_add(u64::from(header.init_size))
        .ok_or(ImageError::Damaged("its preferred address wraps"))?;
    Ok(Image::BzImage {
        end: loaded.max(run_to),
        initrd_max: u64::from(header.initrd_addr_max),
    })
}

/// A processor's name by its ELF number (elf(5), `e_machine`).
fn machine(header: &Elf64_Ehdr) -> String {
    let number = match header.e_ident[EI_DATA] {
        data if data == ELFDATA2LSB => header.e_machine,
        _ => header.e_machine.swap_bytes(),
    };
    match number {
        3 => "32-bit x86".to_owned(),
        8 => "MIPS".to_owned(),
        20 | 21 => "PowerPC".to_owned(),
        22 => "IBM S/390".to_owned(),
        40 => "32-bit ARM".to_owned(),
        183 => "AArch64".to_owned(),
        243 => "RISC-V".to_owned(),
        258 => "LoongArch".to_owned(),
        n => format!("ELF machine {n}"),
    }
}

fn read_struct<T: ByteValued + Default>(file: &File, at: u64, len: u64) -> Result<T, ImageError> {
    let mut value = T::default();
    let announced = at.saturating_add(size_of::<T>() as u64);
    if announced > len || read_up_to(file, value.as_mut_slice(), at)? < size_of::<T>() {
        return Err(ImageError::Truncated { announced, len });
    }
    Ok(value)
}

fn read_up_to(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < bytes.len() {
        match file.read_at(&mut bytes[got..], at + got as u64) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}
