//! Runs host tools, quietly, and keeps their last words for the error.

use crate::error::{BedError, Result};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Lines of a tool's output that an error quotes.
const TAIL: usize = 15;

/// Runs `command` to its end without its output; an error quotes its last lines.
pub fn run(what: &str, command: &mut Command) -> Result<()> {
    output(what, command).map(drop)
}

/// Like [`run`], and returns what the tool wrote to standard output.
pub fn output(what: &str, command: &mut Command) -> Result<String> {
    let failed = |detail: String| BedError::Tool {
        what: what.to_owned(),
        detail,
    };
    let program = command.get_program().to_string_lossy().into_owned();
    let done = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| failed(format!("cannot start {program}: {e}")))?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    if done.status.success() {
        return Ok(text);
    }
    let all = format!("{text}{}", String::from_utf8_lossy(&done.stderr));
    Err(failed(format!(
        "{program}: {}\n{}",
        done.status,
        tail(&all, TAIL)
    )))
}

/// The last `count` lines of `text`.
pub fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Says on standard error that a long step starts, runs it, and says how long it took.
pub fn step<T>(what: &str, body: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("testbed: {what} …");
    let start = Instant::now();
    let value = body()?;
    eprintln!(
        "testbed: {what}: done in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_quotes_the_tool() {
        let e = run(
            "a step",
            Command::new("sh").args(["-c", "echo why >&2; exit 3"]),
        )
        .unwrap_err();
        let text = e.to_string();
        assert!(
            text.contains("a step") && text.contains("why") && text.contains('3'),
            "{text}"
        );
    }

    #[test]
    fn tail_keeps_the_last_lines() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 2), "a");
    }
}
