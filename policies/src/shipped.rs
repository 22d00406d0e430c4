//! The shipped policies of whole jails, and the texts that all shipped ones were made from.

use crate::{CELL, DEFAULT, INIT, JAIL_SOURCES, NETWORK, STRICT, VMM_SOURCES};
use casemate_policy::{Filter, Policy};
use std::io;

/// The names of the shipped policies for `casemate jail`, the strictest first.
pub const JAIL_NAMES: [&str; 3] = ["strict", "default", "network"];

/// The shipped policy of this name.
pub fn jail(name: &str) -> Option<&'static Policy> {
    match name {
        "strict" => Some(&STRICT),
        "default" => Some(&DEFAULT),
        "network" => Some(&NETWORK),
        _ => None,
    }
}

/// The name of the policy of the jail around a VMM.
pub const CELL_NAME: &str = "cell";

/// The jail around a VMM, as far as no launch takes away from it.
pub fn cell() -> &'static Policy {
    &CELL
}

/// The filter of the jail's own first process.
pub fn jail_init() -> &'static Filter {
    &INIT
}

/// The text of a file of `policies/jail`: what operators' own policies name as a base, and
/// include as `shipped/FILE`.
///
/// # Errors
/// There is no such file.
pub fn jail_source(file: &str) -> io::Result<String> {
    source(JAIL_SOURCES, file)
}

/// The text of a file of `policies/vmm`.
///
/// # Errors
/// There is no such file.
pub fn vmm_source(file: &str) -> io::Result<String> {
    source(VMM_SOURCES, file)
}

fn source(files: &[(&str, &str)], file: &str) -> io::Result<String> {
    files
        .iter()
        .find(|(name, _)| *name == file)
        .map(|(_, text)| (*text).to_owned())
        .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_policy() {
        for name in JAIL_NAMES {
            let policy = jail(name).unwrap();
            assert_eq!(policy.name, name);
            assert_eq!(policy.digest.len(), 64);
            assert!(policy.seccomp.is_some(), "{name}");
            assert!(jail_source(&format!("{name}.toml")).is_ok());
        }
        assert_eq!(cell().name, CELL_NAME);
        assert_eq!(jail("setup"), None);
        assert!(vmm_source("setup.toml").is_ok());
        assert!(jail_source("../vmm/setup.toml").is_err());
    }
}
