//! The privileged jailer and the supervisor it leaves behind.
//!
//! `docs/jailer.md` tells the whole: the processes, the layers in their order with the
//! reason for each, and what is left by whom after a kill -9. The CLI uses [`client`] and
//! [`reap`].

pub mod cell;
pub mod cgroup;
pub mod channel;
pub mod child;
pub mod client;
pub mod clock;
pub mod idmap;
pub mod inspect;
pub mod jail;
pub mod layers;
pub mod own;
pub mod peer;
pub mod plan;
pub mod process;
pub mod read;
pub mod readback;
pub mod record;
pub mod refusal;
pub mod resolve;
pub mod rights;
pub mod start;
pub mod state;
pub mod supervisor;
pub mod vm;

pub use state::{Reaped, reap};

/// Where cells are kept unless told otherwise.
pub const RUN_DIR: &str = "/run/casemate";
