//! The privileged jailer and the supervisor it leaves behind.

use casemate_jailer::{RUN_DIR, clock, reap, supervisor};
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage: casemate-jailer supervise             serve one cell; `casemate run` starts this
       casemate-jailer reap [--run-dir DIR]  clear what killed supervisors left
       casemate-jailer --version";

fn main() -> ExitCode {
    let entered_us = clock::now_us();
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["supervise"] => ExitCode::from(supervisor::supervise(entered_us)),
        ["reap"] => reap_all(PathBuf::from(RUN_DIR)),
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
    match reap(&run_dir) {
        Ok(reaped) => {
            for cell in reaped {
                println!("cleared {cell}");
            }
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("casemate-jailer: {e}");
            ExitCode::from(supervisor::REFUSED)
        }
    }
}
