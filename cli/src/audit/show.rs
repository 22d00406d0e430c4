//! `casemate audit show`.

use super::args::ShowArgs;
use super::words::words;
use crate::run::duration;
use casemate_audit::Entry;
use casemate_audit::clock;
use casemate_audit::read::{Filter, Follow};
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

/// Between two looks at a log that is followed.
const PAUSE: Duration = Duration::from_millis(200);

pub fn main(args: &ShowArgs) -> Result<ExitCode, String> {
    let filter = Filter {
        tenant: args.tenant.clone(),
        id: args.id.clone(),
        since: args.since.as_deref().map(since).transpose()?,
    };
    let dir = args.log.folder()?;
    let reading = |e: io::Error| format!("reading the audit log in {}: {e}", dir.display());
    let mut log = Follow::of(&dir).map_err(reading)?;
    let mut out = io::stdout().lock();
    loop {
        let mut broken = None;
        let read = log.more(|line| {
            if let Err(e) = print(&mut out, line, &filter, args.json) {
                broken = Some(e);
                return Err(ErrorKind::WriteZero.into());
            }
            Ok(())
        });
        let flushed = broken.map_or_else(|| out.flush(), Err);
        match flushed {
            // `| head` has seen enough.
            Err(e) if e.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            Err(e) => return Err(format!("standard output: {e}")),
            Ok(()) => {}
        }
        let read = read.map_err(reading)?;
        match (read, args.follow) {
            (0, false) => return Ok(ExitCode::SUCCESS),
            (0, true) => std::thread::sleep(PAUSE),
            _ => {}
        }
    }
}

fn print(out: &mut impl Write, line: &[u8], filter: &Filter, json: bool) -> io::Result<()> {
    match Entry::parse(line) {
        Some(entry) if !filter.takes(&entry) => Ok(()),
        Some(_) if json => {
            out.write_all(line)?;
            out.write_all(b"\n")
        }
        Some(entry) => writeln!(out, "{}", words(&entry)),
        // Somebody else's; the verifier says more.
        None if json => Ok(()),
        None => writeln!(out, "(a line that is none of the log's)"),
    }
}

/// A time as the log writes it.
fn since(text: &str) -> Result<String, String> {
    let bad = || {
        format!("--since {text}: give a time as 2026-01-31T12:00:00Z, or how long ago, as in 2h")
    };
    let time = match humantime::parse_rfc3339_weak(text) {
        Ok(time) => time,
        Err(_) => {
            let ago = duration::parse(text).map_err(|_| bad())?;
            SystemTime::now().checked_sub(ago).ok_or_else(bad)?
        }
    };
    Ok(clock::utc(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_or_how_long_ago() {
        assert_eq!(
            since("2026-01-31T12:00:00Z").unwrap(),
            "2026-01-31T12:00:00.000000Z"
        );
        assert!(since("1h").unwrap() < since("1m").unwrap());
        assert!(since("soon").is_err());
    }
}
