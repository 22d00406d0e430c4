//! Where the log goes on, whatever became of the writer before.
//!
//! With both slots of the head equal, the file must end where they say. Where the intent is
//! one step ahead, its writer was killed, or the disk was full:
//!
//! | the file ends | then |
//! |---|---|
//! | where the batch was to begin | nothing was written: go on there |
//! | where it was to end, with the intended digest | all was written: that end is committed |
//! | in between | what is there is set aside by a `recovered` line |
//!
//! Anything else is a change by somebody else, and refused; unless the head is of an earlier
//! boot: a host that crashed may have lost what was not synced, which a `gap` line tells.

use crate::event::{Gap, Recovered};
use crate::folder::{Folders, log_name};
use crate::head::{Head, Place};
use crate::{AuditError, Digest, Event, HEAD, clock};

/// Where the next batch goes.
#[derive(Debug)]
pub(crate) struct Position {
    /// The end that is signed, or becomes so before anything else is written.
    pub(crate) from: Place,
    /// The file to append to; may not be there yet.
    pub(crate) file: u64,
    /// Its size.
    pub(crate) size: u64,
    /// Whether its last byte is no newline, and one must be put before the next line.
    pub(crate) torn: bool,
    /// Whether it has no line that counts, and must be opened.
    pub(crate) unopened: bool,
    /// What must be told first.
    pub(crate) tell: Option<Event>,
    /// Whether `from` is an intent to be committed first.
    pub(crate) commit_first: bool,
}

impl Position {
    fn plain(from: Place) -> Self {
        Self {
            from,
            file: from.file,
            size: from.offset,
            torn: false,
            unopened: false,
            tell: None,
            commit_first: false,
        }
    }
}

/// Finds it. The slots are known to be ours.
pub(crate) fn settle(
    folders: &Folders,
    committed: &Head,
    intent: &Head,
) -> Result<Position, AuditError> {
    let found = if committed == intent {
        quiet(folders, committed.to)
    } else if intent.from == committed.to {
        pending(folders, committed.to, intent)
    } else {
        Ok(Err((
            HEAD.to_owned(),
            "its two slots do not belong together".to_owned(),
        )))
    };
    match found? {
        Ok(position) => Ok(position),
        // The head is of now: no crash of the host can have come in between.
        Err((name, what)) if intent.boot == clock::boot_id() || intent.boot.is_empty() => {
            Err(AuditError::Changed {
                path: folders.log.path().join(name),
                what,
            })
        }
        Err(_) => after_a_crash(folders, committed, intent),
    }
}

/// `Err`: which file is not as it should be, and how.
type Found = Result<Position, (String, String)>;

fn quiet(folders: &Folders, end: Place) -> Result<Found, AuditError> {
    if let Some(wrong) = sized(folders, end)? {
        return Ok(Err(wrong));
    }
    let next = end.file + 1;
    Ok(match folders.size(next)?.unwrap_or(0) {
        0 if end.file == 0 => Ok(Position {
            file: next,
            unopened: true,
            ..Position::plain(end)
        }),
        // One that was made and not come to be used.
        0 => Ok(Position::plain(end)),
        size => Err((
            log_name(next),
            format!("it has {size} bytes that no head tells of"),
        )),
    })
}

/// How the file in which the log ends has another size than it should.
fn sized(folders: &Folders, end: Place) -> Result<Option<(String, String)>, AuditError> {
    if end.file == 0 {
        return Ok(None);
    }
    let name = log_name(end.file);
    Ok(match folders.size(end.file)? {
        None => Some((name, "it is gone".to_owned())),
        Some(size) if size != end.offset => Some((
            name,
            format!("it has {size} bytes, and {} were signed", end.offset),
        )),
        Some(_) => None,
    })
}

fn pending(folders: &Folders, end: Place, intent: &Head) -> Result<Found, AuditError> {
    let (file, at, to) = (intent.to.file, intent.at, intent.to);
    let same = file == end.file;
    if !same && let Some(wrong) = sized(folders, end)? {
        return Ok(Err(wrong));
    }
    let size = folders.size(file)?;
    if same && size.is_none() {
        return Ok(Err((log_name(file), "it is gone".to_owned())));
    }
    let size = size.unwrap_or(0);
    if size < at || size > to.offset {
        let what = format!("it has {size} bytes, and {at} to {} are right", to.offset);
        return Ok(Err((log_name(file), what)));
    }
    let begin = if same { end.offset } else { 0 };
    if size == begin {
        return Ok(Ok(match same {
            true => Position::plain(end),
            false => Position {
                file,
                size: 0,
                unopened: true,
                ..Position::plain(end)
            },
        }));
    }
    let left = folders.bytes(file, begin, size)?;
    let batch = &left[(at - begin) as usize..];
    if size == to.offset && last_line(batch).map(Digest::of) == Some(to.hash) {
        return Ok(Ok(Position {
            commit_first: true,
            ..Position::plain(to)
        }));
    }
    Ok(Ok(Position {
        from: end,
        file,
        size,
        torn: left.last() != Some(&b'\n'),
        unopened: !same,
        tell: Some(Event::Recovered(Recovered {
            file,
            offset: begin,
            bytes: left.len() as u64,
            hash: Recovered::digest(lines(&left).map(Digest::of)),
        })),
        commit_first: false,
    }))
}

/// The lines of what is left, the last perhaps without an end.
fn lines(left: &[u8]) -> impl Iterator<Item = &[u8]> {
    left.strip_suffix(b"\n")
        .unwrap_or(left)
        .split(|&byte| byte == b'\n')
}

/// The last line of a batch, which ends with a newline.
fn last_line(batch: &[u8]) -> Option<&[u8]> {
    let lines = batch.strip_suffix(b"\n")?;
    lines.rsplit(|&byte| byte == b'\n').next()
}

/// Whatever is there stays, and the log goes on behind it from the last end signed.
fn after_a_crash(
    folders: &Folders,
    committed: &Head,
    intent: &Head,
) -> Result<Position, AuditError> {
    let signed = match intent.from == committed.to {
        true => committed.to,
        // The slots are of different times: what was signed last counts.
        false => [committed.to, intent.to]
            .into_iter()
            .max_by_key(|place| place.seq)
            .unwrap_or(committed.to),
    };
    let highest = folders.numbers()?.into_iter().max().unwrap_or(0);
    let file = highest.max(signed.file).max(1);
    let size = folders.size(file)?.unwrap_or(0);
    let torn = size > 0 && folders.bytes(file, size - 1, size)? != b"\n";
    Ok(Position {
        from: signed,
        file,
        size,
        torn,
        unopened: file != signed.file || size == 0,
        tell: Some(Event::Gap(Gap {
            signed,
            file,
            offset: size,
        })),
        commit_first: false,
    })
}
