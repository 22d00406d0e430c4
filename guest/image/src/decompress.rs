//! Decompression with a bound on what comes out and on what it takes.

use std::fmt;
use std::io::{self, Read};
use thiserror::Error;

/// Most memory that a decoder may take for its window, in KiB.
const WINDOW_KIB: u32 = 256 << 10;
/// A legacy LZ4 frame's block, uncompressed (lz4_Frame_format.md, "Legacy frame").
const LZ4_BLOCK: usize = 8 << 20;
const LZ4_MAGIC: [u8; 4] = 0x184C_2102_u32.to_le_bytes();

/// A compression we read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// The .xz format.
    Xz,
    /// RFC 8878.
    Zstd,
    /// LZ4's legacy frame, as kernels use it.
    Lz4Legacy,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Lz4Legacy => "lz4",
        })
    }
}

/// Why bytes were not decompressed.
#[derive(Debug, Error)]
pub enum DecompressError {
    /// A compression that we know by name only.
    #[error("compressed with {0}, which is not supported (gzip, xz, zstd and lz4 are)")]
    Unsupported(&'static str),
    /// No magic number that we know.
    #[error("neither gzip, xz, zstd nor lz4")]
    Unknown,
    /// The decoder refused it.
    #[error("damaged {format} data: {reason}")]
    Damaged {
        /// What it announces to be.
        format: Compression,
        /// The decoder's reason.
        reason: String,
    },
    /// More comes out than is allowed.
    #[error("{format} data expands to more than {limit} bytes")]
    TooLong {
        /// What it is.
        format: Compression,
        /// The limit in bytes.
        limit: usize,
    },
}

/// Tells the compression by its magic number.
pub fn detect(bytes: &[u8]) -> Result<Compression, DecompressError> {
    const KNOWN: [(&[u8], Compression); 4] = [
        (&[0x1f, 0x8b], Compression::Gzip),
        (&[0xfd, b'7', b'z', b'X', b'Z', 0], Compression::Xz),
        (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
        (&LZ4_MAGIC, Compression::Lz4Legacy),
    ];
    const NAMED: [(&[u8], &str); 4] = [
        (b"BZh", "bzip2"),
        (&[0x5d, 0, 0], "lzma"),
        (&[0x89, b'L', b'Z', b'O'], "lzo"),
        (
            &[0x04, 0x22, 0x4d, 0x18],
            "an LZ4 frame that is not the legacy one",
        ),
    ];
    if let Some((_, format)) = KNOWN.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Ok(*format);
    }
    Err(NAMED
        .iter()
        .find(|(magic, _)| bytes.starts_with(magic))
        .map_or(DecompressError::Unknown, |(_, name)| {
            DecompressError::Unsupported(name)
        }))
}

/// Decompresses `bytes` into at most `limit` bytes. What follows the compressed
/// data is ignored for gzip, xz and zstd (kernels append their length).
pub fn decompress(
    format: Compression,
    bytes: &[u8],
    limit: usize,
) -> Result<Vec<u8>, DecompressError> {
    match format {
        Compression::Lz4Legacy => lz4_legacy(bytes, limit),
        format => read_limited(&mut *reader(format, bytes)?, limit).map_err(|e| match e {
            None => DecompressError::TooLong { format, limit },
            Some(e) => DecompressError::Damaged {
                format,
                reason: e.to_string(),
            },
        }),
    }
}

/// A decoder as a stream, for contents that are read piece by piece; the caller
/// bounds what it takes. Not for LZ4.
pub fn reader<'a>(
    format: Compression,
    from: impl Read + 'a,
) -> Result<Box<dyn Read + 'a>, DecompressError> {
    match format {
        Compression::Gzip => Ok(Box::new(flate2::read::GzDecoder::new(from))),
        Compression::Xz => Ok(Box::new(lzma_rust2::XzReader::new_mem_limit(
            from, false, WINDOW_KIB,
        ))),
        Compression::Zstd => {
            let window = u64::from(WINDOW_KIB) << 10;
            ruzstd::decoding::StreamingDecoder::new_with_max_window_size(from, window)
                .map(|decoder| Box::new(decoder) as Box<dyn Read>)
                .map_err(|e| DecompressError::Damaged {
                    format,
                    reason: e.to_string(),
                })
        }
        Compression::Lz4Legacy => Err(DecompressError::Unsupported("lz4, as a stream")),
    }
}

/// `Err(None)`: more than `limit` bytes.
fn read_limited(from: &mut dyn Read, limit: usize) -> Result<Vec<u8>, Option<io::Error>> {
    let mut out = Vec::new();
    from.take(limit as u64 + 1).read_to_end(&mut out)?;
    if out.len() > limit {
        return Err(None);
    }
    Ok(out)
}

/// Magic, then blocks of a little-endian length and that many compressed bytes;
/// four bytes or less at the end are the kernel's appended length.
fn lz4_legacy(bytes: &[u8], limit: usize) -> Result<Vec<u8>, DecompressError> {
    let format = Compression::Lz4Legacy;
    let damaged = |reason: String| DecompressError::Damaged { format, reason };
    let mut rest = bytes
        .strip_prefix(&LZ4_MAGIC)
        .ok_or_else(|| damaged("no magic number".to_owned()))?;
    // Longer than what is written so far by the room for one block, and made
    // longer only as it fills: many small blocks cost no more than a large one.
    let mut out = Vec::new();
    let mut len = 0;
    while rest.len() > 4 {
        let (length, after) = rest
            .split_first_chunk::<4>()
            .ok_or_else(|| damaged("cut short".to_owned()))?;
        if *length == LZ4_MAGIC {
            rest = after;
            continue;
        }
        let length = u32::from_le_bytes(*length) as usize;
        let block = after
            .get(..length)
            .ok_or_else(|| damaged(format!("a block of {length} bytes, {} left", after.len())))?;
        rest = &after[length..];
        let room = LZ4_BLOCK.min(limit - len);
        if out.len() < len + room {
            out.resize(len + room, 0);
        }
        let to = &mut out[len..len + room];
        len += lz4_flex::block::decompress_into(block, to).map_err(|e| {
            if room < LZ4_BLOCK {
                DecompressError::TooLong { format, limit }
            } else {
                damaged(e.to_string())
            }
        })?;
    }
    out.truncate(len);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn text() -> Vec<u8> {
        b"the same words again and again, ".repeat(5000)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    /// One block of literals only: a token, the length in steps of 255, the bytes.
    fn lz4(bytes: &[u8]) -> Vec<u8> {
        let mut block = vec![0xf0];
        let mut left = bytes.len() - 15;
        while left >= 255 {
            block.push(255);
            left -= 255;
        }
        block.push(left as u8);
        block.extend_from_slice(bytes);
        let mut out = LZ4_MAGIC.to_vec();
        out.extend((block.len() as u32).to_le_bytes());
        out.extend(block);
        out.extend((bytes.len() as u32).to_le_bytes());
        out
    }

    #[test]
    fn formats_are_told_apart_and_bounded() {
        for (format, packed) in [
            (Compression::Gzip, gzip(&text())),
            (Compression::Zstd, zstd(&text())),
            (Compression::Lz4Legacy, lz4(&text())),
        ] {
            assert_eq!(detect(&packed).unwrap(), format);
            let out = decompress(format, &packed, text().len()).unwrap();
            assert!(out == text(), "{format}");
            assert!(
                matches!(
                    decompress(format, &packed, text().len() - 1),
                    Err(DecompressError::TooLong { .. })
                ),
                "{format}"
            );
        }
    }

    /// Each block used to cost 8 MiB of zeroes: a small file kept a host busy for hours.
    #[test]
    fn many_small_lz4_blocks_cost_little() {
        let mut packed = LZ4_MAGIC.to_vec();
        for _ in 0..100_000 {
            packed.extend([2, 0, 0, 0, 0x10, b'x']);
        }
        packed.extend(100_000u32.to_le_bytes());
        let start = std::time::Instant::now();
        let out = decompress(Compression::Lz4Legacy, &packed, 64 << 20).unwrap();
        assert!(out == [b'x'; 100_000]);
        assert!(start.elapsed() < std::time::Duration::from_secs(20));
    }

    #[test]
    fn others_are_named() {
        assert_eq!(
            detect(b"BZh9").unwrap_err().to_string(),
            "compressed with bzip2, which is not supported (gzip, xz, zstd and lz4 are)"
        );
        assert!(matches!(detect(b""), Err(DecompressError::Unknown)));
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic_nor_pass_the_limit(
            which in 0usize..4,
            mut bytes in prop::collection::vec(any::<u8>(), 0..2000),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            const LIMIT: usize = 1 << 16;
            let format = [Compression::Gzip, Compression::Xz, Compression::Zstd, Compression::Lz4Legacy][which];
            // Half from nothing, half from something good.
            if let Some((_, first)) = damage.first() && first % 2 == 0 {
                let text = text();
                bytes = match format {
                    Compression::Gzip => gzip(&text),
                    Compression::Zstd => zstd(&text),
                    Compression::Lz4Legacy => lz4(&text),
                    Compression::Xz => bytes,
                };
                for (at, value) in &damage {
                    if !bytes.is_empty() {
                        let at = at.index(bytes.len());
                        bytes[at] = *value;
                    }
                }
            }
            if let Ok(out) = decompress(format, &bytes, LIMIT) {
                prop_assert!(out.len() <= LIMIT);
            }
        }
    }
}
