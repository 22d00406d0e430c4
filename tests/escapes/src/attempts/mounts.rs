//! Changing what is mounted, leaving the root, making devices.

use super::attempt;
use crate::sys::{any, open, owned, reached, read_token, text, words, writable};
use crate::{Attempt, Bait, Failure, Tried, call};
use std::os::fd::AsRawFd;
use std::path::Path;

pub const ALL: &[Attempt] = &[
    attempt("mount-tmpfs", "mount a tmpfs", |bait| mount(bait, "tmpfs")),
    attempt("mount-proc", "mount a fresh /proc", |bait| {
        mount(bait, "proc")
    }),
    attempt("mount-sysfs", "mount a fresh /sys", |bait| {
        mount(bait, "sysfs")
    }),
    attempt("mount-cgroup", "mount the cgroup tree", |bait| {
        // One without controllers, which a host on cgroup v2 would miss.
        let named = "none,name=casemate-escape";
        any([mount(bait, "cgroup2"), mount_with(bait, "cgroup", named)])
    }),
    attempt("mount-bind", "bind-mount a folder over another", |bait| {
        let (from, to) = (text(&bait.ro), text(point(bait)));
        reached(
            call!(
                libc::SYS_mount,
                from.as_c_str(),
                to.as_c_str(),
                0,
                libc::MS_BIND,
                0
            ),
            &[],
        )
    }),
    attempt("fsopen", "make a mount by the new calls", |_| {
        let fs = owned(call!(libc::SYS_fsopen, c"tmpfs", 1)?);
        const CREATE: i32 = 6;
        call!(libc::SYS_fsconfig, fs.as_raw_fd(), CREATE, 0, 0, 0)?;
        reached(call!(libc::SYS_fsmount, fs.as_raw_fd(), 1, 0), &[])
    }),
    attempt("open-tree", "copy a mount", |_| {
        const CLONE: i32 = 1;
        reached(call!(libc::SYS_open_tree, libc::AT_FDCWD, c"/", CLONE), &[])
    }),
    attempt(
        "remount-writable",
        "make a read-only mount writable",
        |bait| {
            let path = text(&bait.ro);
            let flags = libc::MS_REMOUNT | libc::MS_BIND;
            passed(call!(libc::SYS_mount, 0, path.as_c_str(), 0, flags, 0))?;
            written(bait)
        },
    ),
    attempt(
        "mount-setattr-writable",
        "the same, by mount_setattr",
        |bait| {
            let path = text(&bait.ro);
            let attributes = words(&[0, 1, 0, 0]);
            passed(call!(
                libc::SYS_mount_setattr,
                libc::AT_FDCWD,
                path.as_c_str(),
                0,
                &attributes[..],
                32
            ))?;
            written(bait)
        },
    ),
    attempt(
        "unmount",
        "take a mount away from over the host's files",
        |bait| {
            let points = [
                bait.ro.as_path(),
                Path::new("/proc"),
                Path::new("/dev"),
                Path::new("/tmp"),
                Path::new("/sys"),
            ];
            any(points.map(|point| {
                let point = text(point);
                reached(
                    call!(libc::SYS_umount2, point.as_c_str(), libc::MNT_DETACH),
                    &[],
                )
            }))
        },
    ),
    attempt("pivot-root", "change its root", |_| {
        reached(
            call!(libc::SYS_pivot_root, c".", c"."),
            &[libc::EINVAL, libc::EBUSY],
        )
    }),
    attempt("chroot", "set its root", |_| {
        reached(call!(libc::SYS_chroot, c"/"), &[])
    }),
    attempt(
        "chroot-escape",
        "leave a chroot by a directory kept open",
        chroot_escape,
    ),
    attempt("mknod-block", "make a block device and open it", |bait| {
        mknod(bait, libc::S_IFBLK, 7, 0)
    }),
    attempt(
        "mknod-character",
        "make the kernel's log device and open it",
        |bait| mknod(bait, libc::S_IFCHR, 1, 11),
    ),
    attempt(
        "open-block-device",
        "open a block device that is there",
        |_| {
            let names = std::fs::read_dir("/dev")?.flatten().filter(|entry| {
                use std::os::unix::fs::FileTypeExt;
                entry.file_type().is_ok_and(|kind| kind.is_block_device())
            });
            any(names.map(|entry| {
                open(entry.path(), libc::O_RDONLY)?;
                Ok(format!("{} was opened", entry.path().display()))
            }))
        },
    ),
    attempt(
        "open-kernel-memory",
        "open /dev/mem, /dev/kmsg or /dev/port",
        |_| {
            any(["/dev/mem", "/dev/kmsg", "/dev/port"].map(|path| {
                open(path, libc::O_RDWR)?;
                Ok(format!("{path} was opened"))
            }))
        },
    ),
];

/// Where to mount: the shared folder, which is in every jail.
fn point(bait: &Bait) -> &Path {
    match bait.rw.as_os_str().is_empty() {
        true => &bait.ro,
        false => &bait.rw,
    }
}

fn mount(bait: &Bait, kind: &str) -> Tried {
    mount_with(bait, kind, "")
}

fn mount_with(bait: &Bait, kind: &str, data: &str) -> Tried {
    let (kind, to, data) = (text(kind), text(point(bait)), text(data));
    reached(
        call!(
            libc::SYS_mount,
            kind.as_c_str(),
            to.as_c_str(),
            kind.as_c_str(),
            0,
            data.as_c_str()
        ),
        // Mounted elsewhere with other options: the right to mount was there.
        &[libc::EBUSY],
    )
}

/// Who may do it to a mount is told where there is none.
fn passed(result: std::io::Result<i64>) -> std::io::Result<()> {
    match result {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        other => other.map(drop),
    }
}

fn written(bait: &Bait) -> Tried {
    open(bait.ro.join("open"), libc::O_WRONLY)?;
    Ok("it can be written".to_owned())
}

fn chroot_escape(bait: &Bait) -> Tried {
    let folder = writable(bait)?.join(format!("root-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let kept = open("/", libc::O_RDONLY | libc::O_DIRECTORY)?;
    let inner = text(&folder);
    let entered = call!(libc::SYS_chroot, inner.as_c_str());
    let _ = std::fs::remove_dir(&folder);
    entered?;
    call!(libc::SYS_fchdir, kept.as_raw_fd())?;
    let down = bait.marker.strip_prefix("/").unwrap_or(&bait.marker);
    read_token(bait, Path::new(&"../".repeat(32)).join(down))
}

fn mknod(bait: &Bait, kind: u32, major: u32, minor: u32) -> Tried {
    let node = writable(bait)?.join(format!("node-{}", std::process::id()));
    let path = text(&node);
    let number = libc::makedev(major, minor);
    match call!(
        libc::SYS_mknodat,
        libc::AT_FDCWD,
        path.as_c_str(),
        kind | 0o600,
        number
    ) {
        Ok(_) => {}
        Err(e) => return Err(e.into()),
    }
    let opened = open(&node, libc::O_RDONLY);
    let _ = std::fs::remove_file(&node);
    match opened {
        Ok(_) => Ok("it was opened".to_owned()),
        // No such driver: the way to it was open.
        Err(e) if e.raw_os_error() == Some(libc::ENXIO) => Ok("it was asked for".to_owned()),
        Err(e) => Err(Failure::from(e)),
    }
}
