//! `casemate`, the command line. See `docs/cli.md`.

mod startup;

fn main() -> std::process::ExitCode {
    casemate_cli::main(&startup::seen())
}
