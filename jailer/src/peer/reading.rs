//! Whether what a cgroup file shows is what was written to it.
//!
//! The kernel shows values in its own form: sizes in bytes and whole pages, CPU lists as
//! ranges, defaults beside what was given. Every word that was written must be among those
//! read, in one of these forms.

use std::collections::BTreeSet;

const PAGE: u64 = 4096;

/// Compares.
pub fn reads_as(written: &str, read: &str) -> bool {
    let wanted: Vec<&str> = written.split_ascii_whitespace().collect();
    let has = |words: &[&str]| {
        wanted
            .iter()
            .all(|wanted| words.iter().any(|word| same(wanted, word)))
    };
    // A file with a line for each device shows others beside the one written; a rule that
    // sets a limit back to none has no line at all.
    let unlimited = wanted
        .iter()
        .skip(1)
        .all(|w| w.ends_with("max") || *w == "0");
    let lines: Vec<&str> = read.lines().collect();
    lines
        .iter()
        .any(|line| has(&line.split_ascii_whitespace().collect::<Vec<_>>()))
        || (wanted.len() > 1 && unlimited && !lines.iter().any(|l| l.starts_with(wanted[0])))
}

fn same(written: &str, read: &str) -> bool {
    if written == read {
        return true;
    }
    if let (Some((key, written)), Some((other, read))) =
        (written.split_once('='), read.split_once('='))
    {
        return key == other && same(written, read);
    }
    if let (Some(written), Some(read)) = (size(written), size(read)) {
        let in_pages = written >= PAGE && read == written & !(PAGE - 1);
        return written == read || in_pages || written >= UNLIMITED && read >= UNLIMITED;
    }
    if written == "-1" {
        return size(read).is_some_and(|read| read >= UNLIMITED);
    }
    matches!((list(written), list(read)), (Some(written), Some(read)) if written == read)
}

/// From here on, v1 means that there is no limit.
const UNLIMITED: u64 = (i64::MAX as u64) & !(PAGE - 1);

/// memparse() of the kernel: a number and perhaps K, M, G or T.
fn size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()?.to_ascii_lowercase() {
        b'k' => (&text[..text.len() - 1], 10),
        b'm' => (&text[..text.len() - 1], 20),
        b'g' => (&text[..text.len() - 1], 30),
        b't' => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_shl(shift)
}

/// A list of numbers and ranges, as of CPUs.
fn list(text: &str) -> Option<BTreeSet<u32>> {
    let mut all = BTreeSet::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (u32, u32) = (from.parse().ok()?, to.parse().ok()?);
        if to < from || to - from > 1 << 16 {
            return None;
        }
        all.extend(from..=to);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_kernels_forms_are_known() {
        for (written, read) in [
            ("10", "10\n"),
            ("64M", "67108864\n"),
            ("1000000", "999424\n"),
            ("50000", "50000 100000\n"),
            ("max", "max 100000\n"),
            ("0,1", "0-1\n"),
            ("-1", "9223372036854771712\n"),
            (
                "8:0 rbps=1048576",
                "8:16 rbps=1 wbps=max riops=max wiops=max\n8:0 rbps=1048576 wbps=max riops=max wiops=max\n",
            ),
            ("8:0 rbps=max", "8:16 rbps=1 wbps=max\n"),
            ("8:0 1048576", "8:0 1048576\n"),
            ("8:0 0", ""),
            ("c 10:232 rwm", "c 10:232 rwm\n"),
        ] {
            assert!(reads_as(written, read), "{written} {read}");
        }
        for (written, read) in [
            ("10", "100\n"),
            ("64M", "max\n"),
            ("1", "2\n"),
            ("0", "0-1\n"),
            ("8:0 rbps=1048576", "8:0 rbps=2097152 wbps=max\n"),
            ("8:0 rbps=1048576", ""),
            ("1", ""),
        ] {
            assert!(!reads_as(written, read), "{written} {read}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(a in ".{0,40}", b in "(?s).{0,80}") {
            let _ = reads_as(&a, &b);
        }

        #[test]
        fn what_reads_as_written_is_taken(words in "[a-z0-9:=,-]{1,12}( [a-z0-9:=,-]{1,12}){0,4}") {
            let read = format!("other 1\n{words}\n");
            prop_assert!(reads_as(&words, &read));
        }
    }
}
