//! Whole VMs, started without a jailer.

mod bare;
mod hostile;
mod initramfs;
mod linux;
mod tiny;
