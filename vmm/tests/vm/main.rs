//! Whole VMs, started without a jailer.

mod bare;
mod initramfs;
mod linux;
mod tiny;
