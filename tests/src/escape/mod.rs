//! Escape attempts (`tests/escapes`) against a jail, any jail: what they are after, a
//! launcher as careless as can be, and what came of each.

mod launch;
mod listeners;
mod probe;
mod stage;

pub use launch::{Launcher, Verdict, Words, attempt};
pub use probe::probe;
pub use stage::Stage;
