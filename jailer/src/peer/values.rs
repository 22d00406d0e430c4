//! Values of the flags, each checked as it is made.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use thiserror::Error;

/// Longest id, in bytes.
const MAX_ID: usize = 64;

/// What is wrong with a value. The flag's name stands before it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ValueError {
    /// Nothing.
    #[error("the value is empty: give a path")]
    Empty,
    /// An id.
    #[error("{0:?} cannot be an id: give 1 to {MAX_ID} characters of a-z, A-Z, 0-9 and '-'")]
    Id(OsString),
    /// A user or group.
    #[error("{0:?} is no id of a user or group: give a number from 0 to 4294967294")]
    User(OsString),
    /// The host's root.
    #[error(
        "0 is the host's root, and whatever escapes the jail is root then: give a user that \
         nothing else has, or add --allow-uid-0"
    )]
    Root,
    /// A cgroup setting.
    #[error("{0:?} is no setting of a cgroup: give CONTROLLER.FILE=VALUE, such as cpu.shares=10")]
    Cgroup(OsString),
    /// A parent cgroup.
    #[error(
        "{0:?} cannot be a parent cgroup: give a path below the hierarchy's root, such as \
         vms/small, without '.' and '..'"
    )]
    Parent(OsString),
    /// A cgroup version.
    #[error("{0:?} is no version of cgroups: give 1 or 2, or leave the flag out")]
    Version(OsString),
    /// A resource limit.
    #[error("{0:?} is no limit: give fsize=BYTES or no-file=NUMBER")]
    Limit(OsString),
    /// A layer.
    #[error("no layer is called {name:?} here; there are: {all}")]
    Layer {
        /// As given.
        name: OsString,
        /// Those there are.
        all: String,
    },
}

/// A jail's name: what Firecracker's jailer documents (alphanumerics and hyphens), in ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerId(String);

impl PeerId {
    /// Checks it.
    ///
    /// # Errors
    /// [`ValueError::Id`].
    pub fn parse(value: &OsStr) -> Result<Self, ValueError> {
        let good = value.to_str().filter(|id| {
            (1..=MAX_ID).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        });
        good.map(|id| Self(id.to_owned()))
            .ok_or_else(|| ValueError::Id(value.to_owned()))
    }

    /// The name, fit to be one path component.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Folder of the jails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base(pub PathBuf);

impl Base {
    /// # Errors
    /// [`ValueError::Empty`].
    pub fn parse(value: &OsStr) -> Result<Self, ValueError> {
        match value.is_empty() {
            true => Err(ValueError::Empty),
            false => Ok(Self(PathBuf::from(value))),
        }
    }
}

impl Default for Base {
    fn default() -> Self {
        Self(PathBuf::from("/srv/jailer"))
    }
}

/// Digits only: no sign, no space.
pub fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse().ok(),
        false => None,
    }
}

/// A uid or gid. `u32::MAX` is setresuid(2)'s "leave as it is".
///
/// # Errors
/// [`ValueError::User`], and [`ValueError::Root`] for 0 unless `root`.
pub fn user(value: &OsStr, root: bool) -> Result<u32, ValueError> {
    match value.to_str().and_then(number) {
        None | Some(u32::MAX) => Err(ValueError::User(value.to_owned())),
        Some(0) if !root => Err(ValueError::Root),
        Some(user) => Ok(user),
    }
}

/// One file of a cgroup and what to write to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupSetting {
    /// Name of the file.
    pub file: String,
    /// Everything after the first '=': it may hold more of them, and spaces.
    pub value: String,
}

impl CgroupSetting {
    /// # Errors
    /// [`ValueError::Cgroup`].
    pub fn parse(value: &OsStr) -> Result<Self, ValueError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        value
            .to_str()
            .and_then(|text| text.split_once('='))
            .filter(|(file, value)| {
                let controller = file.split('.').next().unwrap_or_default();
                // `cgroup.procs` and its like are the kernel's handles, not limits.
                !matches!(controller, "" | "cgroup")
                    && file.len() > controller.len() + 1
                    && file.bytes().all(plain)
                    && !value.is_empty()
            })
            .map(|(file, value)| Self {
                file: file.to_owned(),
                value: value.to_owned(),
            })
            .ok_or_else(|| ValueError::Cgroup(value.to_owned()))
    }

    /// The controller whose file it is.
    pub fn controller(&self) -> &str {
        self.file.split('.').next().unwrap_or_default()
    }
}

/// The cgroup above the jail's, component by component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentCgroup(pub Vec<String>);

impl ParentCgroup {
    /// # Errors
    /// [`ValueError::Parent`].
    pub fn parse(value: &OsStr) -> Result<Self, ValueError> {
        let bad = || ValueError::Parent(value.to_owned());
        let text = value.to_str().ok_or_else(bad)?;
        // A slash at the end is nothing; any other empty component is a mistake.
        let parts: Vec<String> = text
            .strip_suffix('/')
            .unwrap_or(text)
            .split('/')
            .map(str::to_owned)
            .collect();
        match parts.iter().any(|p| matches!(p.as_str(), "" | "." | "..")) {
            true => Err(bad()),
            false => Ok(Self(parts)),
        }
    }

    /// The exec file's name, as where no parent is named.
    ///
    /// # Errors
    /// [`ValueError::Parent`] where that is not UTF-8, as no cgroup of ours is.
    pub fn of_name(name: &OsStr) -> Result<Self, ValueError> {
        match name.as_bytes().contains(&b'/') {
            true => Err(ValueError::Parent(name.to_owned())),
            false => Self::parse(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::ffi::OsStringExt;

    fn os(text: &str) -> OsString {
        text.into()
    }

    #[test]
    fn ids_are_what_is_documented() {
        for good in ["a", "-", "A-9", &"x".repeat(64)] {
            assert!(PeerId::parse(&os(good)).is_ok(), "{good}");
        }
        for bad in ["", "é", "a_b", "a.b", "..", "a/b", "a b", &"x".repeat(65)] {
            assert!(PeerId::parse(&os(bad)).is_err(), "{bad}");
        }
        assert!(PeerId::parse(&OsString::from_vec(vec![0xff])).is_err());
    }

    #[test]
    fn cgroup_values_may_hold_anything() {
        let setting = CgroupSetting::parse(&os("io.max=8:0 rbps=1048576 wiops=max")).unwrap();
        assert_eq!(setting.controller(), "io");
        assert_eq!(setting.file, "io.max");
        assert_eq!(setting.value, "8:0 rbps=1048576 wiops=max");
        let dotted = CgroupSetting::parse(&os("hugetlb.2MB.limit_in_bytes=0")).unwrap();
        assert_eq!(dotted.controller(), "hugetlb");
    }

    #[test]
    fn parents_stay_below_the_root() {
        let parts = |text: &str| ParentCgroup::parse(&os(text)).map(|p| p.0);
        assert_eq!(parts("a/b/").unwrap(), ["a", "b"]);
        for bad in ["", "/", "/a", "a//b", "..", "a/./b"] {
            assert!(parts(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_is_one_component(bytes in proptest::collection::vec(1u8..=255, 0..80)) {
            let value = OsString::from_vec(bytes);
            if let Ok(id) = PeerId::parse(&value) {
                prop_assert!(!id.as_str().contains(['/', '.']) && id.as_str().len() <= MAX_ID);
            }
            if let Ok(setting) = CgroupSetting::parse(&value) {
                prop_assert!(!setting.file.contains('/') && !setting.file.starts_with('.'));
            }
            if let Ok(parent) = ParentCgroup::parse(&value) {
                prop_assert!(parent.0.iter().all(|p| !p.is_empty() && !p.contains('/') && p != ".."));
            }
            let _ = user(&value, true);
        }
    }
}
