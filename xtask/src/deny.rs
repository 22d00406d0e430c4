//! cargo-deny: which dependencies, licenses and sources are allowed (`deny.toml`).

use crate::binaries::{cargo, checkout};
use anyhow::{Context, Result, ensure};
use casemate_testbed::Cache;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The check, ready to run. Installs cargo-deny into the cache folder when it is missing.
///
/// Advisories are not asked for: their database comes over the network, and a test that
/// fails on a day when nothing changed here teaches people to ignore it.
pub fn command() -> Result<Command> {
    let mut command = Command::new(find_or_install()?);
    command.current_dir(checkout());
    command.args(["--workspace", "check", "--hide-inclusion-graph"]);
    command.args(["bans", "licenses", "sources"]);
    Ok(command)
}

fn find_or_install() -> Result<PathBuf> {
    let installed = Command::new("cargo-deny")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if installed.is_ok_and(|status| status.success()) {
        return Ok("cargo-deny".into());
    }
    let root = Cache::open()?.root().join("tools");
    let program = root.join("bin/cargo-deny");
    if !program.is_file() {
        println!(
            "test: installing cargo-deny into {}, some minutes, once",
            root.display()
        );
        let status = cargo()
            // Outside the checkout: its settings are for our own programs.
            .current_dir("/")
            .args(["install", "--quiet", "--locked", "--root"])
            .arg(&root)
            .arg("cargo-deny")
            .status()
            .context("cannot start cargo")?;
        ensure!(
            status.success(),
            "cargo install cargo-deny failed ({status})"
        );
    }
    Ok(program)
}
