//! Layers that a test leaves out, so that it can be seen that their absence is seen.
//!
//! Only with the feature `layer-off`, which only tests build: without it nothing
//! is ever left out and the program's arguments are not looked at.

use casemate_policies::{Filter, InstallError};
use casemate_proto::cell::Layer;

/// Whether to leave `layer` out: named in `--leave-out=LAYER,…`, the first argument.
#[cfg(feature = "layer-off")]
pub fn left_out(layer: Layer) -> bool {
    std::env::args().nth(1).is_some_and(|argument| {
        argument
            .strip_prefix("--leave-out=")
            .is_some_and(|layers| layers.split(',').any(|name| name == layer.name()))
    })
}

/// Nothing is left out.
#[cfg(not(feature = "layer-off"))]
pub const fn left_out(_: Layer) -> bool {
    false
}

/// Puts the calling thread under its filter.
///
/// # Errors
/// Where the kernel or the filter's own fds refuse: the thread must not go on.
pub fn install(filter: Filter) -> Result<(), InstallError> {
    if left_out(Layer::Seccomp) {
        return Ok(());
    }
    filter.install()
}
