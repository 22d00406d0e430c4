//! Writers that are killed or run out of disk at any point leave nothing that looks like a
//! change by somebody else, and the next writer goes on.

use crate::common::{Bed, Log, exit, refused, unlock};
use casemate_audit::SLOT;
use casemate_audit::verify::Options;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The writer in a process of its own.
pub fn record() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent()
        .unwrap()
        .with_file_name("examples")
        .join("record")
}

/// The head while a writer is between its two slots.
fn between(before: &Log, after: &Log) -> Vec<u8> {
    [&before.head[..SLOT], &after.head[SLOT..]].concat()
}

/// Every state on the way from one log to the next: what is in the files, bytes of the
/// batch that were appended, whether the new file was made.
fn on_the_way(before: &Log, after: &Log) -> Vec<Log> {
    let mut states = vec![Log {
        files: before.files.clone(),
        head: before.head.clone(),
    }];
    let head = between(before, after);
    let (number, whole) = after.files.last().unwrap();
    let begun = match before.files.last() {
        Some((last, content)) if last == number => content.len(),
        _ => {
            states.push(Log {
                files: before.files.clone(),
                head: head.clone(),
            });
            0
        }
    };
    for length in begun..=whole.len() {
        let mut files = after.files.clone();
        files.last_mut().unwrap().1.truncate(length);
        states.push(Log {
            files,
            head: head.clone(),
        });
    }
    states.push(after.clone());
    states
}

/// Each state verifies, and the next writer makes of it a log that does.
fn all_states_are_good(bed: &Bed, before: &Log, after: &Log, every: usize) -> Vec<Log> {
    let mut results = Vec::new();
    let key = bed.key();
    for (n, state) in on_the_way(before, after).iter().enumerate() {
        let verdict = state.verify(&key, &Options::default());
        assert!(verdict.is_whole(), "state {n}: {:?}", verdict.findings);
        if n % every != 0 && state.files != after.files {
            continue;
        }
        state.write(&bed.folder());
        bed.write([refused(n)]);
        let verdict = bed.verify();
        assert!(
            verdict.is_whole(),
            "after state {n}: {:?}",
            verdict.findings
        );
        let now = Log::read(&bed.folder());
        for (there, content) in &state.files {
            let kept = now.files.iter().find(|(number, _)| number == there);
            assert!(kept.is_some_and(|(_, now)| now.starts_with(content)));
        }
        results.push(now);
    }
    results
}

#[test]
fn a_writer_killed_at_any_byte_is_no_change() {
    let bed = Bed::new();
    bed.write([exit(1), refused(1)]);
    let before = Log::read(&bed.folder());
    bed.write([exit(2), refused(2)]);
    let after = Log::read(&bed.folder());
    let results = all_states_are_good(&bed, &before, &after, 1);
    // What was interrupted is told; what was only not committed yet is kept.
    let texts = results
        .iter()
        .map(|log| String::from_utf8_lossy(&log.files[0].1));
    let told = texts
        .filter(|text| text.contains("\"event\":\"recovered\""))
        .count();
    assert!(
        told > 500 && told < results.len(),
        "{told} of {}",
        results.len()
    );
    // And once more, at the writer that sets aside what the first one left.
    let torn = &results[results.len() / 2];
    let mut half = before.clone();
    half.head = between(&before, &after);
    half.files = torn.files.clone();
    let left = on_the_way(&before, &after)[results.len() / 2].files[0]
        .1
        .len();
    half.files[0].1.truncate(left);
    all_states_are_good(&bed, &half, torn, 7);
}

#[test]
fn a_writer_killed_while_it_begins_a_file_is_no_change() {
    let bed = Bed::new();
    bed.write([exit(1)]);
    let before = Log::read(&bed.folder());
    let mut settings = bed.settings();
    settings.file_bytes = 1000;
    let mut recorder =
        casemate_audit::Recorder::open(&settings, crate::common::who("job")).unwrap();
    recorder.add(exit(2));
    recorder.commit().unwrap();
    let after = Log::read(&bed.folder());
    assert_eq!(after.files.len(), 2);
    all_states_are_good(&bed, &before, &after, 3);
}

#[test]
fn the_first_writer_killed_at_any_byte_is_no_change() {
    let bed = Bed::new();
    drop(bed.recorder());
    let before = Log::read(&bed.folder());
    assert_eq!(before.files, [(1, Vec::new())]);
    let verdict = bed.verify();
    assert!(
        verdict.is_whole() && !verdict.notes.is_empty(),
        "{verdict:?}"
    );
    bed.write([exit(1)]);
    let after = Log::read(&bed.folder());
    // The key has its final name now, as it would have had only then.
    all_states_are_good(&bed, &before, &after, 5);
}

/// The states above are made up; here a real writer is killed at each of its system calls.
#[test]
fn a_writer_killed_at_any_system_call_is_no_change() {
    let bed = Bed::new();
    let folder = bed.folder();
    let run = |inject: Option<String>| {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null"]);
        if let Some(inject) = inject {
            command.arg("-e").arg(inject);
        }
        let output = command
            .arg(record())
            .arg("write")
            .arg(&folder)
            .arg("3")
            .output()
            .expect("strace is installed");
        (
            output.status,
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    for call in [
        "openat2",
        "flock",
        "pread64",
        "pwrite64",
        "write",
        "fstat",
        "renameat",
        "mkdirat",
        "getrandom",
        "ioctl",
    ] {
        for when in 1..200 {
            let inject = format!("inject={call}:signal=KILL:when={when}");
            let (status, text) = run(Some(inject.clone()));
            if status.success() {
                break;
            }
            assert!(text.is_empty(), "{inject}: {text}");
            let (_, text) = check(&folder);
            assert!(
                text.is_empty() || !text.contains("audit-"),
                "{inject}: {text}"
            );
            // From an empty folder on, now and then.
            if when % 5 == 0 {
                remove(&folder);
            }
        }
        let (status, text) = run(None);
        assert!(status.success(), "after {call}: {text}");
        assert_eq!(check(&folder).0, Some(0));
    }
}

/// What the verifier finds, notes left out.
fn check(folder: &Path) -> (Option<i32>, String) {
    // A writer that was killed before it had made a head has left nothing to verify.
    if !folder.join("head").exists() || std::fs::metadata(folder.join("head")).unwrap().len() == 0 {
        return (Some(0), String::new());
    }
    let output = Command::new(record())
        .arg("check")
        .arg(folder)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let findings: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("note: ") && !line.ends_with(" lines"))
        .collect();
    assert_eq!(
        output.status.code(),
        Some(i32::from(!findings.is_empty())),
        "{text}"
    );
    (output.status.code(), findings.join("\n"))
}

fn remove(folder: &Path) {
    unlock(folder);
    for folder in [folder.to_owned(), casemate_audit::key_folder(folder)] {
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// Calls that fail, each at every time it is made: refused, and nothing is broken.
#[test]
fn a_call_that_fails_refuses_and_breaks_nothing() {
    let bed = Bed::new();
    let folder = bed.folder();
    let write = || {
        Command::new(record())
            .arg("write")
            .arg(&folder)
            .arg("2")
            .output()
            .unwrap()
    };
    assert!(write().status.success());
    for (call, error) in [
        ("write", "ENOSPC"),
        ("pwrite64", "ENOSPC"),
        ("openat2", "EMFILE"),
        ("openat2", "ENOSPC"),
        ("flock", "ENOLCK"),
        ("pread64", "EIO"),
        ("fstat", "ENOMEM"),
    ] {
        for when in 1..100 {
            let output: Output = Command::new("strace")
                .args(["-f", "-qq", "-o", "/dev/null", "-e"])
                .arg(format!("inject={call}:error={error}:when={when}"))
                .arg(record())
                .arg("write")
                .arg(&folder)
                .arg("2")
                .output()
                .expect("strace is installed");
            let text = String::from_utf8_lossy(&output.stderr);
            if output.status.success() {
                break;
            }
            assert!(!text.contains("panicked"), "{call} {error} {when}: {text}");
            let (status, findings) = check(&folder);
            assert_eq!(status, Some(0), "{call} {error} {when}: {text}; {findings}");
            let again = write();
            let text = String::from_utf8_lossy(&again.stderr);
            assert!(
                again.status.success(),
                "after {call} {error} {when}: {text}"
            );
        }
        assert_eq!(check(&folder), (Some(0), String::new()));
    }
}

/// A disk that is really full, with a writer whose last write is cut short.
#[test]
fn a_full_disk_refuses_and_a_freed_one_goes_on() {
    let temp = tempfile::tempdir().unwrap();
    let script = r#"
        set -e
        mount -t tmpfs -o size=96k none "$1"
        for round in 1 2 3; do
            status=0; "$2" write "$1/audit" 500 2> "$1/../said" || status=$?
            [ $status = 3 ]; grep -q 'No space left' "$1/../said"
            "$2" check "$1/audit" > "$1/../checked" || { cat "$1/../checked"; exit 1; }
            mount -o remount,size=$((96 + round * 64))k "$1"
            "$2" write "$1/audit" 2
            "$2" check "$1/audit"
        done
        umount "$1"
    "#;
    let full = temp.path().join("full");
    std::fs::create_dir(&full).unwrap();
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(&full)
        .arg(record())
        .output()
        .unwrap();
    let text = [&output.stdout[..], &output.stderr].concat();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&text)
    );
}
