//! The privileged jailer and the supervisor it leaves behind.

use casemate_jailer::{clock, peer, reap, rights, supervisor};
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage: casemate-jailer supervise             serve one cell; `casemate run` starts this
       casemate-jailer reap [--run-dir DIR]  clear what killed supervisors left
       casemate-jailer --id ID --exec-file FILE --uid UID --gid GID [FLAG...] [-- ARG...]
                                             as Firecracker's jailer; `--id --help` tells more
       casemate-jailer --version";

fn main() -> ExitCode {
    let entered_us = clock::now_us();
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().skip(1).collect();
    if peer::is_meant(&arguments) {
        return peer::run(arguments, peer::Times::now());
    }
    let arguments: Vec<String> = arguments
        .into_iter()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["supervise"] => ExitCode::from(supervisor::supervise(entered_us)),
        ["reap"] => match rights::run_dir() {
            Ok(folder) => reap_all(folder),
            Err(e) => {
                eprintln!("casemate-jailer: {e}");
                ExitCode::from(supervisor::REFUSED)
            }
        },
        ["reap", "--run-dir", dir] => reap_all(PathBuf::from(dir)),
        ["--version"] => {
            println!("casemate-jailer {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        ["--help" | "-h"] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(supervisor::REFUSED)
        }
    }
}

fn reap_all(run_dir: PathBuf) -> ExitCode {
    let cells = reap(&run_dir).map(|cells| {
        for cell in cells {
            println!("cleared {cell}");
        }
    });
    let jails = peer::reap(&run_dir).map(|jails| {
        for jail in jails {
            println!("cleared {}", jail.display());
        }
    });
    let mut status = ExitCode::SUCCESS;
    for line in [
        cells.map_err(|e| e.to_string()),
        jails.map_err(|e| e.line()),
    ] {
        if let Err(line) = line {
            eprintln!("casemate-jailer: {line}");
            status = ExitCode::from(supervisor::REFUSED);
        }
    }
    status
}
