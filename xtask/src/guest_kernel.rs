//! `cargo xtask guest-kernel`: the lean kernel.

use anyhow::Result;
use casemate_testbed::{Cache, LeanKernel, install_missing};
use std::process::ExitCode;

/// Builds the kernel, or finds it built, and prints where it is.
pub fn main() -> Result<ExitCode> {
    install_missing()?;
    let kernel = LeanKernel::get(&Cache::open()?)?;
    println!("{}", kernel.vmlinux.display());
    println!("{}", kernel.bzimage.display());
    println!("{}", kernel.config.display());
    Ok(ExitCode::SUCCESS)
}
