//! A driver for each device: what a proper guest does, and the raw access with
//! which an attack does something else.
//!
//! | file | drives |
//! |---|---|
//! | `mmio.rs` | the registers of a virtio-mmio device, its status and its queues |
//! | `queue.rs` | a split virtqueue |
//! | `block.rs`, `entropy.rs`, `vsock.rs` | the devices |

pub mod block;
pub mod entropy;
pub mod mmio;
pub mod queue;
pub mod vsock;
