//! Times as people write them: `500ms`, `2s`, `1m`, `1h`.

use std::time::Duration;
use thiserror::Error;

/// Why a time was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DurationError {
    /// Not a number with a unit.
    #[error("--timeout {0:?} is not a number with ms, s, m or h, as in 2s")]
    Syntax(String),
    /// Zero.
    #[error("--timeout {0:?} is no time at all: give at least 1ms, or leave it out for no limit")]
    Zero(String),
    /// More than 64 bits of milliseconds.
    #[error("--timeout {0:?} is too long: leave it out for no limit")]
    TooLong(String),
}

/// Reads one.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err(DurationError::Syntax(text.to_owned())),
    };
    if number.is_empty() {
        return Err(DurationError::Syntax(text.to_owned()));
    }
    let too_long = || DurationError::TooLong(text.to_owned());
    let number: u64 = number.parse().map_err(|_| too_long())?;
    match number.checked_mul(unit_ms) {
        Some(0) => Err(DurationError::Zero(text.to_owned())),
        // The jailer adds it to a clock of microseconds.
        Some(ms) if ms < u64::MAX / 2000 => Ok(Duration::from_millis(ms)),
        _ => Err(too_long()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_units() {
        for (text, ms) in [
            ("500ms", 500),
            ("2s", 2000),
            ("2", 2000),
            ("1m", 60_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for bad in ["", "s", "-1s", "1d", "1.5s", " 1s", "1 s", "0x1s"] {
            assert!(matches!(parse(bad), Err(DurationError::Syntax(_))), "{bad}");
        }
        assert!(matches!(parse("0s"), Err(DurationError::Zero(_))));
        assert!(matches!(
            parse("99999999999999999h"),
            Err(DurationError::TooLong(_))
        ));
    }

    proptest! {
        #[test]
        fn never_panics(text in ".*") {
            let _ = parse(&text);
        }
    }
}
