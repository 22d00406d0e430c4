//! Amounts, durations, paths and names, as policies write them.

use super::file::Amount;
use crate::source::Problem;
use casemate_policy::{Capabilities, Device, Namespace};

/// The word for "no limit".
const UNLIMITED: &str = "unlimited";

/// A limit; `None` is no limit.
pub(crate) fn amount(amount: &Amount) -> Result<Option<u64>, Problem> {
    let text = match amount {
        Amount::Number(number) => return Ok(Some(*number)),
        Amount::Text(text) if text == UNLIMITED => return Ok(None),
        Amount::Text(text) => text,
    };
    let bad = || Problem::Amount(text.clone());
    let unit = text.chars().last().ok_or_else(bad)?;
    let shift = match unit {
        'K' => 10,
        'M' => 20,
        'G' => 30,
        'T' => 40,
        _ => 0,
    };
    let digits = if shift == 0 {
        text.as_str()
    } else {
        &text[..text.len() - 1]
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    let number: u64 = digits.parse().map_err(|_| bad())?;
    number.checked_mul(1 << shift).map(Some).ok_or_else(bad)
}

/// A limit that fits 32 bits, at least `least`.
pub(crate) fn small(value: &Amount, least: u32, most: u32) -> Result<Option<u32>, Problem> {
    match amount(value)? {
        None => Ok(None),
        Some(number) => match u32::try_from(number) {
            Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
            _ => Err(Problem::OutOfRange {
                value: number,
                least: least.into(),
                most: most.into(),
            }),
        },
    }
}

/// `500ms`, `2s`, `1m` or `1h`, in milliseconds; `unlimited` is `None`.
pub(crate) fn duration(text: &str) -> Result<Option<u64>, Problem> {
    if text == UNLIMITED {
        return Ok(None);
    }
    let bad = || Problem::Duration(text.to_owned());
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let (digits, unit) = text.split_at(split);
    let scale = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(bad()),
    };
    let number: u64 = digits.parse().map_err(|_| bad())?;
    match number.checked_mul(scale) {
        Some(0) | None => Err(bad()),
        some => Ok(some),
    }
}

/// An absolute path without `.`, `..`, empty parts or control characters.
pub(crate) fn path(text: &str) -> Result<&str, Problem> {
    let sound = text == "/"
        || (text.starts_with('/')
            && text[1..]
                .split('/')
                .all(|part| !matches!(part, "" | "." | ".."))
            && !text.chars().any(char::is_control)
            && text.len() < 4096);
    match sound {
        true => Ok(text),
        false => Err(Problem::Path(text.to_owned())),
    }
}

pub(crate) fn namespace(name: &str) -> Result<Namespace, Problem> {
    let found = Namespace::ALL.into_iter().find(|kind| kind.name() == name);
    found.ok_or_else(|| unknown("namespace", name, Namespace::ALL.map(Namespace::name)))
}

pub(crate) fn device(name: &str) -> Result<Device, Problem> {
    let found = Device::ALL.into_iter().find(|device| device.name() == name);
    found.ok_or_else(|| unknown("device", name, Device::ALL.map(Device::name)))
}

/// `MAJOR:MINOR`.
pub(crate) fn block_device(text: &str) -> Result<&str, Problem> {
    let number = |part: &str| part.len() <= 10 && part.parse::<u32>().is_ok();
    match text.split_once(':') {
        Some((major, minor)) if number(major) && number(minor) => Ok(text),
        _ => Err(Problem::BlockDevice(text.to_owned())),
    }
}

/// A variable's name.
pub(crate) fn variable(name: &str) -> Result<&str, Problem> {
    match name.is_empty() || name.contains(['=', '\0']) {
        true => Err(Problem::Variable(name.to_owned())),
        false => Ok(name),
    }
}

/// The number of a capability, by its name in capabilities(7).
pub(crate) fn capability(name: &str) -> Result<u32, Problem> {
    let number = Capabilities::NAMES.iter().position(|known| *known == name);
    match number {
        Some(number) => Ok(number as u32),
        None => Err(Problem::UnknownName {
            what: "capability",
            name: name.to_owned(),
            known: "those of capabilities(7), such as CAP_CHOWN".to_owned(),
        }),
    }
}

pub(crate) fn unknown<const N: usize>(what: &'static str, name: &str, known: [&str; N]) -> Problem {
    Problem::UnknownName {
        what,
        name: name.to_owned(),
        known: known.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        let of = |text: &str| amount(&Amount::Text(text.to_owned())).ok();
        assert_eq!(of("512"), Some(Some(512)));
        assert_eq!(of("64M"), Some(Some(64 << 20)));
        assert_eq!(of("unlimited"), Some(None));
        for bad in ["", "M", "-1", "+1", "1 M", "1MB", "1.5G", "99999999T", "é"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("1500ms").ok(), Some(Some(1500)));
        assert_eq!(duration("2h").ok(), Some(Some(7_200_000)));
        for bad in ["", "5", "s", "0s", "-1s", "1d", "99999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths() {
        for good in ["/", "/usr", "/a b/c=d"] {
            assert!(path(good).is_ok(), "{good}");
        }
        for bad in ["", "usr", "/usr/", "//", "/a/../b", "/./a", "/a\nb"] {
            assert!(path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn capabilities_have_the_kernels_numbers() {
        assert_eq!(capability("CAP_CHOWN").ok(), Some(0));
        assert_eq!(capability("CAP_SYS_ADMIN").ok(), Some(21));
        assert_eq!(capability("CAP_CHECKPOINT_RESTORE").ok(), Some(40));
        assert!(capability("CAP_ALL").is_err());
    }
}
