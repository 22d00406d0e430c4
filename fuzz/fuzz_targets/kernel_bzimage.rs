//! bzImages: the VMM's loader, and unpacking (gzip, xz, zstd, lz4) on the host.
//! The input is the header's fields, then the payload.
#![no_main]

use casemate_fuzz::kernel::load;
use casemate_guest_image::bzimage::unpack;
use casemate_guest_image::kernel::vmlinux;
use libfuzzer_sys::fuzz_target;

/// Most that a payload announces here, in bytes, so that a run is not all zeroes.
const MOST: u32 = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let Some((fields, payload)) = bytes.split_first_chunk::<16>() else {
        return;
    };
    let mut image = vec![0; 1024];
    image[0x1f1] = fields[0] % 4;
    image[0x1f4..0x1f8].copy_from_slice(&(payload.len().div_ceil(16) as u32).to_le_bytes());
    image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&[fields[1], 2]);
    image[0x211] = fields[2];
    // code32_start, in pages; initrd_addr_max; xloadflags; pref_address; init_size.
    image[0x215..0x217].copy_from_slice(&fields[3..5]);
    image[0x22c..0x230].copy_from_slice(&[fields[5], fields[6], fields[7], fields[7]]);
    image[0x236] = fields[8];
    image[0x248] = fields[9];
    image[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    image[0x25a..0x25c].copy_from_slice(&fields[10..12]);
    image[0x261..0x263].copy_from_slice(&fields[12..14]);
    image.extend_from_slice(payload);
    let end = image.len();
    if payload.len() >= 4 {
        let announced = u32::from_le_bytes([
            image[end - 4],
            image[end - 3],
            image[end - 2],
            image[end - 1],
        ]);
        image[end - 4..].copy_from_slice(&(announced % MOST).to_le_bytes());
    }
    if let Ok(out) = unpack(&image) {
        assert!(out.len() < MOST as usize, "more than was announced");
    }
    let _ = vmlinux(&image);
    let initrd = (fields[14] > 0).then_some(usize::from(fields[14]) * 100);
    if let Some(loaded) = load(&image, initrd) {
        assert!(loaded.setup_header.is_some());
    }
});
