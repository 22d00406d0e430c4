//! `cargo xtask test`: every check and test of the project, counted.

use crate::binaries::{self, cargo, checkout};
use crate::deny;
use anyhow::{Context, Result};
use casemate_testbed::{Assets, Bed, Cache, Way, install_missing, programs};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// Names of tests that may be skipped, one a line.
const EXPECTED_SKIPS: &str = "tests/expected-skips.txt";

/// Arguments of `test`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Run only tests whose name contains this, and none of the other checks
    filter: Option<String>,
}

/// Totals so far.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    /// Tests that the test runner itself left out (`#[ignore]`).
    ignored: u64,
}

/// Runs everything; fails when anything failed or was skipped without being expected to.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let start = Instant::now();
    let mut tally = Tally::default();
    if arguments.filter.is_none() {
        check(
            &mut tally,
            "formatting",
            cargo().args(["fmt", "--all", "--check"]),
        );
        check(
            &mut tally,
            "clippy",
            cargo().args([
                "clippy",
                "--workspace",
                "--all-targets",
                "--quiet",
                "--",
                "-D",
                "warnings",
            ]),
        );
        match deny::command() {
            Ok(mut command) => check(
                &mut tally,
                "dependencies (bans, licenses, sources)",
                &mut command,
            ),
            Err(error) => fail(&mut tally, "dependencies", &error),
        }
    }
    println!("test: building the release programs, the test-bed and its guests");
    install_missing()?;
    binaries::build()?;
    Bed::prepare()?;
    Assets::get(&Cache::open()?)?;
    println!("test: tests that need a Linux guest run {}", Way::detect());

    let log = tempfile::NamedTempFile::new().context("cannot create the log of skipped tests")?;
    run_tests(&mut tally, arguments.filter.as_deref(), log.path())?;
    let unexpected = report_skips(log.path(), tally.ignored)?;
    tally.failed += unexpected;
    println!("test: took {:.0} s", start.elapsed().as_secs_f64());
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(ExitCode::from(u8::from(tally.failed > 0)))
}

fn check(tally: &mut Tally, what: &str, command: &mut Command) {
    println!("test: {what}");
    match command.status() {
        Ok(status) if status.success() => tally.passed += 1,
        Ok(status) => fail(tally, what, &anyhow::anyhow!("{status}")),
        Err(error) => fail(tally, what, &error.into()),
    }
}

fn fail(tally: &mut Tally, what: &str, error: &anyhow::Error) {
    tally.failed += 1;
    println!("test: FAILED: {what}: {error:#}");
}

/// Tests of all crates, with cargo-nextest where it is installed.
fn run_tests(tally: &mut Tally, filter: Option<&str>, skip_log: &Path) -> Result<()> {
    let nextest = cargo()
        .args(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let mut command = cargo();
    if nextest {
        command.args([
            "nextest",
            "run",
            "--workspace",
            "--no-fail-fast",
            "--color=never",
        ]);
        command.args(["--no-tests=pass", "--hide-progress-bar"]);
    } else {
        command.args(["test", "--workspace", "--no-fail-fast", "--all-targets"]);
    }
    command.args(filter);
    counted(tally, "tests", command, skip_log)?;
    // What a jail is without one of its layers only a jailer built for it can show.
    let mut command = cargo();
    match nextest {
        true => command.args(["nextest", "run", "--color=never", "--hide-progress-bar"]),
        false => command.arg("test"),
    };
    command.args(["--package", "casemate-jailer", "--package", "casemate"]);
    command.args(["--features", "layer-off"]);
    command.args(["--no-fail-fast"]).args(filter);
    if nextest {
        command.arg("--no-tests=pass");
    }
    counted(
        tally,
        "tests of the jailer with layers left out",
        command,
        skip_log,
    )?;
    // That an attack is noticed only a VMM without the check against it can show.
    let mut command = cargo();
    match nextest {
        true => command.args(["nextest", "run", "--color=never", "--hide-progress-bar"]),
        false => command.arg("test"),
    };
    command.args(["--package", "casemate-vmm", "--test", "vm"]);
    command.args(["--features", "mutation", "--no-fail-fast"]);
    if nextest {
        command.arg("--no-tests=pass");
    }
    command.arg(filter.unwrap_or("hostile::mutations"));
    counted(tally, "tests of the VMM with checks off", command, skip_log)?;
    let mut command = cargo();
    command
        .args(["test", "--workspace", "--doc", "--quiet"])
        .args(filter);
    counted(tally, "examples in the documentation", command, skip_log)
}

/// Runs a test runner, shows what it says, and adds its totals.
fn counted(tally: &mut Tally, what: &str, mut command: Command, skip_log: &Path) -> Result<()> {
    println!("test: {what}");
    // Both runners' totals are on one stream each; the shell joins them in order.
    let output = command
        .env("CASEMATE_SKIP_LOG", skip_log)
        .env("CASEMATE_PROGRAMS", programs()?)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .and_then(tee)
        .with_context(|| format!("cannot run the {what}"))?;
    let (status, text) = output;
    let before = tally.failed;
    for line in text.lines() {
        add_totals(tally, line);
    }
    if !status.success() && tally.failed == before {
        // It did not get as far as running tests: a compile error, most likely.
        fail(tally, what, &anyhow::anyhow!("{status}"));
    }
    Ok(())
}

/// Passes both streams of a child on, and returns them joined.
fn tee(mut child: std::process::Child) -> std::io::Result<(std::process::ExitStatus, String)> {
    use std::io::{BufRead, BufReader, Read};
    fn pass(stream: Option<impl Read>) -> String {
        let mut kept = String::new();
        let Some(stream) = stream else { return kept };
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            kept.push_str(&line);
            kept.push('\n');
        }
        kept
    }
    let stderr = child.stderr.take();
    let other = std::thread::spawn(move || pass(stderr));
    let mut text = pass(child.stdout.take());
    text.push_str(&other.join().unwrap_or_default());
    Ok((child.wait()?, text))
}

/// Adds a totals line of either runner:
/// `test result: ok. 3 passed; 0 failed; 1 ignored; …` (libtest),
/// `Summary [ 1.2s] 4 tests run: 3 passed (1 slow), 1 failed, 2 skipped` (nextest).
fn add_totals(tally: &mut Tally, line: &str) {
    // An indented "test result" is nextest showing what a failed test printed.
    let totals = if let Some(rest) = line.strip_prefix("test result: ") {
        rest
    } else if line.trim_start().starts_with("Summary [")
        && let Some((_, rest)) = line.split_once(" run: ")
    {
        rest
    } else {
        return;
    };
    for part in totals.split([',', ';', '.']) {
        let mut words = part.split_whitespace();
        let (Some(count), Some(word)) = (
            words.next().and_then(|w| w.parse::<u64>().ok()),
            words.next(),
        ) else {
            continue;
        };
        match word {
            "passed" => tally.passed += count,
            "failed" | "timed" | "exec" => tally.failed += count,
            "ignored" => tally.ignored += count,
            _ => {}
        }
    }
}

/// Lists the skips and returns how many of them nobody expected.
fn report_skips(log: &Path, ignored: u64) -> Result<u64> {
    let file = checkout().join(EXPECTED_SKIPS);
    let expected =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let expected: BTreeSet<&str> = expected
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|name| !name.is_empty())
        .collect();
    let log = fs::read_to_string(log).context("cannot read the log of skipped tests")?;
    let skipped: BTreeSet<&str> = log.lines().collect();
    let mut unexpected = ignored;
    if ignored > 0 {
        println!("test: {ignored} tests are marked #[ignore]: that is not allowed");
    }
    for line in &skipped {
        let name = line.split(": ").next().unwrap_or(line);
        if expected.contains(name) {
            println!("test: skipped as expected: {line}");
        } else {
            unexpected += 1;
            println!("test: skipped, and NOT EXPECTED in {EXPECTED_SKIPS}: {line}");
        }
    }
    if skipped.is_empty() && ignored == 0 {
        println!("test: nothing was skipped");
    }
    Ok(unexpected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(line: &str) -> Tally {
        let mut tally = Tally::default();
        add_totals(&mut tally, line);
        tally
    }

    #[test]
    fn totals_of_both_runners_are_read() {
        let want = |passed, failed, ignored| Tally {
            passed,
            failed,
            ignored,
        };
        assert_eq!(
            totals(
                "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 9 filtered out; finished in 0.00s"
            ),
            want(3, 2, 1)
        );
        assert_eq!(
            totals(
                "     Summary [  11.884s] 13/21 tests run: 12 passed (2 slow), 1 failed, 4 skipped"
            ),
            want(12, 1, 0)
        );
        assert_eq!(
            totals("     Summary [ 1.0s] 5 tests run: 3 passed, 1 failed, 1 timed out, 0 skipped"),
            want(3, 2, 0)
        );
        assert_eq!(totals("7 passed, 3 failed"), want(0, 0, 0));
        assert_eq!(
            totals("    test result: FAILED. 0 passed; 1 failed;"),
            want(0, 0, 0)
        );
    }
}
