//! The freestanding guest of `tests/guests/tiny`, built on demand.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Path of the guest's ELF image. Built once a process; cargo's own cache makes
/// that cheap when nothing changed.
///
/// # Panics
/// When it does not build: the message is cargo's.
pub fn tiny_guest() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(build)
}

fn build() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the workspace");
    let source = workspace.join("tests/guests/tiny");
    let target = workspace.join("target/guests");
    let output = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["build", "--release", "--quiet", "--target-dir"])
        .arg(&target)
        // Its own .cargo/config.toml is found from there.
        .current_dir(&source)
        // What is set for the tests' own build is not meant for the guest.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "tests/guests/tiny does not build:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    target.join("x86_64-unknown-linux-gnu/release/casemate-tiny")
}
