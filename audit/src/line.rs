//! One line of the log.
//!
//! A line's digest is BLAKE3 of its bytes without the newline. The next line names it in
//! `prev`, and what stands in the head names the last one's.

use crate::clock::{boot_id, now_us, utc};
use crate::{Digest, Event};
use casemate_proto::id::{CellId, TenantId};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use std::time::SystemTime;

/// Longest line that is read or written, newline not counted.
pub const MAX_LINE: usize = 256 << 10;

/// Whose decisions are recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// Tenant.
    pub tenant: TenantId,
    /// Cell or jail.
    pub id: CellId,
}

/// When something was decided.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp {
    time: SystemTime,
    mono_us: u64,
}

impl Stamp {
    pub(crate) fn now() -> Self {
        Self {
            time: SystemTime::now(),
            mono_us: now_us(),
        }
    }

    pub(crate) fn utc(&self) -> String {
        utc(self.time)
    }
}

/// What every line of a recorder has in common.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Context<'a> {
    pub(crate) who: Option<&'a Who>,
    pub(crate) policy: Option<Digest>,
    pub(crate) binaries: Option<Digest>,
}

/// A line as it is written.
#[derive(Serialize)]
struct Written<'a> {
    seq: u64,
    prev: Digest,
    time: String,
    mono_us: u64,
    boot: &'a str,
    pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binaries: Option<Digest>,
    #[serde(flatten)]
    event: &'a Event,
}

/// Appends lines to a batch, each chained to the one before.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) seq: u64,
    pub(crate) hash: Digest,
    pub(crate) bytes: Vec<u8>,
}

impl Chain {
    /// Goes on after the line with this number and digest.
    pub(crate) fn after(seq: u64, hash: Digest) -> Self {
        Self {
            seq,
            hash,
            bytes: Vec::with_capacity(8 << 10),
        }
    }

    /// Adds a line.
    ///
    /// # Errors
    /// Where it does not encode or is longer than any reader takes.
    pub(crate) fn add(
        &mut self,
        stamp: Stamp,
        context: Context<'_>,
        event: &Event,
    ) -> Result<(), serde_json::Error> {
        let begin = self.bytes.len();
        let line = Written {
            seq: self.seq + 1,
            prev: self.hash,
            time: stamp.utc(),
            mono_us: stamp.mono_us,
            boot: &boot_id(),
            pid: std::process::id(),
            tenant: context.who.map(|who| who.tenant.as_str()),
            id: context.who.map(|who| who.id.as_str()),
            policy: context.policy,
            binaries: context.binaries,
            event,
        };
        serde_json::to_writer(&mut self.bytes, &line)?;
        let len = self.bytes.len() - begin;
        if len > MAX_LINE {
            self.bytes.truncate(begin);
            return Err(serde::ser::Error::custom(format_args!(
                "a line of {len} bytes is longer than {MAX_LINE}"
            )));
        }
        self.seq += 1;
        self.hash = Digest::of(&self.bytes[begin..]);
        self.bytes.push(b'\n');
        Ok(())
    }
}

/// What the verifier needs of each line.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Frame<'a> {
    pub(crate) seq: u64,
    pub(crate) prev: Digest,
    #[serde(borrow)]
    pub(crate) time: std::borrow::Cow<'a, str>,
    pub(crate) event: std::borrow::Cow<'a, str>,
    #[serde(rename = "what")]
    _what: IgnoredAny,
}

impl<'a> Frame<'a> {
    pub(crate) fn parse(line: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }
}

/// The `what` of a line whose `event` says that it is a `T`.
pub(crate) fn what<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Option<T> {
    #[derive(Deserialize)]
    struct What<T> {
        what: T,
    }
    serde_json::from_slice::<What<T>>(line)
        .ok()
        .map(|line| line.what)
}

/// A line as those read it who want to know what happened. What `what` holds depends on
/// the event and on the version that wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Number in the log, from 1.
    pub seq: u64,
    /// When, by the clock on the wall.
    pub time: String,
    /// When, in microseconds of `CLOCK_MONOTONIC`.
    pub mono_us: u64,
    /// During which boot.
    pub boot: String,
    /// The writer's process.
    pub pid: u32,
    /// Tenant; absent in lines about the log itself.
    pub tenant: Option<String>,
    /// Cell or jail.
    pub id: Option<String>,
    /// What happened.
    pub event: String,
    /// And how.
    pub what: serde_json::Value,
}

impl Entry {
    /// Reads a line.
    pub fn parse(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Cleared, Recovered};

    #[test]
    fn a_line_reads_back_and_names_the_one_before() {
        let who = Who {
            tenant: "acme".parse().unwrap(),
            id: "job-1".parse().unwrap(),
        };
        let context = Context {
            who: Some(&who),
            policy: Some(Digest::of(b"p")),
            binaries: None,
        };
        let mut chain = Chain::after(7, Digest::of(b"before"));
        let recovered = Recovered {
            file: 1,
            offset: 2,
            bytes: 3,
            hash: Digest::of(b"torn"),
        };
        let cleared = Event::Cleared(Cleared { process: Some(12) });
        chain.add(Stamp::now(), context, &cleared).unwrap();
        chain
            .add(
                Stamp::now(),
                Context::default(),
                &Event::Recovered(recovered.clone()),
            )
            .unwrap();
        let text = String::from_utf8(chain.bytes.clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let first = Frame::parse(lines[0].as_bytes()).unwrap();
        assert_eq!((first.seq, first.prev), (8, Digest::of(b"before")));
        let second = Frame::parse(lines[1].as_bytes()).unwrap();
        assert_eq!(second.prev, Digest::of(lines[0].as_bytes()));
        assert_eq!((second.seq, &*second.event), (9, "recovered"));
        assert_eq!(what(lines[1].as_bytes()), Some(recovered));
        assert_eq!(chain.hash, Digest::of(lines[1].as_bytes()));
        let entry = Entry::parse(lines[0].as_bytes()).unwrap();
        assert_eq!(entry.tenant.as_deref(), Some("acme"));
        assert_eq!(entry.what["process"], 12);
        assert!(!lines[1].contains("tenant"), "{}", lines[1]);
    }

    #[test]
    fn a_name_given_twice_is_no_line() {
        let zero = Digest::ZERO;
        let line =
            format!(r#"{{"seq":1,"prev":"{zero}","time":"","event":"exit","what":{{}},"seq":2}}"#);
        assert_eq!(Frame::parse(line.as_bytes()), None);
    }
}
