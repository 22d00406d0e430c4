//! What must stay as it is.

use super::plant::private;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A folder that no jailer has to do with: a file, and a folder with a file.
pub struct Outside {
    folder: TempDir,
}

/// Mode, owner, group, size, time of the last change of content, content.
type State = (u32, u32, u32, u64, i64, Vec<u8>);

impl Outside {
    pub const FILE: &str = "file";
    pub const FOLDER: &str = "folder";
    /// Is not there.
    pub const NOTHING: &str = "nothing";

    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let inner = folder.path().join(Self::FOLDER);
        private(&inner).expect("made");
        // As tempting as can be: nothing in it keeps a jailer from taking it for its own.
        for file in [folder.path().join(Self::FILE), inner.join("file")] {
            fs::write(&file, "").expect("written");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("private");
        }
        Self { folder }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// All that is there.
    pub fn state(&self) -> BTreeMap<PathBuf, State> {
        let mut found = BTreeMap::new();
        gather(self.folder.path(), &mut found);
        found
    }
}

fn gather(path: &Path, found: &mut BTreeMap<PathBuf, State>) {
    let meta = fs::symlink_metadata(path).expect("there");
    let content = match meta.is_file() {
        true => fs::read(path).expect("readable"),
        false => Vec::new(),
    };
    let modified = meta.mtime() * 1_000_000_000 + meta.mtime_nsec();
    let state = (
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.size(),
        modified,
        content,
    );
    found.insert(path.to_owned(), state);
    if meta.is_dir() {
        for entry in fs::read_dir(path).expect("a folder").flatten() {
            gather(&entry.path(), found);
        }
    }
}
