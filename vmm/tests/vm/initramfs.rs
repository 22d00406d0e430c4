//! A smallest initramfs: busybox, an init script, a console (Linux,
//! driver-api/early-userspace/buffer-format; cpio "newc").

use std::fs;

const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;
const SYMLINK: u32 = 0o120_777;

/// The archive, with `script` as its `/init`. Needs a static `/bin/busybox` on the host.
pub fn with_init(script: &str) -> Vec<u8> {
    let busybox = fs::read("/bin/busybox").expect("install busybox-static");
    let mut archive = Vec::new();
    for directory in ["bin", "dev", "proc", "sys"] {
        member(&mut archive, directory, DIRECTORY, (0, 0), b"");
    }
    member(&mut archive, "dev/console", CHARACTER_DEVICE, (5, 1), b"");
    member(&mut archive, "bin/busybox", EXECUTABLE, (0, 0), &busybox);
    member(&mut archive, "bin/sh", SYMLINK, (0, 0), b"busybox");
    member(&mut archive, "init", EXECUTABLE, (0, 0), script.as_bytes());
    member(&mut archive, "TRAILER!!!", 0, (0, 0), b"");
    archive
}

fn member(archive: &mut Vec<u8>, name: &str, mode: u32, device: (u32, u32), data: &[u8]) {
    let inode = archive.len() as u32;
    let (len, name_len) = (data.len() as u32, name.len() as u32 + 1);
    let fields = [
        inode, mode, 0, 0, 1, 0, len, 0, 0, device.0, device.1, name_len, 0,
    ];
    archive.extend_from_slice(b"070701");
    for field in fields {
        archive.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend_from_slice(data);
    archive.resize(archive.len().next_multiple_of(4), 0);
}
