//! The completion scripts and the manual page, made from the arguments' definition.

use crate::args::Cli;
use crate::say;
use casemate_proto::status::OWN_FAILURE;
use clap::CommandFactory;
use clap_complete::Shell;
use std::io::{self, Write};
use std::process::ExitCode;

/// Prints the completion script of `shell`.
pub fn completions(shell: Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "casemate", &mut script);
    print(&script)
}

/// Prints the manual page: the command, then each of its subcommands.
pub fn man() -> ExitCode {
    let mut page = Vec::new();
    match render(&mut page) {
        Ok(()) => print(&page),
        Err(e) => failed(&e),
    }
}

fn render(page: &mut Vec<u8>) -> io::Result<()> {
    let mut command = Cli::command();
    command.build();
    clap_mangen::Man::new(command.clone()).render(page)?;
    sections(&command, "casemate", page)
}

fn sections(command: &clap::Command, path: &str, page: &mut Vec<u8>) -> io::Result<()> {
    for sub in command.get_subcommands() {
        let path = format!("{path} {}", sub.get_name());
        writeln!(page, ".SH \"{}\"", path.to_uppercase())?;
        let man = clap_mangen::Man::new(sub.clone());
        man.render_synopsis_section(page)?;
        man.render_description_section(page)?;
        if sub.get_arguments().any(|arg| !arg.is_hide_set()) {
            man.render_options_section(page)?;
        }
        sections(sub, &path, page)?;
    }
    Ok(())
}

fn print(bytes: &[u8]) -> ExitCode {
    match io::stdout().write_all(bytes) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => failed(&e),
    }
}

fn failed(e: &io::Error) -> ExitCode {
    say::line(format!("standard output: {e}"));
    ExitCode::from(OWN_FAILURE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_has_every_command() {
        let mut page = Vec::new();
        render(&mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        for word in ["CASEMATE RUN", "CASEMATE KERNEL IMPORT", "rootfs"] {
            assert!(page.contains(word), "{word}");
        }
    }
}
