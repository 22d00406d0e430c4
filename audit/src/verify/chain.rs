//! The walk along the chain.

use super::lines::Line;
use super::{Options, Verdict};
use crate::event::{Gap, Open, Recovered};
use crate::head::Place;
use crate::line::{Frame, what};
use crate::{Digest, MAX_LINE, PublicKey, log_name};
use std::collections::VecDeque;

/// Most lines that an interrupted batch can have left.
const MAX_TORN: usize = 4096;

/// A line of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Link {
    seq: u64,
    hash: Digest,
}

/// Lines that are none of the chain, so far.
#[derive(Debug, Clone, Copy)]
struct Stray {
    line: u64,
    lines: u64,
}

/// A line that was walked by.
#[derive(Debug)]
struct Passed {
    line: u64,
    offset: u64,
    hash: Digest,
    /// The chain's last line before it.
    before: Option<Link>,
}

/// The walk's state.
pub(super) struct Chain<'a> {
    pub(super) verdict: Verdict,
    key: String,
    options: &'a Options,
    log: Option<String>,
    last: Option<Link>,
    /// Where the last line of the chain stands.
    last_at: (String, u64),
    /// Which heads that were copied earlier were met.
    met: Vec<bool>,
    stray: Option<Stray>,
    /// The latest lines of this file.
    passed: VecDeque<Passed>,
    file: String,
    number: u64,
    opened: bool,
}

impl<'a> Chain<'a> {
    pub(super) fn new(key: &PublicKey, options: &'a Options, verdict: Verdict) -> Self {
        Self {
            verdict,
            key: key.to_string(),
            options,
            log: None,
            last: (!options.from_any).then_some(Link {
                seq: 0,
                hash: Digest::ZERO,
            }),
            last_at: (String::new(), 0),
            met: vec![false; options.earlier.len()],
            stray: None,
            passed: VecDeque::new(),
            file: String::new(),
            number: 0,
            opened: false,
        }
    }

    /// The lines must be of the log that the head names.
    pub(super) fn expect_log(&mut self) {
        self.log = self.verdict.log.clone();
        for earlier in &self.options.earlier {
            if self.log.as_ref().is_some_and(|log| *log != earlier.log) {
                let what = format!(
                    "it is of the log {}, and a head that was copied earlier is of {}",
                    self.verdict.log.as_deref().unwrap_or_default(),
                    earlier.log
                );
                self.verdict.find(crate::HEAD, 0, what);
            }
        }
    }

    pub(super) fn begin(&mut self, file: &str, number: u64) {
        self.file = file.to_owned();
        self.number = number;
        self.opened = false;
        self.passed.clear();
        self.verdict.files += 1;
    }

    pub(super) fn missing(&mut self, number: u64) {
        self.verdict
            .find(&log_name(number), 0, "the whole file is missing");
        // What was in it is known to be missing: go on with whatever comes.
        self.last = None;
    }

    /// One line of the file, the `count`th, which begins at byte `offset`.
    pub(super) fn line(&mut self, line: &Line<'_>, count: u64, offset: u64) {
        let before = self.last;
        let hash = line.digest();
        match line.ended && line.bytes.len() <= MAX_LINE {
            true => match Frame::parse(line.bytes) {
                Some(frame) => self.frame(&frame, line.bytes, hash, count, offset),
                None => self.astray(count),
            },
            false => self.astray(count),
        }
        if self.passed.len() == MAX_TORN {
            self.passed.pop_front();
        }
        self.passed.push_back(Passed {
            line: count,
            offset,
            hash,
            before,
        });
    }

    fn frame(&mut self, frame: &Frame<'_>, bytes: &[u8], hash: Digest, count: u64, offset: u64) {
        let chained = self.follows(self.last, frame);
        match &*frame.event {
            "recovered" if self.sets_aside(frame, bytes, count, offset) => {}
            "gap" if !chained => self.gap(frame, bytes, count, offset),
            _ if chained => self.put_in(),
            _ => self.mismatch(frame, count),
        }
        if self.last.is_none() && self.verdict.lines == 0 && frame.seq != 1 {
            let what = format!(
                "the log is verified from here on: the line before, with seq {} and digest {}, \
                 was not given",
                frame.seq.saturating_sub(1),
                frame.prev
            );
            self.verdict.note(&self.file, count, what);
        }
        self.event(frame, bytes, count);
        self.accept(frame, hash, count);
    }

    /// Whether a line is the next after `last`; after one that is missing, any is.
    fn follows(&self, last: Option<Link>, frame: &Frame<'_>) -> bool {
        last.is_none_or(|last| frame.seq == last.seq.wrapping_add(1) && frame.prev == last.hash)
    }

    /// Takes a line for the chain's next.
    fn accept(&mut self, frame: &Frame<'_>, hash: Digest, count: u64) {
        let link = Link {
            seq: frame.seq,
            hash,
        };
        for (earlier, met) in self.options.earlier.iter().zip(&mut self.met) {
            *met |= (earlier.to.seq, earlier.to.hash) == (link.seq, link.hash);
        }
        self.last = Some(link);
        self.last_at = (self.file.clone(), count);
        self.verdict.lines += 1;
        let first = self.verdict.seqs.map_or(frame.seq, |seqs| seqs.0);
        self.verdict.seqs = Some((first, frame.seq));
        match &mut self.verdict.times {
            Some(times) => {
                times.1.clear();
                times.1.push_str(&frame.time);
            }
            None => {
                let time = frame.time.clone().into_owned();
                self.verdict.times = Some((time.clone(), time));
            }
        }
    }

    fn astray(&mut self, count: u64) {
        let stray = self.stray.get_or_insert(Stray {
            line: count,
            lines: 0,
        });
        stray.lines += 1;
    }

    /// A line chains to the last one; what is between the two is not of the log.
    fn put_in(&mut self) {
        if let Some(stray) = self.stray.take() {
            let what = match stray.lines {
                1 => "a line that is not of the log was put in here".to_owned(),
                lines => format!("{lines} lines that are not of the log were put in here"),
            };
            self.verdict.find(&self.file, stray.line, what);
        }
    }

    /// Whether a `recovered` line chains to the line before those that it sets aside. Some of
    /// these may be whole, and were walked by as if they were of the log.
    fn sets_aside(&mut self, frame: &Frame<'_>, bytes: &[u8], count: u64, offset: u64) -> bool {
        let Some(told) = what::<Recovered>(bytes) else {
            return false;
        };
        let Some(first) = self.passed.iter().position(|p| p.offset == told.offset) else {
            return false;
        };
        let before = self.passed[first].before;
        // The writer put a newline behind what had none.
        let length = offset.wrapping_sub(told.offset);
        let lengths = [Some(told.bytes), told.bytes.checked_add(1)];
        let torn = self.passed.range(first..);
        let same = told.file == self.number
            && lengths.contains(&Some(length))
            && Recovered::digest(torn.map(|passed| passed.hash)) == told.hash;
        if !same || !self.follows(before, frame) {
            return false;
        }
        let from = self.passed[first].line;
        self.last = before;
        self.stray = None;
        let what = format!(
            "a writer was interrupted: the {} bytes it left from line {from} on are set aside",
            told.bytes
        );
        self.verdict.note(&self.file, count, what);
        true
    }

    /// A line says that the chain goes on from a signed end that is not here.
    fn gap(&mut self, frame: &Frame<'_>, bytes: &[u8], count: u64, offset: u64) {
        let Some(gap) = what::<Gap>(bytes) else {
            return self.mismatch(frame, count);
        };
        let consistent = gap.signed.seq.checked_add(1) == Some(frame.seq)
            && gap.signed.hash == frame.prev
            && gap.file == self.number
            && offset.saturating_sub(gap.offset) <= 1;
        if !consistent {
            return self.mismatch(frame, count);
        }
        self.stray = None;
        let last = self.last.map_or(0, |last| last.seq);
        let what = match gap.signed.seq.checked_sub(last) {
            Some(lost) if lost > 0 => format!(
                "a crash of the host lost {lost} lines, seq {} to {}, as its next writer recorded",
                last + 1,
                gap.signed.seq
            ),
            _ => format!(
                "a crash of the host left bytes after the line with seq {} that nobody vouches \
                 for, as its next writer recorded",
                gap.signed.seq
            ),
        };
        match self.options.known_gaps.contains(&frame.seq) {
            true => self.verdict.note(&self.file, count, what),
            false => {
                let seq = frame.seq;
                let what = format!("{what}; give --known-gap {seq} where that is accounted for");
                self.verdict.find(&self.file, count, what);
            }
        }
    }

    /// A line does not chain to the last one. Tells which line is the culprit.
    fn mismatch(&mut self, frame: &Frame<'_>, count: u64) {
        let Some(last) = self.last else { return };
        if let Some(stray) = self.stray.take() {
            let what = match stray.lines {
                1 => "this is no line of the log: it was changed".to_owned(),
                lines => format!("{lines} lines from here on are none of the log: changed"),
            };
            return self.verdict.find(&self.file, stray.line, what);
        }
        let next = last.seq.wrapping_add(1);
        let (file, line) = self.last_at.clone();
        if frame.seq == next && line > 0 {
            let what = format!(
                "it was changed, or the `prev` of the line after it was: that line, seq {}, \
                 names another digest than this one has",
                frame.seq
            );
            self.verdict.find(&file, line, what);
        } else if frame.seq > next {
            let what = format!(
                "lines are missing before this one: seq {next} to {}",
                frame.seq - 1
            );
            self.verdict.find(&self.file, count, what);
        } else {
            let what = format!(
                "it has seq {} where {next} is due: it was moved, repeated or changed",
                frame.seq
            );
            self.verdict.find(&self.file, count, what);
        }
    }

    /// What the lines about the log itself must say.
    fn event(&mut self, frame: &Frame<'_>, bytes: &[u8], count: u64) {
        match &*frame.event {
            "open" => self.open(bytes, count),
            "recovered" | "gap" => {}
            _ if !self.opened => {
                self.opened = true;
                let what = "the file does not begin with its `open` line";
                self.verdict.find(&self.file, count, what);
            }
            _ => {}
        }
    }

    fn open(&mut self, bytes: &[u8], count: u64) {
        self.opened = true;
        let Some(open) = what::<Open>(bytes) else {
            let what = "its `open` line does not say what it must";
            return self.verdict.find(&self.file, count, what);
        };
        if open.file != self.number {
            let what = format!("it is file {} of the log: it was renamed", open.file);
            self.verdict.find(&self.file, count, what);
        }
        if open.key != self.key {
            let what = format!("it is of a log that the key {} signs", open.key);
            self.verdict.find(&self.file, count, what);
        }
        let log = self.log.get_or_insert_with(|| open.log.clone());
        if *log != open.log {
            let what = format!("it is of the log {}, and the head is of {log}", open.log);
            self.verdict.find(&self.file, count, what);
        }
    }

    /// The file is over, after `count` lines.
    pub(super) fn end(&mut self, count: u64) {
        if let Some(stray) = self.stray.take() {
            let what = match stray.lines {
                1 => "this is no line of the log: it was cut, changed or added".to_owned(),
                lines => format!("{lines} lines from here on are none of the log"),
            };
            self.verdict.find(&self.file, stray.line, what);
        }
        if count == 0 && self.number > 0 {
            self.verdict
                .find(&self.file, 0, "it is empty: all its lines are missing");
        }
    }

    /// The last line must be the one that the head names.
    pub(super) fn check_end(&mut self, end: &Place) {
        let link = Link {
            seq: end.seq,
            hash: end.hash,
        };
        let Some(last) = self.last else { return };
        if last != link && self.verdict.is_whole() {
            let (file, line) = self.last_at.clone();
            let file = if file.is_empty() {
                log_name(end.file)
            } else {
                file
            };
            let what = format!(
                "it is the last line here, and not the one that the head vouches for, seq {}: it \
                 was changed, or lines are missing",
                end.seq
            );
            self.verdict.find(&file, line, what);
        }
        for (earlier, met) in self.options.earlier.iter().zip(&self.met) {
            let is_before = self.options.from_any
                && self
                    .verdict
                    .seqs
                    .is_some_and(|seqs| earlier.to.seq < seqs.0);
            if !met && !is_before && earlier.to.seq > 0 {
                let what = format!(
                    "the line with seq {}, which a head copied earlier vouches for, is not in \
                     the log: it was rolled back or written anew",
                    earlier.to.seq
                );
                self.verdict.find(crate::HEAD, 0, what);
            }
        }
    }

    pub(super) fn finish(self) -> Verdict {
        self.verdict
    }
}
