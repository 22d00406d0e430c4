//! The payload of a bzImage.
//!
//! Source: the kernel's Documentation/arch/x86/boot.rst, fields `setup_sects`
//! (0x1f1), `header` (0x202), `version` (0x206), `payload_offset` (0x248) and
//! `payload_length` (0x24c). The payload ends with its length when unpacked.

use crate::decompress::{DecompressError, decompress, detect};
use thiserror::Error;

/// Most that a kernel may unpack to, in bytes.
pub const MAX_VMLINUX: usize = 512 << 20;
/// Largest kernel file that is taken, in bytes; packed, no kernel is longer than unpacked.
pub const MAX_FILE: u64 = MAX_VMLINUX as u64;
/// The first version with a payload field.
const MIN_VERSION: u16 = 0x0208;

/// Why a bzImage was refused.
#[derive(Debug, Error)]
pub enum BzImageError {
    /// No `HdrS`.
    #[error("not a bzImage")]
    NotBzImage,
    /// Of before Linux 2.6.26.
    #[error("a bzImage of boot protocol {}.{:02}, where 2.08 is the oldest taken", .0 >> 8, .0 & 0xff)]
    TooOld(u16),
    /// The file ends before what it announces.
    #[error("truncated: {have} bytes, where its header announces {need}")]
    Truncated {
        /// Bytes there are.
        have: usize,
        /// Bytes needed.
        need: usize,
    },
    /// It says that it unpacks to more than [`MAX_VMLINUX`].
    #[error("announces {0} bytes when unpacked, where {MAX_VMLINUX} are the most taken")]
    TooLong(usize),
    /// The payload does not unpack.
    #[error("the kernel's payload: {0}")]
    Payload(#[from] DecompressError),
}

fn field<const N: usize>(image: &[u8], at: usize) -> Result<[u8; N], BzImageError> {
    image
        .get(at..at + N)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(BzImageError::NotBzImage)
}

/// Whether the bytes have a bzImage's header.
pub fn is_bzimage(image: &[u8]) -> bool {
    image.get(0x202..0x206) == Some(b"HdrS")
}

/// Unpacks the kernel in a bzImage. The result is the payload as it is: see
/// [`crate::kernel::vmlinux`] for a checked one.
pub fn unpack(image: &[u8]) -> Result<Vec<u8>, BzImageError> {
    if !is_bzimage(image) {
        return Err(BzImageError::NotBzImage);
    }
    let version = u16::from_le_bytes(field(image, 0x206)?);
    if version < MIN_VERSION {
        return Err(BzImageError::TooOld(version));
    }
    let setup_sectors = match image[0x1f1] {
        0 => 4,
        n => usize::from(n),
    };
    let offset = u32::from_le_bytes(field(image, 0x248)?) as usize;
    let length = u32::from_le_bytes(field(image, 0x24c)?) as usize;
    let start = (setup_sectors + 1) * 512 + offset;
    let end = start + length;
    let payload = image.get(start..end).ok_or(BzImageError::Truncated {
        have: image.len(),
        need: end,
    })?;
    let format = detect(payload)?;
    let (_, unpacked) = payload
        .split_last_chunk::<4>()
        .ok_or(BzImageError::NotBzImage)?;
    let unpacked = u32::from_le_bytes(*unpacked) as usize;
    if unpacked > MAX_VMLINUX {
        return Err(BzImageError::TooLong(unpacked));
    }
    Ok(decompress(format, payload, unpacked)?)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    /// A bzImage with this content, gzip-compressed.
    pub(crate) fn bzimage(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        let payload = encoder.finish().unwrap();
        let mut image = vec![0; 1024];
        image[0x1f1] = 1;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x020fu16.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        image.extend(payload);
        image
    }

    #[test]
    fn unpacks_and_names_what_is_wrong() {
        let image = bzimage(b"a kernel");
        assert_eq!(unpack(&image).unwrap(), b"a kernel");
        assert!(matches!(unpack(b""), Err(BzImageError::NotBzImage)));
        let cut = &image[..image.len() - 1];
        assert!(matches!(unpack(cut), Err(BzImageError::Truncated { .. })));
        let mut old = image.clone();
        old[0x206] = 7;
        assert_eq!(
            unpack(&old).unwrap_err().to_string(),
            "a bzImage of boot protocol 2.07, where 2.08 is the oldest taken"
        );
        let mut bzip2 = image.clone();
        bzip2[1024..1027].copy_from_slice(b"BZh");
        assert!(unpack(&bzip2).unwrap_err().to_string().contains("bzip2"));
        let mut huge = image.clone();
        let end = huge.len();
        huge[end - 4..].fill(0xff);
        assert!(matches!(unpack(&huge), Err(BzImageError::TooLong(_))));
    }

    proptest! {
        #[test]
        fn hostile_headers_never_panic(
            damage in prop::collection::vec((0x1f0usize..0x300, any::<u8>()), 1..12),
            cut in 0usize..2000,
        ) {
            let mut image = bzimage(&[7; 3000]);
            for (at, value) in damage {
                image[at] = value;
            }
            image.truncate(image.len().saturating_sub(cut));
            let _ = unpack(&image);
        }
    }
}
