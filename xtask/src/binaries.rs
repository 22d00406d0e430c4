//! Builds the product's static release binaries.

use anyhow::{Context, Result, ensure};
use casemate_testbed::PROGRAMS;
use std::path::Path;
use std::process::Command;

/// Root of the checkout.
pub fn checkout() -> &'static Path {
    // xtask/ lies directly below it.
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
}

/// A `cargo` that works on this checkout.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(checkout());
    command
}

/// Builds the programs; `casemate_testbed` finds them in `target/`.
pub fn build() -> Result<()> {
    let mut command = cargo();
    command.args(["build", "--release", "--quiet"]);
    // Each program has a package of its own name.
    for package in PROGRAMS {
        command.args(["--package", package]);
    }
    let status = command.status().context("cannot start cargo")?;
    ensure!(status.success(), "the release build failed ({status})");
    Ok(())
}
