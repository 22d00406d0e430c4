//! Each of 1,000 random single edits of a 10,000-line log is found, and where.

use crate::common::{Bed, Log, exit, refused};
use casemate_audit::verify::{Options, Verdict};
use casemate_audit::{Digest, SLOT, log_name};
use std::sync::atomic::{AtomicUsize, Ordering};

const LINES: usize = 10_000;
const EDITS: usize = 1_000;

/// SplitMix64: the same edits at every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// A log of 10,000 lines in a dozen files, and a head that it had halfway.
fn log(bed: &Bed) -> (Log, Vec<u8>) {
    let mut settings = bed.settings();
    settings.file_bytes = 400 << 10;
    let mut recorder =
        casemate_audit::Recorder::open(&settings, crate::common::who("job-1")).unwrap();
    let mut halfway = Vec::new();
    let mut written = 0;
    let mut files = 0;
    while written < LINES - files {
        let batch = (1 + written % 7).min(LINES - files - written);
        for n in 0..batch {
            recorder.add(if n % 2 == 0 {
                exit(n)
            } else {
                refused(written)
            });
        }
        recorder.commit().unwrap();
        written += batch;
        files = std::fs::read_dir(bed.folder()).unwrap().count() - 1;
        if halfway.is_empty() && written > LINES / 2 {
            halfway = std::fs::read(bed.folder().join("head")).unwrap();
        }
    }
    (Log::read(&bed.folder()), halfway)
}

/// Where an edit was made: which file, and at which line, if it is one.
struct Place {
    what: &'static str,
    file: String,
    line: Option<usize>,
}

fn line_starts(content: &[u8]) -> Vec<usize> {
    let newlines = content.iter().enumerate().filter(|(_, b)| **b == b'\n');
    std::iter::once(0)
        .chain(newlines.map(|(at, _)| at + 1))
        .filter(|&at| at < content.len())
        .collect()
}

fn line(content: &[u8], starts: &[usize], index: usize) -> Vec<u8> {
    let end = starts.get(index + 1).copied().unwrap_or(content.len());
    content[starts[index]..end].to_vec()
}

/// A line that a forger without the key can make: it chains as it should.
fn forged(before: &[u8], after_seq: usize) -> Vec<u8> {
    let prev = Digest::of(before.strip_suffix(b"\n").unwrap_or(before));
    format!(
        r#"{{"seq":{},"prev":"{prev}","time":"2026-01-01T00:00:00.000000Z","mono_us":1,"boot":"","pid":1,"event":"exit","what":{{}}}}"#,
        after_seq + 1
    )
    .into_bytes()
    .into_iter()
    .chain([b'\n'])
    .collect()
}

/// Makes one edit. `kind` goes through all of them in turn.
fn edit(log: &mut Log, halfway: &[u8], kind: usize, random: &mut Random) -> Place {
    let which = random.below(log.files.len());
    let lines_before: usize = log.files[..which]
        .iter()
        .map(|(_, content)| line_starts(content).len())
        .sum();
    let last = log.files.len() - 1;
    let (number, content) = &mut log.files[which];
    let starts = line_starts(content);
    let index = random.below(starts.len());
    let byte = random.below(content.len());
    let of_byte = starts.partition_point(|&start| start <= byte);
    let place = |what, line| Place {
        what,
        file: log_name(*number),
        line,
    };
    match kind {
        0 => {
            content[byte] ^= 1 + random.below(255) as u8;
            place("a byte changed", Some(of_byte))
        }
        1 => {
            let length = line(content, &starts, index).len();
            content.drain(starts[index]..starts[index] + length);
            place("a line deleted", Some(index + 1))
        }
        2 => {
            let other = (index + 1 + random.below(starts.len() - 1)) % starts.len();
            let (a, b) = (index.min(other), index.max(other));
            let (first, second) = (line(content, &starts, a), line(content, &starts, b));
            let between = content[starts[a] + first.len()..starts[b]].to_vec();
            let swapped = [&second[..], &between, &first].concat();
            content.splice(starts[a]..starts[b] + second.len(), swapped);
            place("two lines swapped", Some(a + 1))
        }
        3 => {
            let copy = line(content, &starts, random.below(starts.len()));
            content.splice(starts[index]..starts[index], copy);
            place("a line repeated", Some(index + 1))
        }
        4 => {
            let before = line(content, &starts, index);
            let at = starts[index] + before.len();
            let new = forged(&before, lines_before + index + 1);
            content.splice(at..at, new);
            place("a forged line put in", Some(index + 2))
        }
        5 => {
            content.truncate(byte);
            place("a file cut", None)
        }
        6 => {
            log.files.remove(which);
            Place {
                what: "a file removed",
                file: log_name(which as u64 + 1),
                line: None,
            }
        }
        7 => {
            let at = random.below(log.head.len());
            log.head[at] ^= 1 + random.below(255) as u8;
            Place {
                what: "a byte of the head changed",
                file: "head".to_owned(),
                line: Some(1 + at / SLOT),
            }
        }
        8 => {
            content.remove(byte);
            place("a byte deleted", Some(of_byte))
        }
        9 => {
            content.insert(byte, random.next() as u8);
            // Between two lines, either of them may be said to be the one.
            place("a byte put in", Some(of_byte))
        }
        10 => {
            let (_, content) = &mut log.files[last];
            content.truncate(content.len() - 1 - random.below(content.len() - 1));
            Place {
                what: "the log's end cut",
                file: log_name(last as u64 + 1),
                line: None,
            }
        }
        11 => {
            let other = (which + 1 + random.below(last)) % (last + 1);
            let (a, b) = (which.min(other), which.max(other));
            let (left, right) = log.files.split_at_mut(b);
            std::mem::swap(&mut left[a].1, &mut right[0].1);
            Place {
                what: "two files exchanged",
                file: log_name(a as u64 + 1),
                line: None,
            }
        }
        12 => {
            let end = index + 1 + random.below(starts.len() - index);
            let to = starts.get(end).copied().unwrap_or(content.len());
            content.drain(starts[index]..to);
            place("several lines deleted", Some(index + 1))
        }
        13 => {
            match random.below(3) {
                0 => log.head.clear(),
                1 => log.head.truncate(random.below(2 * SLOT)),
                _ => log.head = halfway.to_vec(),
            }
            Place {
                what: "the head removed, cut, or replaced by an older one",
                file: String::new(),
                line: None,
            }
        }
        14 => {
            let (_, content) = &mut log.files[last];
            let starts = line_starts(content);
            let end = line(content, &starts, starts.len() - 1);
            content.extend(forged(&end, LINES));
            Place {
                what: "a forged line appended",
                file: log_name(last as u64 + 1),
                line: Some(starts.len() + 1),
            }
        }
        _ => {
            log.files
                .push((last as u64 + 2, line(&log.files[0].1, &[0], 0)));
            Place {
                what: "a file added",
                file: log_name(last as u64 + 2),
                line: None,
            }
        }
    }
}

fn tells_where(verdict: &Verdict, place: &Place) -> bool {
    verdict.findings.iter().any(|finding| {
        let near = place
            .line
            .is_none_or(|line| finding.line.abs_diff(line as u64) <= 1);
        (place.file.is_empty() || finding.file == place.file) && near
    }) || first_line_of_next_tells(verdict, place)
}

/// What is wrong with a file's last line may show only at the next file's first.
fn first_line_of_next_tells(verdict: &Verdict, place: &Place) -> bool {
    let next = casemate_audit::log_number(&place.file).map(|number| log_name(number + 1));
    verdict
        .findings
        .iter()
        .any(|finding| Some(&finding.file) == next.as_ref() && finding.line == 1)
}

#[test]
fn each_of_a_thousand_edits_is_found() {
    let bed = Bed::new();
    let (log, halfway) = log(&bed);
    let key = bed.key();
    assert_eq!(log.lines(), LINES);
    assert!(log.files.len() > 8, "{} files", log.files.len());
    let options = Options::default();
    let whole = log.verify(&key, &options);
    assert!(whole.is_whole() && whole.notes.is_empty(), "{whole:?}");
    assert_eq!(whole.lines, LINES as u64);
    assert_eq!(bed.verify(), whole);

    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= EDITS {
                        break;
                    }
                    let mut edited = log.clone();
                    let mut random = Random(n as u64);
                    let place = edit(&mut edited, &halfway, n % 16, &mut random);
                    if edited == log {
                        // A byte put in beside its like, or two lines alike: nothing changed.
                        continue;
                    }
                    let verdict = edited.verify(&key, &options);
                    let Place { what, file, line } = &place;
                    assert!(!verdict.is_whole(), "edit {n}: {what} in {file} {line:?}");
                    assert!(
                        tells_where(&verdict, &place),
                        "edit {n}: {what} in {file} {line:?}: {:?}",
                        verdict.findings
                    );
                }
            });
        }
    });
}
