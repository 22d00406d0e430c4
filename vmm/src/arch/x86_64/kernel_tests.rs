//! Tests of [`super`] and of [`crate::arch::x86_64::image`].

use super::*;
use crate::arch::x86_64::image::inspect;
use linux_loader::elf::{Elf64_Ehdr, Elf64_Phdr};
use proptest::prelude::*;
use std::io::Write;
use std::mem::size_of;
use vm_memory::ByteValued;

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// An ELF file's header, its one segment, and that segment's bytes.
type ElfParts = (Elf64_Ehdr, Elf64_Phdr, Vec<u8>);

/// A kernel of one segment: `code` at 2 MiB.
fn elf(code: &[u8]) -> ElfParts {
    let mut header = Elf64_Ehdr {
        e_type: 2,
        e_machine: 62,
        e_version: 1,
        e_entry: 2 * MIB,
        e_phoff: size_of::<Elf64_Ehdr>() as u64,
        e_ehsize: size_of::<Elf64_Ehdr>() as u16,
        e_phentsize: size_of::<Elf64_Phdr>() as u16,
        e_phnum: 1,
        ..Default::default()
    };
    header.e_ident[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    let segment = Elf64_Phdr {
        p_type: 1,
        p_flags: 7,
        p_offset: (size_of::<Elf64_Ehdr>() + size_of::<Elf64_Phdr>()) as u64,
        p_vaddr: 2 * MIB,
        p_paddr: 2 * MIB,
        p_filesz: code.len() as u64,
        p_memsz: code.len() as u64 + 100,
        p_align: 0,
    };
    (header, segment, code.to_vec())
}

fn bytes((header, segment, code): &ElfParts) -> Vec<u8> {
    [header.as_slice(), segment.as_slice(), code].concat()
}

/// A bzImage with two sectors of setup and `code`.
fn bzimage(change: impl FnOnce(&mut setup_header), code: &[u8]) -> Vec<u8> {
    let mut header = setup_header {
        setup_sects: 1,
        syssize: code.len().div_ceil(16) as u32,
        boot_flag: 0xaa55,
        header: 0x5372_6448,
        version: 0x20f,
        loadflags: 1,
        code32_start: 0x10_0000,
        initrd_addr_max: 0x7fff_ffff,
        xloadflags: 1,
        pref_address: 0x100_0000,
        init_size: 0x20_0000,
        ..Default::default()
    };
    change(&mut header);
    let mut bytes = vec![0; 1024];
    bytes[0x1f1..0x1f1 + size_of::<setup_header>()].copy_from_slice(header.as_slice());
    bytes.extend_from_slice(code);
    bytes
}

#[test]
fn loads_an_elf_and_an_initramfs() {
    let memory = memory::map(16).unwrap();
    let code = [0x90u8; 5000];
    let mut kernel = file(&bytes(&elf(&code)));
    let mut initrd = file(&[7; 9000]);
    let loaded = load(&memory, &mut kernel, Some(&mut initrd)).unwrap();
    assert_eq!(loaded.entry, 2 * MIB);
    let mut back = [0; 5000];
    memory
        .read_slice(&mut back, GuestAddress(loaded.entry))
        .unwrap();
    assert_eq!(back, code);
    let place = loaded.initrd.unwrap();
    assert_eq!(
        (place.address, place.len),
        ((16 * MIB - 9000) & !0xfff, 9000)
    );
    let mut back = [0; 9000];
    memory
        .read_slice(&mut back, GuestAddress(place.address))
        .unwrap();
    assert_eq!(back, [7; 9000]);
}

#[test]
fn loads_a_bzimage_at_its_64_bit_entry() {
    let memory = memory::map(32).unwrap();
    let mut kernel = file(&bzimage(|_| (), &[0x90; 4096]));
    let loaded = load(&memory, &mut kernel, None).unwrap();
    assert_eq!(loaded.entry, 0x10_0200);
    assert!(loaded.setup_header.is_some());
}

#[test]
fn says_how_much_memory_is_needed() {
    let memory = memory::map(16).unwrap();
    let mut kernel = file(&bzimage(|_| (), &[0x90; 4096]));
    let error = load(&memory, &mut kernel, None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "guest memory of 16 MiB does not hold the kernel: give at least 18 MiB"
    );
    let mut initrd = file(&vec![0; 3 << 20]);
    let error = load(&memory, &mut kernel, Some(&mut initrd)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "guest memory of 16 MiB does not hold the kernel and its initramfs: give at least 21 MiB"
    );
}

#[test]
fn refuses_what_is_no_kernel_and_says_what_it_is() {
    let good = elf(&[0x90; 64]);
    let with = |change: &dyn Fn(&mut ElfParts)| {
        let mut image = good.clone();
        change(&mut image);
        bytes(&image)
    };
    let whole = bytes(&good);
    let arm64_image = [&[0; 0x38][..], b"ARM\x64", &[0; 64]].concat();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "kernel is empty"),
        (b"#!/bin/sh\necho\n".to_vec(), "neither an ELF"),
        (vec![0; 100_000], "neither an ELF"),
        (whole[..20].to_vec(), "truncated"),
        (whole[..100].to_vec(), "truncated"),
        (whole[..whole.len() - 1].to_vec(), "truncated"),
        (with(&|i| i.0.e_machine = 183), "for AArch64"),
        (with(&|i| i.0.e_machine = 3), "for 32-bit x86"),
        (with(&|i| i.0.e_ident[4] = 1), "for 32-bit x86"),
        (with(&|i| i.0.e_type = 3), "no kernel"),
        (with(&|i| i.0.e_entry = 1), "no kernel"),
        (with(&|i| i.0.e_phnum = u16::MAX), "damaged"),
        (with(&|i| i.0.e_phoff = u64::MAX), "truncated"),
        (with(&|i| i.0.e_phentsize = 1), "damaged"),
        (with(&|i| i.1.p_type = 3), "a program"),
        (with(&|i| i.1.p_offset = u64::MAX), "damaged"),
        (with(&|i| i.1.p_memsz = 1), "damaged"),
        (with(&|i| i.1.p_paddr = 0x1000), "below 1 MiB"),
        (arm64_image, "for AArch64"),
        (bzimage(|h| h.xloadflags = 0, &[0; 64]), "32-bit x86"),
        (bzimage(|h| h.version = 0x206, &[0; 64]), "32-bit x86"),
        (bzimage(|h| h.loadflags = 0, &[0; 64]), "below 1 MiB"),
        (bzimage(|h| h.syssize = 1 << 20, &[0; 64]), "truncated"),
        (bzimage(|h| h.pref_address = u64::MAX, &[0; 64]), "damaged"),
        (bzimage(|_| (), &[0; 64])[..0x210].to_vec(), "truncated"),
    ];
    for (image, words) in cases {
        let error = inspect(&file(&image)).unwrap_err().to_string();
        assert!(error.contains(words), "{words:?} is not in {error:?}");
        assert!(error.starts_with("kernel ") && !error.contains('\n'));
    }
    let directory = File::open("/").unwrap();
    assert!(matches!(inspect(&directory), Err(ImageError::NotRegular)));
}

#[test]
fn refuses_initramfs_that_cannot_be() {
    let memory = memory::map(16).unwrap();
    let mut kernel = file(&bytes(&elf(&[0x90; 64])));
    let mut empty = file(&[]);
    assert!(matches!(
        load(&memory, &mut kernel, Some(&mut empty)),
        Err(KernelError::EmptyInitrd)
    ));
    let huge = tempfile::tempfile().unwrap();
    huge.set_len(8 << 30).unwrap();
    assert!(matches!(
        load(&memory, &mut kernel, Some(&mut { huge })),
        Err(KernelError::TooLarge {
            what: "initramfs",
            ..
        })
    ));
}

proptest! {
    #[test]
    fn any_header_is_judged_without_a_panic(
        mut image in prop::collection::vec(any::<u8>(), 0..2048),
        kind in 0..3,
    ) {
        match kind {
            0 if image.len() > 7 => image[..7].copy_from_slice(b"\x7fELF\x02\x01\x01"),
            1 if image.len() > 0x210 => {
                image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
                image[0x202..0x206].copy_from_slice(b"HdrS");
            }
            _ => {}
        }
        let memory = memory::map(4).unwrap();
        let _ = load(&memory, &mut file(&image), None);
    }

    #[test]
    fn a_placed_initramfs_meets_nothing(
        low_mib in 1u64..3072, kernel_end in MIB..200 * MIB, len in 1u64..200 * MIB,
        max in prop_oneof![Just(INITRD_MAX), Just(0x37ff_ffffu64)],
    ) {
        let low_end = low_mib * MIB;
        if let Ok(Some(initrd)) = place(low_end, low_mib, kernel_end, Some(len), max) {
            prop_assert!(initrd.address.is_multiple_of(PAGE));
            prop_assert!(initrd.address >= kernel_end);
            prop_assert!(initrd.address + initrd.len <= low_end);
            prop_assert!(initrd.address + initrd.len - 1 <= max);
        }
    }
}

/// The loader goes by the bytes in the file: this one had its bytes loaded to
/// anywhere, the VMM's own tables below 1 MiB included.
#[test]
fn a_segment_of_bytes_without_memory_is_refused() {
    let (mut header, good, code) = elf(&[0x90; 64]);
    header.e_phnum = 2;
    let good = Elf64_Phdr {
        p_offset: (size_of::<Elf64_Ehdr>() + 2 * size_of::<Elf64_Phdr>()) as u64,
        ..good
    };
    let low = Elf64_Phdr {
        p_paddr: 0x7000,
        p_memsz: 0,
        ..good
    };
    let image = [header.as_slice(), good.as_slice(), low.as_slice(), &code].concat();
    let error = inspect(&file(&image)).unwrap_err();
    assert!(matches!(error, ImageError::Damaged(_)), "{error}");
}
