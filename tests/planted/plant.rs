//! What somebody could have put at a path.

use super::outside::Outside;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::{Mode, SFlag, mknod};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Numbers of slots, from the newest process' on, that are planted: a start takes the first
/// free one from its own process' number on.
const SLOTS: u32 = 3000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// Symbolic links: to a file, to a folder, to what is not there.
    ToFile,
    ToFolder,
    ToNothing,
    HardLink,
    Fifo,
    Socket,
    /// Folders: empty, and with somebody's file in it.
    Folder,
    Full,
    /// A file that is somebody's, with content.
    File,
}

impl Plant {
    pub const ALL: [Self; 9] = [
        Self::ToFile,
        Self::ToFolder,
        Self::ToNothing,
        Self::HardLink,
        Self::Fifo,
        Self::Socket,
        Self::Folder,
        Self::Full,
        Self::File,
    ];

    /// Puts it at `path`, and tells where it is now.
    pub fn put(self, path: &Path, outside: &Path) -> Vec<PathBuf> {
        let folder = path.parent().expect("a folder");
        private(folder).expect("made");
        let slots = folder.ends_with("_slots");
        let paths: Vec<PathBuf> = match slots {
            true => {
                let newest = newest_process();
                (0..SLOTS)
                    .map(|n| folder.join(((newest + n) % (1 << 16)).to_string()))
                    .collect()
            }
            false => vec![path.to_owned()],
        };
        for path in &paths {
            self.put_one(path, outside);
        }
        paths
    }

    fn put_one(self, path: &Path, outside: &Path) {
        let node = |kind| mknod(path, kind, Mode::from_bits_truncate(0o666), 0).map_err(Into::into);
        match self {
            Self::ToFile => symlink(outside.join(Outside::FILE), path),
            Self::ToFolder => symlink(outside.join(Outside::FOLDER), path),
            Self::ToNothing => symlink(outside.join(Outside::NOTHING), path),
            Self::HardLink => fs::hard_link(outside.join(Outside::FILE), path),
            Self::Fifo => node(SFlag::S_IFIFO),
            Self::Socket => node(SFlag::S_IFSOCK),
            Self::Folder => private(path),
            Self::Full => private(path).and_then(|()| fs::write(path.join("theirs"), "x")),
            Self::File => fs::write(path, "theirs\n"),
        }
        .expect("planted");
    }
}

/// A folder with those above it, as the jailer makes them: nothing about it is amiss.
pub fn private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The number that the kernel gave out last.
fn newest_process() -> u32 {
    let text = fs::read_to_string("/proc/loadavg").expect("/proc/loadavg");
    let last = text.split_whitespace().last().expect("five fields");
    last.parse().expect("a number")
}

/// Exchanges a folder with a link to the outside until it is `over`; tells how often.
pub fn exchange(folder: &Path, outside: &Path, over: &AtomicBool) -> u32 {
    let decoy = folder.with_extension("decoy");
    let _ = private(folder.parent().expect("a folder"));
    let mut times = 0;
    while !over.load(Ordering::Relaxed) {
        let _ = private(folder);
        let _ = symlink(outside.join(Outside::FOLDER), &decoy);
        for _ in 0..2 {
            let flags = RenameFlags::RENAME_EXCHANGE;
            if renameat2(AT_FDCWD, folder, AT_FDCWD, &decoy, flags).is_ok() {
                times += 1;
            }
            std::thread::yield_now();
        }
    }
    times
}
