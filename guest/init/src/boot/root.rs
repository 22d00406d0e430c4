//! The program's root: the image below, memory above.
//!
//! ```text
//!           /              overlay
//!           ├─ upper       one tmpfs (at most half of memory), also behind /tmp, /run, /dev/shm
//!           └─ lower       /dev/vda, read-only
//! ```
//! One tmpfs for all that can be written, so that files cannot take more than
//! half of the guest's memory together.

use super::cmdline::RootFormat;
use super::memory::{Memory, PATH as MEMORY};
use super::mount::{MountError, Mounted, make_dir, mount};
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::unistd::{chdir, chroot};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};
use thiserror::Error;

const DEVICE: &str = "/dev/vda";
const PATIENCE: Duration = Duration::from_secs(5);
const LOWER: &str = "/casemate/lower";
const NEW_ROOT: &str = "/casemate/root";

/// Why the image cannot be the root.
#[derive(Debug, Error)]
pub enum RootError {
    /// The disk did not appear.
    #[error("{DEVICE} did not appear within {} s: the kernel lacks virtio_blk or virtio_mmio, or there is no disk", PATIENCE.as_secs())]
    NoDevice,
    /// A mount failed.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A step of the change of root failed.
    #[error("change of root, {step}: {source}")]
    Switch {
        /// What was tried.
        step: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
}

fn step<T, E: Into<io::Error>>(step: &'static str, result: Result<T, E>) -> Result<T, RootError> {
    result.map_err(|e| RootError::Switch {
        step,
        source: e.into(),
    })
}

/// Makes the image, under an overlay, the root of this process, and frees the initramfs.
/// Nothing is mounted in the new root yet.
pub fn enter(format: RootFormat) -> Result<Memory, RootError> {
    wait_for(Path::new(DEVICE))?;
    mount(Mounted {
        source: DEVICE,
        at: LOWER,
        kind: format.name(),
        flags: MsFlags::MS_RDONLY | MsFlags::MS_NOATIME,
        // A journal cannot be replayed on a read-only disk.
        data: if format == RootFormat::Ext4 {
            "noload"
        } else {
            ""
        },
    })?;
    let memory = Memory::mount()?;
    overlay()?;
    // The overlay keeps its layers; nothing of the initramfs is needed any more.
    for at in [LOWER, "/sys", "/proc", "/dev"] {
        step("unmount", umount2(at, MntFlags::MNT_DETACH))?;
    }
    free_initramfs();
    step("enter", chdir(NEW_ROOT))?;
    step(
        "move",
        nix::mount::mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>),
    )?;
    step("chroot", chroot("."))?;
    step("chdir", chdir("/"))?;
    Ok(memory)
}

fn overlay() -> Result<(), RootError> {
    let upper = format!("{MEMORY}/upper");
    let work = format!("{MEMORY}/work");
    make_dir(&upper)?;
    make_dir(&work)?;
    // The merged root shows the upper's owner and mode.
    let lower = step("stat of the image's root", fs::metadata(LOWER))?;
    step(
        "owner of the root",
        chown(&upper, Some(lower.uid()), Some(lower.gid())),
    )?;
    step(
        "mode of the root",
        fs::set_permissions(&upper, Permissions::from_mode(lower.mode() & 0o7777)),
    )?;
    mount(Mounted {
        source: "overlay",
        at: NEW_ROOT,
        kind: "overlay",
        flags: MsFlags::empty(),
        data: &format!("lowerdir={LOWER},upperdir={upper},workdir={work}"),
    })?;
    Ok(())
}

/// The initramfs is memory: give it back. Its files are ours and known.
fn free_initramfs() {
    // What stays costs memory only.
    let _ = fs::remove_dir_all("/modules");
    let _ = fs::remove_file("/init");
}

fn wait_for(device: &Path) -> Result<(), RootError> {
    let start = Instant::now();
    while !device.exists() {
        if start.elapsed() > PATIENCE {
            return Err(RootError::NoDevice);
        }
        sleep(Duration::from_millis(1));
    }
    Ok(())
}
