//! Virtio devices and their transport.
//!
//! | file | holds |
//! |---|---|
//! | [`state`] | the status register's state machine |
//! | [`transport`] | features, queue set-up, hand-over of the queues; [`mmio`] its registers |
//! | [`queue`] | the split virtqueue with a hostile driver |
//! | [`worker`] | one thread a device, confined before the guest runs |
//! | [`device`] | what a device is, and its life-cycle |
//! | [`interrupt`] | interrupt status and irqfd |
//! | [`block`], [`entropy`], [`vsock`] | the devices |
//! | [`guest_io`] | system calls straight into guest memory |
//!
//! Guest memory is hostile: every structure in it is copied once, the copy is
//! judged and the copy is used; no Rust reference to guest memory exists.

pub mod block;
#[cfg(test)]
mod confined;
pub mod device;
pub mod entropy;
pub mod guest_io;
pub mod interrupt;
pub mod mmio;
pub mod queue;
pub mod state;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod transport;
pub mod vsock;
pub mod worker;

/// Guest memory. Cheap to clone: the mappings are shared.
pub type Mem = vm_memory::GuestMemoryMmap;
