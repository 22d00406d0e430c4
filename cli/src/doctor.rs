//! `casemate doctor`.

mod rootless;

use crate::args::DoctorArgs;
use crate::binaries::Binaries;
use crate::say;
use casemate_preflight::{Check, Status};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

#[derive(Serialize)]
struct Diagnosis<'a> {
    casemate: &'a str,
    can_run: bool,
    can_jail: bool,
    checks: &'a [Check],
}

/// Prints every check; exit status 0 if a run can work, 1 if not.
pub fn main(args: &DoctorArgs) -> ExitCode {
    let mut preflight = casemate_preflight::everything();
    preflight.checks.extend(rootless::checks());
    preflight.checks.push(match Binaries::find() {
        Ok(found) => Check::ok(
            "binaries",
            found
                .vmm
                .parent()
                .unwrap_or(&found.vmm)
                .display()
                .to_string(),
            "jailer, VMM and init are there",
        ),
        Err(e) => Check::fail(
            "binaries",
            e.to_string(),
            "no cell can be started",
            "install them",
        ),
    });
    let can_run = preflight.can_run();
    let can_jail = rootless::can_jail(&preflight.checks);
    let text = if args.json {
        let diagnosis = Diagnosis {
            casemate: env!("CARGO_PKG_VERSION"),
            can_run,
            can_jail,
            checks: &preflight.checks,
        };
        match serde_json::to_string_pretty(&diagnosis) {
            Ok(json) => json + "\n",
            Err(e) => {
                say::line(format!("cannot write JSON: {e}"));
                return ExitCode::FAILURE;
            }
        }
    } else {
        table(&preflight.checks, can_run, can_jail)
    };
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) if can_run => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(e) => {
            say::line(format!("standard output: {e}"));
            ExitCode::FAILURE
        }
    }
}

fn table(checks: &[Check], can_run: bool, can_jail: bool) -> String {
    let mut text = format!("casemate {}\n", env!("CARGO_PKG_VERSION"));
    for check in checks {
        let mark = match check.status {
            Status::Ok => "ok  ",
            Status::Warn => "warn",
            Status::Fail => "FAIL",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{mark}  {:<16} {}: {}",
            check.name, check.found, check.consequence
        );
        if let Some(remedy) = &check.remedy {
            let _ = writeln!(text, "      {:<16} -> {remedy}", "");
        }
        if check.status == Status::Fail && !check.missing.is_empty() {
            let flags: Vec<_> = check
                .missing
                .iter()
                .map(|layer| format!("--allow-missing {layer}"))
                .collect();
            let _ = writeln!(
                text,
                "      {:<16} -> or accept it: casemate run {}",
                "",
                flags.join(" ")
            );
        }
    }
    text.push_str(if can_run {
        "casemate run can work on this host.\n"
    } else {
        "casemate run cannot work on this host as it is: mend what is marked FAIL.\n"
    });
    text.push_str(if can_jail {
        "casemate jail can work on this host.\n"
    } else {
        "casemate jail cannot work on this host as it is.\n"
    });
    text
}
