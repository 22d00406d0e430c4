//! What is kept under the run directory, so that nothing outlives a cell.
//!
//! ```text
//! /run/casemate/               0700, root's; an ordinary user's is elsewhere, and its own
//!   TENANT/ID/lock             held with flock(2) by the supervisor, as long as it lives
//!   TENANT/ID/journal          what to undo should the supervisor be killed
//!   _slots/N                   held with flock(2): the ids number N are taken; none where
//!                              an ordinary user has but its own
//! ```
//! A lock goes with its process, whatever kills that. So a cell directory whose lock is
//! free belongs to nobody, and the next to lock it (a start of the same id, or
//! [`reap()`]) undoes what its journal says. `_` cannot be in a tenant's name.

mod cell_dir;
mod journal;
mod lock;
mod reap;
mod slot;

pub use casemate_beneath::Dir as RunDir;
pub use cell_dir::CellDir;
pub use journal::{CgroupRecord, Declared, Journal, ProcessRecord};
pub use lock::{Attempt, attempt};
pub use reap::{Reaped, clear, reap};
pub use slot::{Identity, Slot, SlotIds};

use casemate_beneath::DirError;
use std::path::PathBuf;
use thiserror::Error;

/// What can be wrong with the run directory.
#[derive(Debug, Error)]
pub enum StateError {
    /// A folder or file of it.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// The lock is held.
    #[error("cell {id} of tenant {tenant} is running: stop it first, or choose another --id")]
    Running {
        /// Tenant.
        tenant: String,
        /// Cell.
        id: String,
    },
    /// Directories vanish as fast as they are made.
    #[error("{path} is removed again and again while it is locked: find out who does so", path = path.display())]
    Unsteady {
        /// Which.
        path: PathBuf,
    },
    /// As many cells as there are ids.
    #[error("all {0} user ids for cells are taken: stop some cells")]
    NoSlot(u32),
    /// A journal that does not decode.
    #[error("{path} is no journal of ours ({source}): look at it, then remove it", path = path.display())]
    Journal {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// What a killed cell left cannot be removed.
    #[error("cannot clear what the killed cell {id} of tenant {tenant} left: {source}")]
    Leftover {
        /// Tenant.
        tenant: String,
        /// Cell.
        id: String,
        /// Why.
        source: crate::cgroup::CgroupError,
    },
}
