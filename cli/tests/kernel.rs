//! `casemate kernel` and the rest of the commands, as far as they need no package.

use std::path::Path;
use std::process::{Command, Output};

fn casemate(arguments: &[&str], state: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_casemate"))
        .args(arguments)
        .arg("--state-dir")
        .arg(state)
        .output()
        .unwrap()
}

fn refused(output: &Output, word: &str) {
    let line = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(125), "{line}");
    assert!(
        line.starts_with("casemate: ") && line.lines().count() == 1,
        "{line}"
    );
    assert!(line.contains(word), "{line}");
}

#[test]
fn an_empty_store_lists_nothing_and_is_not_made() {
    let state = tempfile::tempdir().unwrap();
    let output = casemate(&["kernel", "list"], state.path());
    assert!(output.status.success() && output.stdout.is_empty());
    assert_eq!(state.path().read_dir().unwrap().count(), 0);
}

#[test]
fn what_cannot_be_removed_or_imported_is_said_in_one_line() {
    let state = tempfile::tempdir().unwrap();
    let remove = |name| casemate(&["kernel", "remove", name], state.path());
    refused(&remove("nope"), "nope");
    refused(&remove("../etc"), "is not taken");
    refused(&remove("default"), "is not taken");
    let import = |package| casemate(&["kernel", "import", package], state.path());
    refused(&import("--default"), "PKG.deb");
    refused(
        &casemate(&["kernel", "import", "--boot", "/boot"], state.path()),
        "--modules",
    );
}

#[test]
fn completions_and_the_manual_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(env!("CARGO_BIN_EXE_casemate"))
            .args(["completions", shell])
            .output()
            .unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains("rootfs"));
    }
    let output = Command::new(env!("CARGO_BIN_EXE_casemate"))
        .arg("man")
        .output()
        .unwrap();
    assert!(output.status.success() && output.stdout.starts_with(b".ie"));
}
