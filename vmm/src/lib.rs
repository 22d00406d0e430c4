//! The unprivileged virtual machine monitor.
//!
//! Started by the jailer in an empty root with the fds of [`casemate_proto::fds`],
//! it builds one VM, runs it and ends with it. It opens no path.
//!
//! # Threads
//!
//! | comm | code | policy | waits in |
//! |---|---|---|---|
//! | `main` | [`session`] | `main` | epoll: control socket, end of the VM |
//! | `vcpuN` | [`vcpu`] | `vcpu`, bound to its own vCPU | `KVM_RUN` |
//! | `blkN` | [`virtio`] | `block`, bound to its own disk | epoll: notifications |
//! | `vsock` | [`virtio`] | `vsock` | epoll: notifications, streams |
//! | `rng` | [`virtio`] | `entropy` | epoll: notifications |
//!
//! Every thread inherits the `setup` filter and puts its own on top of it before
//! the guest's first instruction ([`thread`]). The threads never end before the
//! process does, and the process ends by `_exit`: nothing is taken apart, so that
//! nothing can go wrong in it, and the kernel frees it all.
//!
//! # Life-cycle
//!
//! ```text
//! main    fds checked, Landlock, setup filter      [`process`], [`session`]
//!   <──── Configure
//! main    memory, kernel, tables, devices, vCPUs   [`vm`]
//! others  named, confined, waiting                 [`thread`]
//! main    main filter
//!   ────> Ready        supervisor reads /proc back
//!   <──── Go
//! vcpus   first guest instruction                  [`vcpu`]
//!   ────> Ended        guest reset, fault, or an error of ours
//! ```
//! A closed control socket ends the VMM at any time.

pub mod arch;
pub mod bus;
pub mod devices;
pub mod event;
pub mod exit;
pub mod kvm;
mod layer_off;
pub mod legacy;
pub mod memory;
pub mod process;
pub mod session;
pub mod thread;
mod unless_off;
pub mod vcpu;
pub mod virtio;
pub mod vm;
