//! Lines of a file whose content may be anything: bounded, with their lengths in bytes.

use crate::MAX_LINE;
use std::io::{self, BufRead, BufReader, Read};

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Without its newline; no more than [`MAX_LINE`] and one byte of it.
    pub(super) bytes: &'a [u8],
    /// Length in the file, newline included.
    pub(super) len: u64,
    /// Whether it has a newline.
    pub(super) ended: bool,
}

/// Reads lines.
#[derive(Debug)]
pub(super) struct Lines<R> {
    content: BufReader<R>,
    line: Vec<u8>,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(content: R) -> Self {
        Self {
            content: BufReader::with_capacity(64 << 10, content),
            line: Vec::new(),
        }
    }

    /// The next line, which ends after `most` bytes in any case; `None` at the end.
    pub(super) fn next(&mut self, most: u64) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        let mut len = 0;
        let mut ended = false;
        while !ended && len < most {
            let buffer = self.content.fill_buf()?;
            let buffer = &buffer[..buffer
                .len()
                .min((most - len).min(usize::MAX as u64) as usize)];
            if buffer.is_empty() {
                break;
            }
            let end = buffer.iter().position(|&byte| byte == b'\n');
            let part = &buffer[..end.unwrap_or(buffer.len())];
            let room = (MAX_LINE + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            let used = part.len() + usize::from(end.is_some());
            ended = end.is_some();
            len += used as u64;
            self.content.consume(used);
        }
        Ok((len > 0).then_some(Line {
            bytes: &self.line,
            len,
            ended,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_without_end_costs_no_memory() {
        let mut lines = Lines::new(io::repeat(b'x').take(4 << 20));
        let line = lines.next(u64::MAX).unwrap().unwrap();
        assert_eq!((line.bytes.len(), line.len), (MAX_LINE + 1, 4 << 20));
        assert!(!line.ended);
        assert_eq!(lines.next(u64::MAX).unwrap(), None);
    }

    proptest! {
        #[test]
        fn lines_are_those_of_the_text(text in "[a\n]{0,40}", most in 1u64..50) {
            let mut lines = Lines::new(text.as_bytes());
            let mut seen = Vec::new();
            while let Some(line) = lines.next(most).unwrap() {
                prop_assert!(line.len <= most);
                seen.extend_from_slice(line.bytes);
                if line.ended {
                    seen.push(b'\n');
                }
            }
            prop_assert_eq!(seen, text.as_bytes());
        }
    }
}
