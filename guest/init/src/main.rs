//! The init that runs inside the guest. See the library for what it does.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!(
            "casemate-init: this is the init of a Casemate guest and does nothing elsewhere; use `casemate run`"
        );
        return ExitCode::from(125);
    }
    casemate_init::pid1()
}
