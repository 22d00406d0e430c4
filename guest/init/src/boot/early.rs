//! The three mounts without which nothing else can be asked of the kernel.

use super::mount::{MountError, Mounted, mount};
use nix::mount::MsFlags;

/// Mounts `/dev`, `/proc` and `/sys` in `/`: first in the initramfs, then in the new root.
pub fn mount_all() -> Result<(), MountError> {
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
    for (kind, at, flags, data) in [
        ("devtmpfs", "/dev", MsFlags::MS_NOSUID, "mode=0755"),
        ("proc", "/proc", plain, ""),
        ("sysfs", "/sys", plain, ""),
    ] {
        mount(Mounted {
            source: kind,
            at,
            kind,
            flags,
            data,
        })?;
    }
    // Programs can write to /dev, which would be a second half of the memory. It is one
    // for the whole kernel, so a mount takes no limit; a remount does.
    mount(Mounted {
        source: "devtmpfs",
        at: "/dev",
        kind: "devtmpfs",
        flags: MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID,
        data: "size=1m,nr_inodes=4096",
    })
}
