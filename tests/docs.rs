//! What the documents say of the tests is so.

use std::fs;
use std::path::{Path, PathBuf};

/// All Rust sources below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "target") {
                sources(&path, found);
            }
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(path);
        }
    }
}

/// The names in backquotes of the form `module::test`.
fn named(text: &str) -> Vec<(&str, &str)> {
    let plain = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|quoted| quoted.split_once("::"))
        .filter(|(module, test)| plain(module) && plain(test))
        .collect()
}

#[test]
fn every_test_that_security_md_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("SECURITY.md")).expect("SECURITY.md");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let names = named(&text);
    assert!(names.len() > 20, "only {names:?}");
    for (module, test) in names {
        let has = |path: &PathBuf| {
            path.components()
                .any(|c| c.as_os_str() == module || c.as_os_str() == &*format!("{module}.rs"))
                && fs::read_to_string(path)
                    .is_ok_and(|source| source.contains(&format!("fn {test}()")))
        };
        assert!(
            files.iter().any(has),
            "SECURITY.md names {module}::{test}, which is nowhere"
        );
    }
}
