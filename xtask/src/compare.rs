//! `cargo xtask compare`: the same escape attempts under Casemate's jail and under others.
//!
//! Others are used where they are installed, or named by `--peer NAME=PATH`; none is needed.
//! They are started as their own manuals suggest for a program that nobody trusts.

mod peers;
mod speed;

use crate::binaries::{self, checkout};
use anyhow::{Context, Result};
use casemate_testbed::programs;
use casemate_tests::escape::{Casemate, Launcher, Stage, Verdict, Words, attempt};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where the table goes.
const DOCUMENT: &str = "docs/comparison.md";

/// Arguments of `compare`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Use this program for a peer: bwrap, nsjail, runc, firejail, or Firecracker's
    /// jailer (may be repeated)
    #[arg(long, value_name = "NAME=PATH", value_parser = peer)]
    peer: Vec<(String, PathBuf)>,

    /// Time a static `true` from start to exit instead, with hyperfine
    #[arg(long)]
    speed: bool,
}

fn peer(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("is not NAME=PATH")?;
    match peers::NAMES.contains(&name) {
        true => Ok((name.to_owned(), path.into())),
        false => Err(format!(
            "there is no peer {name}: {}",
            peers::NAMES.join(", ")
        )),
    }
}

/// One jail in the table.
pub struct Contestant {
    /// Its column's title.
    title: String,
    /// Its version, in its own words.
    version: String,
    /// How it is started.
    launcher: Box<dyn Launcher>,
}

/// Makes every attempt under every jail, prints the table and writes `docs/comparison.md`.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    if std::env::var_os("CASEMATE_PROGRAMS").is_none() {
        binaries::build()?;
    }
    let given: BTreeMap<String, PathBuf> = arguments.peer.iter().cloned().collect();
    if arguments.speed {
        return speed::main(&given);
    }
    let stage = Stage::new(None);
    let casemate = programs()?.join("casemate");
    let version = peers::version(&casemate, "--version");
    let mut all = vec![Contestant {
        title: "no jail".to_owned(),
        version: "root, no jail".to_owned(),
        launcher: Box::new(Words::default()),
    }];
    all.extend(peers::present(&stage, &given));
    for policy in ["network", "default", "strict"] {
        let jail = Casemate::new(&casemate, policy, &stage).options(&["--proc"]);
        all.push(Contestant {
            title: format!("casemate {policy}"),
            version: version.clone(),
            launcher: Box::new(jail),
        });
    }
    all.retain(|jail| runs(&stage, jail));
    let text = table(&stage, &all);
    print!("{text}");
    let document = checkout().join(DOCUMENT);
    std::fs::write(&document, text)
        .with_context(|| format!("cannot write {}", document.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn table(stage: &Stage, all: &[Contestant]) -> String {
    let mut rows = String::new();
    let mut out = vec![0; all.len()];
    let mut tried = 0;
    for (group, attempts) in casemate_escape::attempts::GROUPS {
        let _ = writeln!(rows, "\n## {group}\n\n{}", head(all));
        for one in *attempts {
            let bare = attempt(stage, &*all[0].launcher, one.name);
            let nobody = Words {
                words: Vec::new(),
                user: Some(65534),
            };
            if !bare.worked() && !attempt(stage, &nobody, one.name).worked() {
                continue;
            }
            tried += 1;
            let _ = write!(rows, "| {} |", one.what);
            for (n, jail) in all.iter().enumerate() {
                let verdict = attempt(stage, &*jail.launcher, one.name);
                out[n] += usize::from(verdict.worked());
                let _ = write!(rows, " {} |", word(&verdict));
            }
            rows.push('\n');
        }
    }
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let day = peers::output("date", &["-u", "+%F"]);
    let mut text = format!(
        "# Comparison\n\nMeasured by `cargo xtask compare` in one run: {day}, Linux {}. Each attempt of\n\
         `tests/escapes` is made under each jail; those that do not work without a jail either\n\
         are left out. Every jail shares one folder read-only and one to be written, is started\n\
         by a launcher that leaks all it has (fds, a key, environment, working directory), and\n\
         has a `/proc`. **out**: it got what it was after. held: it was refused. killed: for\n\
         trying. What counts is what a jail was asked to keep: sharing the host's network is\n\
         the purpose of casemate's `network`, and bubblewrap is a tool to build jails with.\n\
         Firecracker's jailer, and ours by its command line, run a copy of the program and share\n\
         nothing; the peer's is started without the variable whose name is no UTF-8, on which\n\
         it panics.\n\n\
         | jail | version | attempts that got out, of {tried} |\n|---|---|---|\n",
        kernel.trim()
    );
    for (jail, out) in all.iter().zip(out) {
        let _ = writeln!(text, "| {} | {} | {out} |", jail.title, jail.version);
    }
    text.push_str("\nStarted so, `PROGRAM` being the attempt (`RO` and `RW` are the shared folders):\n\n```text\n");
    let bait = stage.bait();
    for jail in all {
        let words = jail.launcher.command(&["PROGRAM".into()]);
        let line = shown(&words);
        let line = line.replace(&*bait.ro.to_string_lossy(), "RO");
        let _ = writeln!(
            text,
            "{}: {}",
            jail.title,
            line.replace(&*bait.rw.to_string_lossy(), "RW")
        );
    }
    text.push_str("```\n");
    text + &rows
}

/// Whether a jail, so started, runs our program at all: else its column would be empty, and
/// look like the best.
fn runs(stage: &Stage, jail: &Contestant) -> bool {
    match attempt(stage, &*jail.launcher, "capabilities-held") {
        Verdict::Broken(why) => {
            eprintln!("compare: {} is left out: {}", jail.title, why.trim());
            false
        }
        Verdict::Killed(how) => {
            eprintln!("compare: {} is left out: it ends by {how}", jail.title);
            false
        }
        _ => true,
    }
}

/// A command line without what is this run's own: where programs lie, temporary folders.
fn shown(words: &[OsString]) -> String {
    let mut line = Vec::new();
    let mut words = words.iter().map(|word| word.to_string_lossy());
    let first = words.next().unwrap_or_default();
    line.push(first.rsplit('/').next().unwrap_or_default().to_owned());
    let temporary = std::env::temp_dir();
    while let Some(word) = words.next() {
        match &*word {
            "--run-dir" | "--tenant" => drop(words.next()),
            other if Path::new(other).starts_with(&temporary) && other.contains(".tmp") => {
                line.push("DIR".to_owned());
            }
            // A name that is no UTF-8.
            other if other.contains(char::REPLACEMENT_CHARACTER) => line.push("NAME".to_owned()),
            // A program behind another: where it lies is this run's.
            other if Path::new(other).is_absolute() && Path::new(other).is_file() => {
                line.push(other.rsplit('/').next().unwrap_or_default().to_owned());
            }
            other => line.push(other.to_owned()),
        }
    }
    line.join(" ")
}

fn head(all: &[Contestant]) -> String {
    let titles: Vec<&str> = all.iter().map(|jail| jail.title.as_str()).collect();
    format!(
        "| attempt | {} |\n|---|{}",
        titles.join(" | "),
        "---|".repeat(all.len())
    )
}

fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Worked(_) => "**out**",
        Verdict::Refused(_) => "held",
        Verdict::Killed(_) => "killed",
        Verdict::Absent(_) => "–",
        Verdict::Broken(_) => "did not run",
    }
}
