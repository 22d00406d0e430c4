//! Resident memory of the VMM beside its guest's (`/proc/PID/smaps`, proc_pid_smaps(5)).

/// Bytes resident in mappings that do not touch any of `guest`: (address, length) pairs.
///
/// The ranges are the VMM's own account, so the figure is for the report only.
pub fn rss_beside(smaps: &str, guest: &[(u64, u64)]) -> u64 {
    let mut counts = false;
    let mut sum = 0u64;
    for line in smaps.lines() {
        if let Some((start, end)) = mapping(line) {
            counts = !guest
                .iter()
                .any(|&(at, len)| start < at.saturating_add(len) && at < end);
        } else if let Some(rss) = line.strip_prefix("Rss:").filter(|_| counts) {
            let kib = rss.trim().trim_end_matches(" kB").parse::<u64>();
            sum = sum.saturating_add(kib.unwrap_or(0).saturating_mul(1024));
        }
    }
    sum
}

/// Start and end of a mapping, if the line is a mapping's first.
fn mapping(line: &str) -> Option<(u64, u64)> {
    let (range, _) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    Some((
        u64::from_str_radix(start, 16).ok()?,
        u64::from_str_radix(end, 16).ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SMAPS: &str = "\
1000-3000 r-xp 00000000 00:00 0 /vmm
Rss:                   8 kB
Pss:                   8 kB
10000-20000 rw-p 00000000 00:00 0
Rss:                  64 kB
30000-31000 rw-p 00000000 00:00 0 [heap]
Rss:                   4 kB
";

    #[test]
    fn guest_memory_is_left_out() {
        assert_eq!(rss_beside(SMAPS, &[]), 76 << 10);
        assert_eq!(rss_beside(SMAPS, &[(0x10000, 0x10000)]), 12 << 10);
        assert_eq!(rss_beside(SMAPS, &[(0, u64::MAX)]), 0);
        assert_eq!(rss_beside(SMAPS, &[(0x3000, 0x1000)]), 76 << 10);
    }

    proptest! {
        #[test]
        fn any_text_and_range_is_survived(text in "(?s).{0,200}", at: u64, len: u64) {
            let _ = rss_beside(&text, &[(at, len)]);
        }
    }
}
