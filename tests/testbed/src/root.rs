//! The bed's root image and its initramfs.

use crate::cache::{Cache, Key};
use crate::cpio::Cpio;
use crate::debian_kernel::DebianKernel;
use crate::debootstrap;
use crate::error::{BedError, Result};
use crate::tool;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const BED_INIT: &str = include_str!("../bed/bed-init.sh");
const INITRAMFS_INIT: &str = include_str!("../bed/initramfs-init.sh");

/// Packages of the bed's userland, beyond the minimal ones.
const PACKAGES: &[&str] = &[
    "busybox-static",
    "e2fsprogs",
    "erofs-utils",
    "iproute2",
    "kmod",
    "libcap2-bin",
    "procps",
    "python3-minimal",
    "socat",
    "squashfs-tools",
    "strace",
    "util-linux-extra",
];

/// Modules the bed may load; those they depend on come along.
const MODULES: &[&str] = &[
    "erofs",
    "kvm-amd",
    "loop",
    "overlay",
    "squashfs",
    "tun",
    "vhost_net",
    "vhost_vsock",
    "virtio_blk",
    "virtio-rng",
    "vsock_loopback",
];

/// Modules loaded before the root is mounted, in order.
const EARLY: &[&str] = &["virtio_blk", "overlay"];

/// Built files that the bed boots from.
#[derive(Debug)]
pub struct BedRoot {
    /// ext4 image, read only in use.
    pub image: PathBuf,
    /// Uncompressed archive.
    pub initramfs: PathBuf,
}

impl BedRoot {
    /// Builds what is not in the cache.
    pub fn get(cache: &Cache, kernel: &DebianKernel) -> Result<Self> {
        let userland = userland(cache)?;
        let key = Key::new("bed-root", 1)
            .with_entry(&userland)
            .with_entry(kernel.deb.parent().unwrap_or(&kernel.deb))
            .with(&kernel.release)
            .with(MODULES.join(" "))
            .with(BED_INIT)
            .with(INITRAMFS_INIT);
        let dir = cache.entry(&format!("bed-root-{}", key.hex()), |half| {
            tool::step("making the bed's root image", || {
                build(half, &userland, kernel)
            })
        })?;
        Ok(Self {
            image: dir.join("root.ext4"),
            initramfs: dir.join("initramfs.cpio"),
        })
    }
}

fn userland(cache: &Cache) -> Result<PathBuf> {
    let key = Key::new("bed-userland", 1).with(PACKAGES.join(","));
    let dir = cache.entry(&format!("bed-userland-{}", key.hex()), |half| {
        debootstrap::make("the bed's userland", PACKAGES, &half.join("root"))
    })?;
    Ok(dir.join("root"))
}

fn build(half: &Path, userland: &Path, kernel: &DebianKernel) -> Result<()> {
    let root = half.join("root");
    tool::run(
        "copying the bed's userland",
        Command::new("cp").arg("-a").arg(userland).arg(&root),
    )?;
    let modules = copy_modules(kernel, &root)?;
    install_script(&root.join("sbin/bed-init"), BED_INIT)?;
    for dir in ["casemate", "scratch", "out", "etc"] {
        let dir = root.join(dir);
        fs::create_dir_all(&dir).map_err(BedError::io("create", &dir))?;
    }
    write(&root.join("etc/hostname"), b"bed\n")?;
    write(&root.join("etc/hosts"), b"127.0.0.1 localhost bed\n")?;
    write(&half.join("initramfs.cpio"), &initramfs(&root, &modules)?)?;
    debootstrap::ext4(Some(&root), &half.join("root.ext4"), "2G")?;
    fs::remove_dir_all(&root).map_err(BedError::io("remove", &root))
}

/// Copies the modules of the bed, decompressed, and indexes them.
/// Returns their paths inside the root, each after those it depends on.
fn copy_modules(kernel: &DebianKernel, root: &Path) -> Result<Vec<PathBuf>> {
    let depmod = |base: &Path| {
        tool::run(
            "depmod",
            Command::new("/sbin/depmod")
                .arg("-b")
                .arg(base)
                .arg(&kernel.release),
        )
    };
    depmod(&kernel.root)?;
    let mut seen = BTreeSet::new();
    let mut ordered = Vec::new();
    for module in MODULES {
        let list = tool::output(
            &format!("finding module {module}"),
            Command::new("/sbin/modprobe")
                .arg("-d")
                .arg(&kernel.root)
                .args(["-S", &kernel.release, "--show-depends", module]),
        )?;
        for line in list.lines() {
            // "insmod PATH [OPTIONS]" or "builtin NAME"
            let Some(path) = line
                .strip_prefix("insmod ")
                .and_then(|l| l.split(' ').next())
            else {
                continue;
            };
            let compressed = Path::new(path);
            if !seen.insert(compressed.to_path_buf()) {
                continue;
            }
            let inside = compressed
                .strip_prefix(&kernel.root)
                .unwrap_or(compressed)
                .with_extension("");
            let to = root.join("usr").join(&inside);
            let parent = to.parent().unwrap_or(root);
            fs::create_dir_all(parent).map_err(BedError::io("create", parent))?;
            let file = fs::File::create(&to).map_err(BedError::io("create", &to))?;
            let done = Command::new("xz")
                .args(["-dc"])
                .arg(compressed)
                .stdout(file)
                .status()
                .map_err(BedError::io("decompress", compressed))?;
            if !done.success() {
                return Err(BedError::Tool {
                    what: format!("decompressing {}", compressed.display()),
                    detail: done.to_string(),
                });
            }
            ordered.push(inside);
        }
    }
    for index in [
        "modules.order",
        "modules.builtin",
        "modules.builtin.modinfo",
    ] {
        let inside = format!("lib/modules/{}/{index}", kernel.release);
        let (from, to) = (kernel.root.join(&inside), root.join("usr").join(&inside));
        fs::copy(&from, &to).map_err(BedError::io("copy", &from))?;
    }
    depmod(root)?;
    Ok(ordered)
}

fn initramfs(root: &Path, modules: &[PathBuf]) -> Result<Vec<u8>> {
    let mut cpio = Cpio::default();
    for dir in ["dev", "bin", "modules", "lower", "upper", "new"] {
        cpio.dir(dir);
    }
    cpio.file("init", INITRAMFS_INIT.as_bytes());
    cpio.file("bin/busybox", &read(&root.join("usr/bin/busybox"))?);
    for (index, name) in EARLY.iter().enumerate() {
        let file = format!("{name}.ko");
        let module = modules
            .iter()
            .find(|m| m.file_name().is_some_and(|f| f.to_string_lossy() == file))
            .ok_or_else(|| BedError::NoPackage(format!("(kernel module {name})")))?;
        let data = read(&root.join("usr").join(module))?;
        cpio.file(&format!("modules/{index}-{file}"), &data);
    }
    Ok(cpio.finish())
}

fn install_script(path: &Path, text: &str) -> Result<()> {
    write(path, text.as_bytes())?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .map_err(BedError::io("chmod", path))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(BedError::io("read", path))
}

fn write(path: &Path, data: &[u8]) -> Result<()> {
    fs::write(path, data).map_err(BedError::io("write", path))
}
