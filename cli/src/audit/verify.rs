//! `casemate audit verify`.

use super::args::VerifyArgs;
use casemate_audit::verify::{Evidence, Finding, Options, Verdict, verify};
use casemate_audit::{Head, PUBLIC, PublicKey, SLOT, Slot, key_folder};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

pub fn main(args: &VerifyArgs) -> Result<ExitCode, String> {
    let dir = args.log.folder()?;
    let key = key(args, &dir)?;
    let options = Options {
        from_any: args.from_any,
        known_gaps: args.known_gap.iter().copied().collect(),
        earlier: args
            .earlier
            .iter()
            .map(|path| earlier(path, &key))
            .collect::<Result<_, _>>()?,
    };
    let evidence = Evidence::of_folder(&dir).map_err(|e| e.to_string())?;
    let verdict = verify(evidence, &key, &options)
        .map_err(|e| format!("reading the audit log in {}: {e}", dir.display()))?;
    let text = match args.json {
        true => json(&verdict, &key),
        false => report(&verdict, &dir, &key),
    };
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|e| format!("standard output: {e}"))?;
    Ok(ExitCode::from(u8::from(!verdict.is_whole())))
}

/// The key as it was given: digits, or a file with them.
fn key(args: &VerifyArgs, dir: &Path) -> Result<PublicKey, String> {
    let beside = key_folder(dir).join(PUBLIC);
    let path = match &args.key {
        Some(given) => match given.parse() {
            Ok(key) => return Ok(key),
            Err(_) => Path::new(given),
        },
        None => &beside,
    };
    let text = fs::read_to_string(path).map_err(|e| {
        format!(
            "{}: {e}; give the log's public key with --key",
            path.display()
        )
    })?;
    text.parse().map_err(|e| {
        format!(
            "{}: {e}; give the log's public key with --key",
            path.display()
        )
    })
}

/// The commitment of a head that was put aside.
fn earlier(path: &Path, key: &PublicKey) -> Result<Head, String> {
    let bad = |e: &dyn std::fmt::Display| {
        format!("{}: {e}; give a copy of a log's `head`", path.display())
    };
    let bytes = fs::read(path).map_err(|e| bad(&e))?;
    let slot = bytes
        .get(..SLOT)
        .ok_or_else(|| bad(&"it is shorter than a head"))?;
    let slot = Slot::parse(slot).map_err(|e| bad(&e))?;
    slot.check(key).map_err(|e| bad(&e))?;
    Ok(slot.head)
}

fn report(verdict: &Verdict, folder: &Path, key: &PublicKey) -> String {
    let mut text = String::new();
    let listed = |text: &mut String, what: &str, findings: &[Finding]| {
        for finding in findings {
            let _ = writeln!(text, "{what} {finding}");
        }
    };
    listed(&mut text, "note:   ", &verdict.notes);
    listed(&mut text, "CHANGED:", &verdict.findings);
    if verdict.found > verdict.findings.len() as u64 {
        let more = verdict.found - verdict.findings.len() as u64;
        let _ = writeln!(text, "CHANGED: and {more} more");
    }
    let lines = match &verdict.seqs {
        Some((first, last)) => format!("lines {first} to {last}"),
        None => "no line".to_owned(),
    };
    let span = match &verdict.times {
        Some((first, last)) => format!(", {first} to {last}"),
        None => String::new(),
    };
    let verb = match verdict.is_whole() {
        true => "whole",
        false => "NOT as it was written",
    };
    let _ = writeln!(
        text,
        "{}: {verb}: {lines} in {} file(s){span}; key {key}",
        folder.display(),
        verdict.files
    );
    text
}

fn json(verdict: &Verdict, key: &PublicKey) -> String {
    let listed = |findings: &[Finding]| -> Vec<serde_json::Value> {
        let one = |f: &Finding| serde_json::json!({"file": f.file, "line": f.line, "what": f.what});
        findings.iter().map(one).collect()
    };
    let value = serde_json::json!({
        "whole": verdict.is_whole(),
        "log": verdict.log,
        "key": key.to_string(),
        "files": verdict.files,
        "lines": verdict.lines,
        "seqs": verdict.seqs,
        "times": verdict.times,
        "found": verdict.found,
        "findings": listed(&verdict.findings),
        "notes": listed(&verdict.notes),
    });
    format!("{value:#}\n")
}
