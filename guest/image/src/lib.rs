//! What a guest boots from: kernels, the initramfs with our init, root images.
//!
//! ```text
//!  .deb ──deb──┐                       ┌─ vmlinux          kernel::vmlinux (bzImage unpacked)
//!  /boot + ────┴─ KernelFiles ─bundle──┼─ initramfs.cpio   modules::collect + initramfs::build
//!  /lib/modules                        └─ bundle.json
//!
//!  directory ── dir_image ── image     cached by content (tree::digest)
//!  busybox  ─── userland ─── tree ──── dir_image
//!  image    ─── rootfs::detect ─────── RootfsFormat, stated to the guest
//! ```
//! Packages, kernels and images come from elsewhere: their parsers bound what
//! they allocate, refuse what does not fit, and never follow a path out.

pub mod bundle;
pub mod bzimage;
pub mod cpio;
pub mod deb;
pub mod decompress;
pub mod dir_image;
pub mod initramfs;
pub mod kernel;
pub mod modinfo;
pub mod modules;
pub mod rootfs;
pub mod tree;
pub mod userland;
