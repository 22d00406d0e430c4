//! `casemate policy`: check, explain, compare, compile and propose policies.

pub mod args;
pub mod call;
mod compile;
mod diff;
mod explain;
mod facts;
mod groups;
pub mod load;
mod propose;
mod trace;

use crate::say;
use args::{PolicyArgs, PolicyCommand};
use casemate_policy_compiler::AnyPolicy;
use casemate_proto::status::OWN_FAILURE;
use load::LoadError;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use thiserror::Error;

/// Why a command could not be done.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// No such policy, or a refused one.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Standard output.
    #[error("standard output: {0}")]
    Output(io::Error),
    /// A file that cannot be written.
    #[error("{}: {error}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A policy without a program of its own.
    #[error("policy {0} has no seccomp program of its own, its threads have: compile those")]
    NoProgram(String),
    /// A program with places for own fds.
    #[error("policy {0} is bound to fds that only its thread knows: its program is for that alone")]
    Unbound(String),
    /// The trace.
    #[error(transparent)]
    Trace(#[from] trace::TraceError),
}

/// Does it; the exit status is 0, 125 after one line, or the traced program's.
pub fn main(args: &PolicyArgs) -> ExitCode {
    let done = match &args.command {
        PolicyCommand::Check { files } => check(files),
        PolicyCommand::Explain { policy: None } => list(),
        PolicyCommand::Explain { policy: Some(name) } => load::any(name)
            .map_err(PolicyError::from)
            .and_then(|policy| {
                print(&explain::words(&short(name), &policy)).map(|()| ExitCode::SUCCESS)
            }),
        PolicyCommand::Diff { from, to } => diff(from, to),
        PolicyCommand::Compile { policy, out, json } => compile::run(policy, out.as_deref(), *json),
        PolicyCommand::Trace { base, out, command } => {
            trace::run(base.as_deref(), out.as_deref(), command)
        }
    };
    done.unwrap_or_else(|e| {
        say::line(e.to_string());
        ExitCode::from(OWN_FAILURE)
    })
}

fn check(files: &[PathBuf]) -> Result<ExitCode, PolicyError> {
    let mut status = ExitCode::SUCCESS;
    for file in files {
        let mut path = file.clone();
        if path.components().count() == 1 && path.extension().is_none_or(|e| e != "toml") {
            // A file here and not a shipped policy.
            path = Path::new(".").join(path);
        }
        match load::any(path.as_os_str()) {
            Ok(policy) => {
                let (rules, instructions) = size(&policy);
                print(&format!(
                    "{}: ok, {rules} rules, {instructions} BPF instructions\n",
                    file.display()
                ))?;
            }
            Err(e) => {
                say::line(e.to_string());
                status = ExitCode::from(OWN_FAILURE);
            }
        }
    }
    Ok(status)
}

/// Rules and instructions of all that the policy has.
fn size(policy: &AnyPolicy) -> (usize, usize) {
    match policy {
        AnyPolicy::Rules(rules) => (rules.rules.len(), rules.program.len()),
        AnyPolicy::Whole(whole) => {
            let own = whole.policy.seccomp.as_ref().map_or(0, |f| f.program.len());
            whole
                .threads
                .iter()
                .fold((whole.rules.len(), own), |(rules, all), (_, thread)| {
                    (rules + thread.rules.len(), all + thread.program.len())
                })
        }
    }
}

fn list() -> Result<ExitCode, PolicyError> {
    let mut text = String::new();
    for name in load::names() {
        let source = casemate_policies::jail_source(&format!("{name}.toml"))
            .or_else(|_| casemate_policies::vmm_source(&format!("{name}.toml")))
            .unwrap_or_default();
        _ = writeln!(text, "{name:<9}{}", headline(&source));
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The first sentence of the comment that a policy file begins with.
fn headline(source: &str) -> String {
    let comment: Vec<_> = source
        .lines()
        .map_while(|line| line.strip_prefix('#'))
        .map(str::trim)
        .collect();
    let comment = comment.join(" ");
    match comment.find(". ") {
        Some(end) => comment[..=end].to_owned(),
        None => comment,
    }
}

fn diff(from: &OsStr, to: &OsStr) -> Result<ExitCode, PolicyError> {
    let (a, b) = (load::any(from)?, load::any(to)?);
    print(&diff::words(&short(from), &a, &short(to), &b))?;
    Ok(ExitCode::SUCCESS)
}

/// What a policy is called in sentences.
fn short(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}

fn print(text: &str) -> Result<(), PolicyError> {
    match io::stdout().write_all(text.as_bytes()) {
        // `casemate policy explain default | head`
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(PolicyError::Output),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_policy_says_what_it_is() {
        for name in load::names() {
            let file = format!("{name}.toml");
            let source = casemate_policies::jail_source(&file)
                .or_else(|_| casemate_policies::vmm_source(&file))
                .unwrap();
            assert!(
                headline(&source).len() > 20,
                "{name}: {}",
                headline(&source)
            );
        }
    }
}
