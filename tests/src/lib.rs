//! Harness of the integration tests: starts the real binaries, keeps what they
//! said, and looks for what they left behind.
//!
//! A test of a Linux guest calls [`linux`]: the body runs right here where this
//! machine's KVM can boot Linux, else inside the test-bed. A test of a
//! freestanding guest uses [`cell`] and this machine's own KVM.

pub mod audit;
pub mod cell;
pub mod escape;
pub mod fixture;
mod guests;
pub mod leftovers;
pub mod proc;
pub mod rootless;
pub mod run;

pub use guests::{hostile_guest, tiny_guest};

use std::path::PathBuf;

/// The folder of the release binaries under test.
///
/// # Panics
/// Where they were not built; the message says how.
pub fn bin_dir() -> PathBuf {
    casemate_testbed::programs().unwrap_or_else(|e| panic!("{e}"))
}

/// One of the binaries under test.
pub fn bin(name: &str) -> PathBuf {
    bin_dir().join(name)
}

/// Runs `body` where Linux guests can run: here, or in the test-bed. `test` is the
/// test's full name.
pub fn linux(test: &str, body: impl FnOnce()) {
    casemate_testbed::in_kvm_host(test, &[], body);
}
