//! Clearing what killed supervisors left, which is the jailer's business.

use crate::args::ReapArgs;
use crate::{binaries, say};
use casemate_proto::status::OWN_FAILURE;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// `casemate reap`: the jailer says on standard output what it cleared.
pub fn main(args: &ReapArgs) -> ExitCode {
    let cleared = args
        .run_dir
        .folder()
        .map_err(io::Error::other)
        .and_then(|folder| {
            let jailer = binaries::find("casemate-jailer").map_err(io::Error::other)?;
            reap(&jailer, &folder, Stdio::inherit())
        });
    match cleared {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            say::line(e.to_string());
            ExitCode::from(OWN_FAILURE)
        }
    }
}

/// After the death of a supervisor. What cannot be cleared now is said, and
/// cleared by the next start of the same id.
pub fn after_a_death(jailer: &Path, run_dir: &Path) {
    if let Err(e) = reap(jailer, run_dir, Stdio::null()) {
        say::line(format!("{e}; run `casemate reap`"));
    }
}

fn reap(jailer: &Path, run_dir: &Path, stdout: Stdio) -> io::Result<()> {
    let status = Command::new(jailer)
        .arg("reap")
        .arg("--run-dir")
        .arg(run_dir)
        .stdin(Stdio::null())
        .stdout(stdout)
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "what a killed supervisor left in {} was not cleared ({status})",
            run_dir.display()
        )))
    }
}
