//! Tests that cannot run on this machine say so, and are counted.

use std::fs::OpenOptions;
use std::io::Write;

/// Starts the line that tells of a skipped test.
const MARK: &str = "SKIPPED ";

/// Tells that `test` does not run here and why. The test then returns.
///
/// `cargo xtask test` lists the line, and fails unless `tests/expected-skips.txt`
/// has the test's name.
pub fn skip(test: &str, reason: &str) {
    let line = format!("{MARK}{test}: {reason}");
    println!("{line}");
    record(&line);
}

/// Records the skips among the lines that a test in the bed printed.
pub(crate) fn record_all(stdout: &str) {
    stdout
        .lines()
        .filter(|l| l.starts_with(MARK))
        .for_each(record);
}

fn record(line: &str) {
    let Some(path) = std::env::var_os("CASEMATE_SKIP_LOG") else {
        return;
    };
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut log| writeln!(log, "{}", &line[MARK.len()..]));
    if let Err(e) = written {
        panic!("cannot record a skipped test in {}: {e}", path.display());
    }
}
