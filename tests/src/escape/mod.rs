//! Escape attempts (`tests/escapes`) against a jail, any jail: what they are after, a
//! launcher as careless as can be, and what came of each.

mod casemate;
mod launch;
mod listeners;
mod probe;
mod stage;
mod table;

pub use casemate::{Casemate, needs};
pub use launch::{Launcher, Verdict, Words, attempt};
pub use probe::{IN_BED, probe};
pub use stage::Stage;
pub use table::{NOT_ON_EVERY_HOST, Row, TABLE};

/// A `casemate` that knows how to leave layers out.
pub fn casemate_with_layers_off() -> std::path::PathBuf {
    crate::cell::layer_off_bins().join("casemate")
}
