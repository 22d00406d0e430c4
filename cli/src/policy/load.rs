//! Policies by name or by file.

use casemate_policies as shipped;
use casemate_policy::Policy;
use casemate_policy_compiler::{AnyPolicy, Error, Readers, compile_any, compile_policy};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use thiserror::Error as ThisError;

/// Longest policy file.
const MOST: u64 = 1 << 20;
/// The file of `policies/jail` that is the jail's own first process'.
const INIT: &str = "init";

/// A policy that cannot be had.
#[derive(Debug, ThisError)]
pub enum LoadError {
    /// Not one of those that are shipped, and not written as a path.
    #[error(
        "no policy {0:?} is shipped: there are {known}; a file is named with a / or ends in .toml",
        known = names().join(", ")
    )]
    Unknown(String),
    /// A name that is not text.
    #[error("policy {0:?} is not text: only UTF-8 is taken")]
    NotText(std::ffi::OsString),
    /// Refused by the compiler.
    #[error("{0}")]
    Refused(#[from] Error),
}

/// The names of the shipped policies.
pub fn names() -> Vec<&'static str> {
    let threads = shipped::ThreadClass::ALL.map(shipped::ThreadClass::name);
    let jail = shipped::JAIL_NAMES.into_iter().chain([INIT]);
    jail.chain([shipped::CELL_NAME]).chain(threads).collect()
}

/// The policy of a jail: shipped, where nothing needs to be compiled, or from a file.
///
/// # Errors
/// See [`LoadError`].
pub fn jail(policy: &OsStr) -> Result<Policy, LoadError> {
    let name = text(policy)?;
    if let Some(policy) = shipped::jail(name) {
        return Ok(policy.clone());
    }
    match is_file(name) {
        true => Ok(file(name, |readers| compile_policy(name, readers))?.policy),
        false => Err(LoadError::Unknown(name.to_owned())),
    }
}

/// A policy with its rules and their reasons.
///
/// # Errors
/// See [`LoadError`].
pub fn any(policy: &OsStr) -> Result<AnyPolicy, LoadError> {
    let name = text(policy)?;
    if is_file(name) {
        return Ok(file(name, |readers| compile_any(name, readers))?);
    }
    if !names().contains(&name) {
        return Err(LoadError::Unknown(name.to_owned()));
    }
    let source = match shipped::JAIL_NAMES.contains(&name) || name == INIT {
        true => shipped::jail_source,
        false => shipped::vmm_source,
    };
    let readers = Readers {
        folder: &source,
        shipped: &source,
    };
    Ok(compile_any(&format!("{name}.toml"), readers)?)
}

fn text(policy: &OsStr) -> Result<&str, LoadError> {
    policy
        .to_str()
        .ok_or_else(|| LoadError::NotText(policy.to_owned()))
}

fn is_file(name: &str) -> bool {
    name.contains('/') || name.ends_with(".toml")
}

/// Compiles the file at `path`; what it includes is looked for beside it.
fn file<T>(path: &str, compile: impl Fn(Readers<'_>) -> T) -> T {
    let beside = Path::new(path).parent().unwrap_or(Path::new(""));
    let folder = |name: &str| match name == path {
        true => read(Path::new(path)),
        false => read(&beside.join(name)),
    };
    compile(Readers {
        folder: &folder,
        shipped: &shipped::jail_source,
    })
}

fn read(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = String::new();
    file.take(MOST + 1).read_to_string(&mut text)?;
    match text.len() as u64 > MOST {
        true => Err(io::Error::other("longer than 1 MiB")),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_name_can_be_had() {
        for name in names() {
            any(OsStr::new(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        for name in shipped::JAIL_NAMES {
            assert_eq!(jail(OsStr::new(name)).unwrap().name, name);
        }
        let error = jail(OsStr::new("lenient")).unwrap_err().to_string();
        assert!(
            error.contains("there are strict, default, network"),
            "{error}"
        );
    }

    #[test]
    fn a_file_narrows_a_shipped_policy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.toml");
        let write = |pids: u32| {
            let text = format!("base = \"default\"\n[cgroup]\npids = {pids}\nwhy = \"w\"\n");
            std::fs::write(&path, text).unwrap();
        };
        write(5);
        assert_eq!(jail(path.as_os_str()).unwrap().cgroup.pids, Some(5));
        write(5000);
        let error = jail(path.as_os_str()).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("{}:3: widening", path.display())),
            "{error}"
        );
    }
}
