//! Root images made of a static busybox, one of each kind.

use casemate_testbed::{Cache, DebianKernel, LeanKernel, Series};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the test-bed holds guest kernels and userlands.
const BED_ASSETS: &str = "/casemate";

/// The lean kernel's ELF image.
///
/// # Panics
/// Where there is none and none can be built.
pub fn lean_kernel() -> PathBuf {
    let in_bed = Path::new(BED_ASSETS).join("kernels/lean/vmlinux");
    if in_bed.exists() {
        return in_bed;
    }
    let cache = Cache::open().expect("a cache folder");
    LeanKernel::get(&cache).expect("the lean kernel").vmlinux
}

/// A stock Debian kernel of this series (`6.1` or `6.12`): its package, and the
/// folder where it lies unpacked.
///
/// # Panics
/// Where there is none and none can be fetched.
pub fn debian_kernel(series: &str) -> (PathBuf, PathBuf) {
    let in_bed = Path::new(BED_ASSETS).join(format!("kernels/debian-{series}"));
    if in_bed.exists() {
        return (in_bed.join("package.deb"), in_bed);
    }
    let series = [Series::V6_1, Series::V6_12]
        .into_iter()
        .find(|s| s.name() == series)
        .unwrap_or_else(|| panic!("no series {series}"));
    let cache = Cache::open().expect("a cache folder");
    let kernel = DebianKernel::get(&cache, series).expect("a Debian kernel");
    (kernel.deb, kernel.root)
}

/// A root of this kind (`ext4`, `erofs`, `squashfs` or `dir`), made at its first use.
/// `/mark` in it holds the kind's name and `/big` 8 MiB that do not compress.
///
/// # Panics
/// Where the kind is unknown or the tool for it fails or is not there.
pub fn root(kind: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("casemate-roots-{}", std::process::id()));
    let tree = folder.join(format!("{kind}.dir"));
    if !tree.exists() {
        plant(&tree, kind);
    }
    let image = folder.join(format!("root.{kind}"));
    match kind {
        "dir" => return tree,
        _ if image.exists() => return image,
        "ext4" => tool(
            "mke2fs",
            &["-q", "-t", "ext4", "-d"],
            &[&tree, &image],
            &["32M"],
        ),
        "erofs" => tool("mkfs.erofs", &[], &[&image, &tree], &[]),
        "squashfs" => tool(
            "mksquashfs",
            &[],
            &[&tree, &image],
            &["-quiet", "-no-progress"],
        ),
        other => panic!("no root of kind {other}"),
    }
    image
}

fn tool(name: &str, before: &[&str], paths: &[&Path], after: &[&str]) {
    let out = Command::new(name)
        .args(before)
        .args(paths)
        .args(after)
        .output()
        .unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(
        out.status.success(),
        "{name}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

fn plant(tree: &Path, kind: &str) {
    for folder in ["bin", "dev", "etc", "proc", "sys", "tmp", "run", "root"] {
        fs::create_dir_all(tree.join(folder)).expect("a folder");
    }
    fs::copy("/bin/busybox", tree.join("bin/busybox")).expect("a static busybox in /bin");
    let list = Command::new("/bin/busybox")
        .arg("--list")
        .output()
        .expect("busybox runs");
    for applet in String::from_utf8_lossy(&list.stdout)
        .lines()
        .filter(|&a| a != "busybox")
    {
        symlink("busybox", tree.join("bin").join(applet)).expect("a link");
    }
    fs::write(tree.join("mark"), format!("{kind}\n")).expect("a file");
    let mut random = fs::File::open("/dev/urandom").expect("random bytes");
    let mut big = fs::File::create(tree.join("big")).expect("a file");
    std::io::copy(&mut std::io::Read::take(&mut random, 8 << 20), &mut big).expect("8 MiB");
}
