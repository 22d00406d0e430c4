//! `casemate jail`, whole: needs root.

mod ends;
mod inspected;
#[cfg(feature = "layer-off")]
mod layers;
mod lives;
mod policies;
mod support;
mod view;
