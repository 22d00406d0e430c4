//! Loading of kernel modules.
//!
//! The initramfs of a kernel that needs modules has them uncompressed in
//! `/modules`, and `/modules/order` lists them by group in the order of their
//! dependencies:
//!
//! ```text
//! base: virtio.ko virtio_ring.ko virtio_mmio.ko virtio_blk.ko
//! erofs: erofs.ko
//! ```
//! A kernel with everything built in has no such file.

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use thiserror::Error;

const FOLDER: &str = "/modules";

/// Why a module could not be loaded.
#[derive(Debug, Error)]
pub enum ModuleError {
    /// A file of `/modules` cannot be read.
    #[error("module file {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The kernel refused it.
    #[error("module {name}: {errno} (is it this kernel's? import the kernel anew)")]
    Refused {
        /// File name.
        name: String,
        /// The kernel's reason.
        errno: Errno,
    },
}

/// Loads the modules of `groups`. A group that is not listed is built in.
pub fn load(groups: &[&str]) -> Result<(), ModuleError> {
    load_from(Path::new(FOLDER), groups, |file| {
        finit_module(file, c"", ModuleInitFlags::empty())
    })
}

fn load_from(
    folder: &Path,
    groups: &[&str],
    insert: impl Fn(&File) -> nix::Result<()>,
) -> Result<(), ModuleError> {
    let order = folder.join("order");
    let order = match fs::read_to_string(&order) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            return Err(ModuleError::Read {
                path: order.display().to_string(),
                source,
            });
        }
    };
    for name in files(&order, groups) {
        let path = folder.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => {
                return Err(ModuleError::Read {
                    path: path.display().to_string(),
                    source,
                });
            }
        };
        match insert(&file) {
            // Built in or loaded before; or for hardware that is not here.
            Ok(()) | Err(Errno::EEXIST | Errno::ENODEV) => {}
            Err(errno) => {
                return Err(ModuleError::Refused {
                    name: name.to_owned(),
                    errno,
                });
            }
        }
    }
    Ok(())
}

/// The files of `groups`, in the order of the text. A line without a group is `base`.
fn files<'a>(order: &'a str, groups: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    order.lines().flat_map(move |line| {
        let (group, files) = line.split_once(':').unwrap_or(("base", line));
        let wanted = groups.contains(&group.trim());
        files
            .split_ascii_whitespace()
            .filter(move |name| wanted && !name.contains('/'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = "base: virtio.ko virtio_mmio.ko\nlone.ko\nerofs: crc.ko erofs.ko\n";

    #[test]
    fn groups_keep_their_order() {
        let base: Vec<_> = files(ORDER, &["base"]).collect();
        assert_eq!(base, ["virtio.ko", "virtio_mmio.ko", "lone.ko"]);
        let erofs: Vec<_> = files(ORDER, &["erofs"]).collect();
        assert_eq!(erofs, ["crc.ko", "erofs.ko"]);
        assert_eq!(files(ORDER, &["ext4"]).count(), 0);
    }

    #[test]
    fn no_list_means_built_in_and_refusals_have_a_name() {
        let folder = tempfile::tempdir().unwrap();
        load_from(folder.path(), &["base"], |_| Err(Errno::ENOEXEC)).unwrap();
        fs::write(folder.path().join("order"), "base: gone.ko a.ko\n").unwrap();
        fs::write(folder.path().join("a.ko"), "x").unwrap();
        load_from(folder.path(), &["base"], |_| Err(Errno::EEXIST)).unwrap();
        let refused = load_from(folder.path(), &["base"], |_| Err(Errno::ENOEXEC)).unwrap_err();
        assert!(refused.to_string().starts_with("module a.ko: ENOEXEC"));
    }
}
