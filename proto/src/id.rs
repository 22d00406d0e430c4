//! Names of cells and tenants.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// Longest name accepted, in bytes. It leaves room in `NAME_MAX` (255) for the
/// suffixes that run files carry, and in `sun_path` (108) for a run directory.
pub const MAX_NAME: usize = 64;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// The name has no bytes.
    #[error("{kind} is empty: give 1 to {MAX_NAME} characters of a-z, A-Z, 0-9 and '-'")]
    Empty {
        /// "id" or "tenant".
        kind: &'static str,
    },
    /// The name is longer than [`MAX_NAME`].
    #[error("{kind} is {len} bytes long: give at most {MAX_NAME}")]
    TooLong {
        /// "id" or "tenant".
        kind: &'static str,
        /// Length found, in bytes.
        len: usize,
    },
    /// A character outside of the permitted set.
    #[error(
        "{kind} {name:?} has {found:?} at byte {at}: \
         only a-z, A-Z, 0-9 and '-' are taken, and not '-' first"
    )]
    BadCharacter {
        /// "id" or "tenant".
        kind: &'static str,
        /// The name as given.
        name: String,
        /// First refused character.
        found: char,
        /// Its offset, in bytes.
        at: usize,
    },
}

fn check(kind: &'static str, name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { kind });
    }
    if name.len() > MAX_NAME {
        return Err(NameError::TooLong {
            kind,
            len: name.len(),
        });
    }
    match name
        .char_indices()
        .find(|&(at, c)| !(c.is_ascii_alphanumeric() || (c == '-' && at > 0)))
    {
        None => Ok(()),
        Some((at, found)) => Err(NameError::BadCharacter {
            kind,
            name: name.to_owned(),
            found,
            at,
        }),
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The name, fit to be one path component.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $type {
            type Err = NameError;
            fn from_str(name: &str) -> Result<Self, NameError> {
                check($kind, name)?;
                Ok(Self(name.to_owned()))
            }
        }
        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                check($kind, &name)?;
                Ok(Self(name))
            }
        }
        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// The name of one cell, unique within its tenant: `[A-Za-z0-9][A-Za-z0-9-]{0,63}`.
    CellId,
    "id"
);
name_type!(
    /// The name of a tenant: `[A-Za-z0-9][A-Za-z0-9-]{0,63}`.
    TenantId,
    "tenant"
);

impl Default for TenantId {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_what_is_not_one_safe_path_component() {
        for bad in [
            "", ".", "..", "a/b", "/", "-a", "a b", "é", "a\0", "a\n", "a_b",
        ] {
            assert!(bad.parse::<CellId>().is_err(), "{bad:?}");
        }
        assert!("x".repeat(65).parse::<CellId>().is_err());
        assert!("x".repeat(300).parse::<TenantId>().is_err());
        assert!("x".repeat(64).parse::<CellId>().is_ok());
    }

    #[test]
    fn deserialising_checks_too() {
        assert!(serde_json::from_str::<CellId>("\"../x\"").is_err());
        assert!(serde_json::from_str::<CellId>("\"ok-1\"").is_ok());
    }

    proptest! {
        #[test]
        fn accepted_names_are_plain(name in ".*") {
            if let Ok(id) = name.parse::<CellId>() {
                prop_assert!(id.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
                prop_assert!(!id.as_str().starts_with('-') && id.as_str().len() <= MAX_NAME);
            }
        }
    }
}
