//! The freestanding guests of `tests/guests`, built on demand.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The guest that does one small thing and ends.
pub fn tiny_guest() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| build("casemate-tiny"))
}

/// The guest that drives every device, properly and then in every wrong way.
pub fn hostile_guest() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| build("casemate-hostile"))
}

/// Path of a guest's ELF image. Built once a process; cargo's own cache makes that
/// cheap when nothing changed.
///
/// # Panics
/// When it does not build: the message is cargo's.
fn build(package: &str) -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the workspace");
    let target = workspace.join("target/guests");
    let output = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["build", "--release", "--quiet", "--package", package])
        .arg("--target-dir")
        .arg(&target)
        // Their own .cargo/config.toml is found from there.
        .current_dir(workspace.join("tests/guests"))
        // What is set for the tests' own build is not meant for the guest.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{package} does not build:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    target
        .join("x86_64-unknown-linux-gnu/release")
        .join(package)
}
