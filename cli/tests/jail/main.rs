//! `casemate jail`, whole: needs root.

mod ends;
#[cfg(feature = "layer-off")]
mod layers;
mod lives;
mod support;
mod view;
