//! What a kernel module says of itself: the `.modinfo` section, `key=value` each with a NUL.

use crate::kernel::is_elf;
use object::LittleEndian as LE;
use object::elf::FileHeader64;
use object::read::elf::{FileHeader, SectionHeader};
use thiserror::Error;

/// Why a module was refused.
#[derive(Debug, Error)]
pub enum ModinfoError {
    /// No 64-bit little-endian ELF file.
    #[error("not a kernel module (no 64-bit ELF file)")]
    NotElf,
    /// No `.modinfo`.
    #[error("not a kernel module (no .modinfo section)")]
    NoModinfo,
}

/// The needs of a module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Modinfo {
    /// Modules it uses symbols of. Without `.ko`, dashes as underscores.
    pub depends: Vec<String>,
    /// Modules or aliases that it wants loaded before it.
    pub soft_before: Vec<String>,
    /// The kernel release it was built for (the first word of `vermagic`).
    pub release: String,
}

/// The kernel takes `-` and `_` in module names for the same.
pub fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// Reads it from an uncompressed `.ko`.
pub fn read(module: &[u8]) -> Result<Modinfo, ModinfoError> {
    if !is_elf(module) {
        return Err(ModinfoError::NotElf);
    }
    let header = FileHeader64::<LE>::parse(module).map_err(|_| ModinfoError::NotElf)?;
    let sections = header
        .sections(LE, module)
        .map_err(|_| ModinfoError::NotElf)?;
    let (_, section) = sections
        .section_by_name(LE, b".modinfo")
        .ok_or(ModinfoError::NoModinfo)?;
    let text = section
        .data(LE, module)
        .map_err(|_| ModinfoError::NoModinfo)?;
    Ok(parse(text))
}

fn parse(section: &[u8]) -> Modinfo {
    let mut info = Modinfo::default();
    for entry in section.split(|&b| b == 0) {
        let Ok(entry) = std::str::from_utf8(entry) else {
            continue;
        };
        match entry.split_once('=') {
            Some(("depends", names)) => {
                let names = names.split(',').filter(|name| !name.is_empty());
                info.depends.extend(names.map(normal));
            }
            Some(("vermagic", words)) => {
                let release = words.split(' ').next().unwrap_or_default();
                release.clone_into(&mut info.release);
            }
            Some(("softdep", words)) => info.soft_before.extend(before(words)),
            _ => {}
        }
    }
    info
}

/// The names after `pre:`, in `pre: a b post: c` (modprobe.d(5), "softdep").
fn before(words: &str) -> Vec<String> {
    let mut wanted = false;
    let mut names = Vec::new();
    for word in words.split_ascii_whitespace() {
        match word {
            "pre:" => wanted = true,
            "post:" => wanted = false,
            name if wanted => names.push(normal(name)),
            _ => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_dependencies() {
        let info = parse(
            b"license=GPL\0softdep=pre: crc32c post: later\0depends=jbd2,mb-cache\0\xff=1\0vermagic=6.1.0 SMP\0",
        );
        assert_eq!(info.depends, ["jbd2", "mb_cache"]);
        assert_eq!(info.soft_before, ["crc32c"]);
        assert_eq!(info.release, "6.1.0");
        assert_eq!(parse(b"depends=\0"), Modinfo::default());
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = read(&[b"\x7fELF\x02\x01\x01", bytes.as_slice()].concat());
        }
    }
}
