//! `escape list` names the attempts. `escape NAME BAIT` makes one. `escape victim TOKEN` is
//! a process for others to attack. `escape show-rights` says what an exec gave it.

use casemate_escape::{Bait, Report, attempts, find, victim};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["list"] => {
            for (group, members) in attempts::GROUPS {
                for attempt in *members {
                    println!("{}\t{group}\t{}", attempt.name, attempt.what);
                }
            }
            ExitCode::SUCCESS
        }
        ["victim", token] => victim::run(token),
        ["show-rights"] => attempts::show_rights(),
        // Some launchers put words of their own first.
        [.., name, bait] => attempt(name, bait),
        _ => usage("usage: escape list | escape NAME BAIT | escape victim TOKEN"),
    }
}

fn attempt(name: &str, bait: &str) -> ExitCode {
    let Some(attempt) = find(name) else {
        return usage(&format!("escape: no attempt is called {name}"));
    };
    let bait: Bait = match serde_json::from_str(bait) {
        Ok(bait) => bait,
        Err(e) => return usage(&format!("escape: the bait cannot be read: {e}")),
    };
    let report = Report::of(name, (attempt.go)(&bait));
    match serde_json::to_string(&report) {
        Ok(line) => println!("{line}"),
        Err(e) => return usage(&format!("escape: {e}")),
    }
    ExitCode::SUCCESS
}

fn usage(text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::from(2)
}
