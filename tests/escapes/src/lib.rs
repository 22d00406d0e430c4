//! Attempts to get out of a jail, each a function of its own, and what came of one.
//!
//! The program `escape` makes one attempt and says in one line of JSON whether it worked.
//! It knows nothing of any jail: the same program runs under Casemate's, under others', and
//! under none, where every attempt should work, or it shows nothing.
//!
//! What an attempt is after is laid out beforehand, outside of the jail, and described by a
//! [`Bait`]: a file with a token, a process to signal, sockets to reach, fds that leak.
//! Every attempt is harmless where it works: it reads what was laid out for it, writes back
//! what was there, or asks for something that the kernel refuses only *after* it has looked
//! at the caller's rights (a reboot with a wrong magic number).

pub mod attempts;
mod bait;
mod outcome;
pub mod sys;
pub mod victim;

pub use bait::{BINARY_VARIABLE, Bait, KEY, Leaked, VARIABLE};
pub use outcome::{Failure, Outcome, Report, Tried};

/// One attempt.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// Its name: lower case, with dashes.
    pub name: &'static str,
    /// What it tries, in a few words.
    pub what: &'static str,
    /// Tries it.
    pub go: fn(&Bait) -> Tried,
}

/// Every attempt there is.
pub fn all() -> impl Iterator<Item = &'static Attempt> {
    attempts::GROUPS
        .iter()
        .flat_map(|(_, attempts)| attempts.iter())
}

/// The attempt of this name.
pub fn find(name: &str) -> Option<&'static Attempt> {
    all().find(|attempt| attempt.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_plain() {
        let names: BTreeSet<&str> = all().map(|attempt| attempt.name).collect();
        assert_eq!(names.len(), all().count());
        for attempt in all() {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            assert!(attempt.name.bytes().all(plain), "{}", attempt.name);
            assert!(!attempt.what.is_empty(), "{}", attempt.name);
        }
    }
}
