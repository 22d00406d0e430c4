//! The verifier: offline, on copies, with the public key alone.
//!
//! It walks the lines from the first to the one that the signed head names, each of which
//! must name the digest of the one before. So with a good signature, every byte up to
//! there is as it was written. What it finds it tells with file and line, and goes on from
//! the line after, so that one change is one finding.

mod chain;
mod evidence;
mod lines;

pub use evidence::{Evidence, EvidenceError, LogFile};

use crate::head::{Head, Place, SLOT, Slot};
use crate::{HEAD, PublicKey, log_name};
use chain::Chain;
use lines::{Line, Lines};
use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Read};

/// Most findings that are kept; all are counted.
const MOST: usize = 1000;

/// What is asked of a verification.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The log may begin with any file: earlier ones were archived.
    pub from_any: bool,
    /// Numbers of `gap` lines that are known and accounted for.
    pub known_gaps: BTreeSet<u64>,
    /// Heads of this log that were copied earlier: what they vouch for must be there.
    pub earlier: Vec<Head>,
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// In which file.
    pub file: String,
    /// At which line, from 1; 0 for the file as a whole.
    pub line: u64,
    /// What.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}: {}", self.file, self.what),
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The log's name.
    pub log: Option<String>,
    /// Files looked at.
    pub files: u64,
    /// Lines of the chain.
    pub lines: u64,
    /// Numbers of the first and the last of them.
    pub seqs: Option<(u64, u64)>,
    /// Times of the first and the last of them.
    pub times: Option<(String, String)>,
    /// Changes, in order: none in a log that is whole.
    pub findings: Vec<Finding>,
    /// How many there are in all.
    pub found: u64,
    /// What is worth knowing and no change: interrupted writers, where the log begins.
    pub notes: Vec<Finding>,
}

impl Verdict {
    /// Whether every line is as it was written.
    pub fn is_whole(&self) -> bool {
        self.found == 0
    }

    fn find(&mut self, file: &str, line: u64, what: impl fmt::Display) {
        self.found += 1;
        if self.findings.len() < MOST {
            self.findings.push(Finding {
                file: file.to_owned(),
                line,
                what: what.to_string(),
            });
        }
    }

    fn note(&mut self, file: &str, line: u64, what: impl fmt::Display) {
        if self.notes.len() < MOST {
            self.notes.push(Finding {
                file: file.to_owned(),
                line,
                what: what.to_string(),
            });
        }
    }
}

/// The two slots of a head that is good.
struct Heads {
    committed: Head,
    /// One step ahead; `None` while nobody writes.
    intent: Option<Head>,
}

/// Verifies.
///
/// # Errors
/// Where a file cannot be read; what is wrong with it is in the [`Verdict`].
pub fn verify<R: Read>(
    evidence: Evidence<R>,
    key: &PublicKey,
    options: &Options,
) -> io::Result<Verdict> {
    let mut verdict = Verdict::default();
    let Evidence { mut files, head } = evidence;
    files.sort_by_key(|file| file.number);
    let heads = heads(&head, key, &mut verdict);
    if let Some(heads) = &heads {
        verdict.log = Some(heads.committed.log.clone());
    }
    let mut chain = Chain::new(key, options, verdict);
    chain.expect_log();
    let first = match options.from_any {
        true => files.first().map_or(1, |file| file.number),
        false => 1,
    };
    let last = heads
        .as_ref()
        .map(|heads| heads.committed.to.file)
        .or_else(|| files.last().map(|file| file.number))
        .unwrap_or(0);
    let mut files = files.into_iter().peekable();
    for number in first..=last {
        match files.next_if(|file| file.number <= number) {
            Some(file) if file.number == number => {
                let end = heads.as_ref().filter(|_| number == last);
                walk(&mut chain, file, end)?;
            }
            // A second one of the same number, or one before the first.
            Some(file) => {
                chain.verdict.find(&file.name, 0, "it is here twice");
            }
            None => chain.missing(number),
        }
        // All the rest would be reported one by one.
        if chain.verdict.found > MOST as u64 {
            break;
        }
    }
    if let Some(heads) = &heads {
        chain.check_end(&heads.committed.to);
        for file in files {
            after_the_end(&mut chain.verdict, file, heads)?;
        }
        if last == 0 && heads.committed.to == Place::START {
            chain.verdict.note(HEAD, 0, "the log has no line yet");
        }
    }
    Ok(chain.finish())
}

/// Parses and checks the head.
fn heads(bytes: &[u8], key: &PublicKey, verdict: &mut Verdict) -> Option<Heads> {
    if bytes.is_empty() {
        verdict.find(
            HEAD,
            0,
            "it is missing or empty: nothing vouches for the log's end",
        );
        return None;
    }
    let slots: Vec<&[u8]> = bytes.chunks(SLOT).collect();
    if bytes.len() != 2 * SLOT {
        let what = format!("it has {} bytes, and {} are right", bytes.len(), 2 * SLOT);
        verdict.find(HEAD, 0, what);
    }
    let mut good = Vec::new();
    for (slot, line) in slots.into_iter().take(2).zip(1..) {
        let parsed = Slot::parse(slot).and_then(|slot| slot.check(key).map(|()| slot.head));
        match parsed {
            Ok(head) => good.push((line, head)),
            Err(e) => verdict.find(HEAD, line, e),
        }
    }
    let mut good = good.into_iter();
    let (line, committed) = good.next()?;
    let intent = good.next().map(|(_, head)| head);
    if line != 1 {
        // The intent alone: take it for the end, so that the rest can be looked at.
        return Some(Heads {
            committed,
            intent: None,
        });
    }
    let pending = intent.as_ref().filter(|intent| **intent != committed);
    if let Some(intent) = pending
        && (intent.from != committed.to || intent.log != committed.log)
    {
        let what = "the intent does not follow on the commitment: \
                    one of them was replaced by an older one";
        verdict.find(HEAD, 2, what);
        return Some(Heads {
            committed,
            intent: None,
        });
    }
    Some(Heads {
        intent: pending.cloned(),
        committed,
    })
}

/// Walks one file; `end`, where it is the last one.
fn walk<R: Read>(chain: &mut Chain<'_>, file: LogFile<R>, end: Option<&Heads>) -> io::Result<()> {
    let LogFile {
        name,
        number,
        size,
        content,
    } = file;
    let limit = end.map_or(u64::MAX, |heads| heads.committed.to.offset);
    chain.begin(&name, number);
    let mut lines = Lines::new(content);
    let mut at = 0;
    let mut count = 0;
    // A line that reaches beyond the end that is signed is no part of what is signed.
    while at < limit {
        let Some(line) = lines.next(limit - at)? else {
            break;
        };
        count += 1;
        chain.line(&line, count, at);
        at += line.len;
    }
    chain.end(count);
    let Some(heads) = end else { return Ok(()) };
    if at < limit {
        let what = format!(
            "it is cut short: {} bytes are missing, up to the line with seq {}",
            limit - at,
            heads.committed.to.seq
        );
        chain.verdict.find(&name, count, what);
    }
    match &heads.intent {
        Some(intent) if intent.to.file == number => {
            let rest = Rest {
                name: &name,
                line: count,
                at,
                size,
            };
            on_the_way(&mut chain.verdict, &rest, intent, &mut lines)
        }
        _ if size > at => {
            let what = format!(
                "{} bytes from here on are beyond what the head vouches for: lines were added, \
                 or the head was replaced by an older one",
                size - at
            );
            chain.verdict.find(&name, count + 1, what);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Where in a file the committed lines end, and what is behind.
struct Rest<'a> {
    name: &'a str,
    line: u64,
    at: u64,
    size: u64,
}

/// What a writer had begun to append when the head was taken.
fn on_the_way<R: Read>(
    verdict: &mut Verdict,
    rest: &Rest<'_>,
    intent: &Head,
    lines: &mut Lines<R>,
) -> io::Result<()> {
    let Rest {
        name,
        line,
        at,
        size,
    } = *rest;
    let (from, to) = (intent.at, intent.to.offset);
    if size < from || size > to {
        let what = format!(
            "it has {size} bytes, and the head allows {from} to {to}: it was cut or added to"
        );
        verdict.find(name, line + 1, what);
        return Ok(());
    }
    if size == at {
        let what = "a writer was about to append lines when it was stopped, or the copy made: \
                    none of them is here";
        verdict.note(name, line, what);
        return Ok(());
    }
    let mut last = None;
    let mut torn = false;
    while let Some(line) = lines.next(u64::MAX)? {
        torn = !line.ended;
        last = Some(line.digest());
    }
    let whole = size == to && !torn && last == Some(intent.to.hash);
    let what = match whole {
        true => format!(
            "the {} bytes from here on were appended, up to the line with seq {}, and not yet \
             committed",
            size - at,
            intent.to.seq
        ),
        false => format!(
            "the {} bytes from here on are of a writer that was interrupted: nobody vouches for \
             them, and the next writer sets them aside",
            size - at
        ),
    };
    verdict.note(name, line + 1, what);
    Ok(())
}

/// A file behind the one in which the log ends.
fn after_the_end<R: Read>(
    verdict: &mut Verdict,
    file: LogFile<R>,
    heads: &Heads,
) -> io::Result<()> {
    let end = heads.committed.to.file;
    let expected = file.number == end + 1;
    match &heads.intent {
        Some(intent) if expected && intent.to.file == file.number => {
            let rest = Rest {
                name: &file.name,
                line: 0,
                at: 0,
                size: file.size,
            };
            on_the_way(verdict, &rest, intent, &mut Lines::new(file.content))
        }
        _ if expected && file.size == 0 => Ok(()),
        _ => {
            let what = format!(
                "the log ends in {} by its head: this file was added, or the head was replaced \
                 by an older one",
                log_name(end)
            );
            verdict.find(&file.name, 0, what);
            Ok(())
        }
    }
}

/// The digest of a line, as [`Line`] has it.
impl Line<'_> {
    fn digest(&self) -> crate::Digest {
        crate::Digest::of(self.bytes)
    }
}
