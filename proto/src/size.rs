//! Sizes as people write them: `256M`, `2GiB`, `1073741824`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// Bytes in one MiB.
pub const MIB: u64 = 1 << 20;

/// Why a size was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SizeError {
    /// Not a number with an optional unit.
    #[error("size {0:?} is not a number with an optional K, M, G or T (of 1024), as in 256M")]
    Syntax(String),
    /// More than 64 bits.
    #[error("size {0:?} does not fit in 64 bits")]
    TooLarge(String),
}

/// A number of bytes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// A whole number of MiB.
    pub const fn mib(n: u64) -> Self {
        Self(n * MIB)
    }
    /// Bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = SizeError;
    fn from_str(text: &str) -> Result<Self, SizeError> {
        let syntax = || SizeError::Syntax(text.to_owned());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        if number.is_empty() {
            return Err(syntax());
        }
        let shift = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(syntax()),
        };
        let too_large = || SizeError::TooLarge(text.to_owned());
        let number: u64 = number.parse().map_err(|_| too_large())?;
        number
            .checked_mul(1 << shift)
            .map(Self)
            .ok_or_else(too_large)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n >= 1 << 30 && n % (1 << 30) == 0 => write!(f, "{} GiB", n >> 30),
            n if n >= MIB && n % MIB == 0 => write!(f, "{} MiB", n >> 20),
            n if n >= 1024 && n % 1024 == 0 => write!(f, "{} KiB", n >> 10),
            n => write!(f, "{n} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_units() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("1k", 1024),
            ("256M", 256 * MIB),
            ("256MiB", 256 * MIB),
            ("5g", 5 << 30),
            ("1T", 1 << 40),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn refuses_what_wraps_or_is_no_number() {
        for bad in ["", "M", "-1", "1.5G", "1X", " 1", "0x10", "1 M"] {
            assert!(
                matches!(bad.parse::<ByteSize>(), Err(SizeError::Syntax(_))),
                "{bad}"
            );
        }
        for bad in ["17179869184G", "99999999999999999999"] {
            assert!(
                matches!(bad.parse::<ByteSize>(), Err(SizeError::TooLarge(_))),
                "{bad}"
            );
        }
    }
}
