//! The one tmpfs behind everything that can be written.

use super::mount::{MountError, Mounted, make_dir, mount};
use nix::fcntl::{OFlag, open};
use nix::mount::MsFlags;
use nix::sys::stat::Mode;
use std::fs::{self, Permissions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;

/// Where it stands in the initramfs.
pub const PATH: &str = "/casemate/memory";

/// The tmpfs, held by an fd: after the change of root no path leads to it.
#[derive(Debug)]
pub struct Memory(OwnedFd);

impl Memory {
    /// Mounts it, with at most half of the guest's memory.
    pub fn mount() -> Result<Self, MountError> {
        mount(Mounted {
            source: "tmpfs",
            at: PATH,
            kind: "tmpfs",
            flags: MsFlags::MS_NODEV,
            data: "mode=0700,size=50%",
        })?;
        open(PATH, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
            .map(Self)
            .map_err(|errno| MountError::Point {
                at: PATH.into(),
                source: errno.into(),
            })
    }

    /// Binds its directory `name`, made with `mode`, to `at`. Needs `/proc`.
    pub fn bind(&self, name: &str, at: &str, mode: u32, flags: MsFlags) -> Result<(), MountError> {
        let from = format!("/proc/self/fd/{}/{name}", self.0.as_raw_fd());
        make_dir(&from)?;
        fs::set_permissions(&from, Permissions::from_mode(mode)).map_err(|source| {
            MountError::Point {
                at: from.clone().into(),
                source,
            }
        })?;
        let bind = Mounted {
            source: &from,
            at,
            kind: "",
            flags: MsFlags::MS_BIND,
            data: "",
        };
        mount(bind)?;
        // A bind takes its flags in a second step (mount(2), MS_REMOUNT).
        mount(Mounted {
            flags: MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags,
            ..bind
        })
    }
}
