//! `casemate jail`, whole: needs root.

mod ends;
#[cfg(feature = "layer-off")]
mod layers;
mod lives;
mod policies;
mod support;
mod view;
