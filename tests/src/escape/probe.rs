//! The program that makes the attempts, built on demand.

use casemate_testbed::Way;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where it lies in the test-bed.
pub const IN_BED: &str = "/usr/local/bin/escape";

/// Its path: in the test-bed [`IN_BED`], else `$CASEMATE_ESCAPE`, else a release build of this checkout's.
///
/// # Panics
/// When it does not build: the message is cargo's.
pub fn probe() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    if Way::detect() == Way::InsideBed {
        return Path::new(IN_BED);
    }
    PROGRAM.get_or_init(|| match std::env::var_os("CASEMATE_ESCAPE") {
        Some(given) => given.into(),
        None => build(),
    })
}

fn build() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the workspace");
    let target = workspace.join("target");
    let built = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["build", "--release", "--quiet", "-p", "casemate-escape"])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(workspace)
        .status()
        .expect("cargo runs");
    assert!(built.success(), "tests/escapes does not build");
    target.join("x86_64-unknown-linux-gnu/release/escape")
}
