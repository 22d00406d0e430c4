//! A directory's content in one number.

use std::ffi::OsString;
use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Deepest folder that is entered.
const MAX_DEPTH: usize = 256;

/// Most content of a tree, in bytes, holes included.
const MAX_BYTES: u64 = 64 << 30;

/// Why a tree could not be read.
#[derive(Debug, Error)]
pub enum TreeError {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Folders in folders without end.
    #[error("{path}: more than {MAX_DEPTH} folders deep")]
    TooDeep {
        /// The folder.
        path: PathBuf,
    },
}

/// What a tree amounts to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// BLAKE3 over every entry in the order of names: path, type, mode, owner, group,
    /// modification time, device number, extended attributes, link target, content.
    pub digest: String,
    /// Number of entries.
    pub entries: u64,
    /// Bytes of content, each file rounded up to 4 KiB.
    pub bytes: u64,
}

/// Reads a whole tree. Symbolic links are not followed.
pub fn summarize(root: &Path) -> Result<Summary, TreeError> {
    let mut walk = Walk {
        hasher: blake3::Hasher::new(),
        entries: 0,
        bytes: 0,
    };
    walk.entry(root, Path::new(""), 0)?;
    Ok(Summary {
        digest: walk.hasher.finalize().to_hex().to_string(),
        entries: walk.entries,
        bytes: walk.bytes,
    })
}

struct Walk {
    hasher: blake3::Hasher,
    entries: u64,
    bytes: u64,
}

impl Walk {
    /// Adds bytes with their length, so that no two sequences of fields read the same.
    fn field(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.hasher.update(bytes);
    }

    fn number(&mut self, number: u64) {
        self.hasher.update(&number.to_le_bytes());
    }

    fn entry(&mut self, path: &Path, name: &Path, depth: usize) -> Result<(), TreeError> {
        let error = |source| TreeError::Read {
            path: path.to_owned(),
            source,
        };
        let meta = fs::symlink_metadata(path).map_err(error)?;
        self.entries += 1;
        self.field(name.as_os_str().as_bytes());
        self.metadata(&meta);
        self.attributes(path).map_err(error)?;
        let kind = meta.file_type();
        if kind.is_symlink() {
            let target = fs::read_link(path).map_err(error)?;
            self.field(target.as_os_str().as_bytes());
        } else if kind.is_file() {
            self.content(path).map_err(error)?;
        } else if kind.is_dir() {
            if depth == MAX_DEPTH {
                return Err(TreeError::TooDeep {
                    path: path.to_owned(),
                });
            }
            let names = names(path).map_err(error)?;
            self.number(names.len() as u64);
            for child in names {
                self.entry(&path.join(&child), Path::new(&child), depth + 1)?;
            }
        }
        Ok(())
    }

    fn metadata(&mut self, meta: &Metadata) {
        for number in [
            meta.mode().into(),
            meta.uid().into(),
            meta.gid().into(),
            meta.rdev(),
            meta.mtime().cast_unsigned(),
            meta.mtime_nsec().cast_unsigned(),
        ] {
            self.number(number);
        }
    }

    fn attributes(&mut self, path: &Path) -> io::Result<()> {
        let mut names: Vec<OsString> = match xattr::list(path) {
            Ok(names) => names.collect(),
            // A file system without them has none.
            Err(e) if e.kind() == io::ErrorKind::Unsupported => Vec::new(),
            Err(e) => return Err(e),
        };
        names.sort();
        self.number(names.len() as u64);
        for name in names {
            let value = xattr::get(path, &name)?.unwrap_or_default();
            self.field(name.as_bytes());
            self.field(&value);
        }
        Ok(())
    }

    /// Of a file that was a regular one a moment ago. Whoever owns the tree may have put a
    /// FIFO, which an open would wait for, or a link there since.
    fn content(&mut self, path: &Path) -> io::Result<()> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
            .open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::other("changed while it was read"));
        }
        // Before it is read: a hole of a terabyte takes its time, too.
        if meta.len() > MAX_BYTES - self.bytes.min(MAX_BYTES) {
            return Err(io::Error::other(format!(
                "the tree holds more than {} GiB: give an image instead",
                MAX_BYTES >> 30
            )));
        }
        let mut file = file.take(meta.len());
        let mut content = blake3::Hasher::new();
        let len = io::copy(&mut file, &mut content)?;
        self.bytes += len.next_multiple_of(4096);
        self.field(content.finalize().as_bytes());
        Ok(())
    }
}

fn names(folder: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().into_vec());
    }
    names.sort();
    Ok(names.into_iter().map(OsString::from_vec).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::{Duration, SystemTime};

    fn digest(root: &Path) -> String {
        summarize(root).unwrap().digest
    }

    #[test]
    fn every_change_changes_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        let file = root.join("file");
        let mut seen = vec![digest(&root)];
        let mut changed = |what: &str| {
            let now = digest(&root);
            assert!(!seen.contains(&now), "{what}");
            assert_eq!(now, digest(&root));
            seen.push(now);
        };
        fs::write(&file, "content").unwrap();
        changed("a new file");
        fs::write(&file, "Content").unwrap();
        changed("content");
        fs::set_permissions(&file, Permissions::from_mode(0o4755)).unwrap();
        changed("mode");
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        File::open(&file).unwrap().set_modified(time).unwrap();
        changed("time");
        symlink("a", root.join("link")).unwrap();
        changed("a link");
        fs::remove_file(root.join("link")).unwrap();
        symlink("b", root.join("link")).unwrap();
        changed("a link's target");
        fs::rename(&file, root.join("other")).unwrap();
        changed("a name");
        fs::create_dir(root.join("sub")).unwrap();
        fs::rename(root.join("other"), root.join("sub/other")).unwrap();
        changed("a place");
    }

    #[test]
    fn a_file_of_holes_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("huge")).unwrap();
        file.set_len(MAX_BYTES + 1).unwrap();
        let error = summarize(folder.path()).unwrap_err().to_string();
        assert!(error.contains("huge: the tree holds more"), "{error}");
    }

    #[test]
    fn what_became_a_fifo_or_a_link_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name| folder.path().join(name);
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        symlink("/etc/passwd", at("link")).unwrap();
        for name in ["fifo", "link"] {
            let mut walk = Walk {
                hasher: blake3::Hasher::new(),
                entries: 0,
                bytes: 0,
            };
            assert!(walk.content(&at(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn the_path_of_the_tree_is_no_part_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        fs::create_dir(&a).unwrap();
        fs::write(a.join("x"), [1; 5000]).unwrap();
        let before = summarize(&a).unwrap();
        assert_eq!((before.entries, before.bytes), (2, 8192));
        fs::rename(&a, &b).unwrap();
        assert_eq!(summarize(&b).unwrap(), before);
    }
}
