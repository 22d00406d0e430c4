//! Standard input, output and error.

use crate::host::{Session, exec, feed, reader, sh};
use casemate_proto::agent::{ExitedHow, FromInit, ToInit};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

fn ended(code: u8) -> FromInit {
    FromInit::Ended {
        status: ExitedHow::Code(code),
        oom_kills: 0,
    }
}

#[test]
fn outputs_are_separate_and_the_status_is_the_programs() {
    let session = Session::started(sh("echo out; echo err >&2; exit 7"));
    let outcome = session.finish();
    assert_eq!(outcome.stdout, b"out\n");
    assert_eq!(outcome.stderr, b"err\n");
    assert_eq!(outcome.last, ended(7));
}

#[test]
fn sixty_four_mebibytes_come_back_unchanged() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(64 << 20);
    while bytes.len() < 64 << 20 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        bytes.extend_from_slice(&seed.to_le_bytes());
    }
    let mut session = Session::started(exec(&["cat"]));
    let feeder = feed(session.stdin.take(), bytes.clone());
    let outcome = session.finish();
    feeder.join().unwrap().unwrap();
    assert!(outcome.stdout == bytes);
    assert_eq!(outcome.last, ended(0));
}

#[test]
fn half_close_is_the_end_of_input_and_output_goes_on() {
    let mut session = Session::started(sh("cat >/dev/null; echo after; sleep 0.1; echo more"));
    let stdin = session.stdin.as_mut().unwrap();
    stdin.write_all(b"before").unwrap();
    session.no_input();
    assert_eq!(session.finish().stdout, b"after\nmore\n");
}

#[test]
fn a_reader_that_goes_away_is_a_broken_pipe() {
    let mut session = Session::started(sh("yes; echo status $? >&2"));
    let mut some = [0; 100_000];
    let mut stdout = session.stdout.take().unwrap();
    stdout.read_exact(&mut some).unwrap();
    drop(stdout);
    // 128 + SIGPIPE, as a shell counts.
    assert_eq!(session.finish().stderr, b"status 141\n");
}

#[test]
fn a_program_that_closes_its_input_tells_the_writer() {
    let mut session = Session::started(sh("exec 0<&-; sleep 0.2; echo done"));
    let feeder = feed(session.stdin.take(), vec![0; 8 << 20]);
    assert!(feeder.join().unwrap().is_err(), "a broken pipe");
    assert_eq!(session.finish().stdout, b"done\n");
}

#[test]
fn an_unread_output_holds_up_neither_the_other_nor_signals() {
    let mut session = Session::started(sh("yes & sleep 0.2; head -c 1000000 /dev/zero >&2; wait"));
    let mut errors = vec![0; 1_000_000];
    let mut stderr = session.stderr.take().unwrap();
    stderr.read_exact(&mut errors).unwrap();
    session.send(&ToInit::Signal(15));
    let stdout = reader(session.stdout.take());
    assert_eq!(
        session.receive(),
        FromInit::Ended {
            status: ExitedHow::Signal(15),
            oom_kills: 0
        }
    );
    assert!(stdout.join().unwrap().starts_with(b"y\ny\n"));
}

#[test]
fn all_output_arrives_before_the_end_is_told() {
    let session = Session::started(sh("head -c 3000000 /dev/zero; exit 3"));
    let outcome = session.finish();
    assert_eq!(outcome.stdout.len(), 3_000_000);
    assert_eq!(outcome.last, ended(3));
}

#[test]
fn descendants_do_not_keep_the_streams_open() {
    let start = Instant::now();
    let session = Session::started(sh("(setsid sleep 100 &) ; sleep 100 & echo x"));
    assert_eq!(session.finish().stdout, b"x\n");
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn an_output_closed_early_ends_early() {
    let mut session = Session::started(sh("exec 1>&-; read line; echo $line >&2"));
    let mut all = Vec::new();
    let mut stdout = session.stdout.take().unwrap();
    assert_eq!(stdout.read_to_end(&mut all).unwrap(), 0);
    session.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    assert_eq!(session.finish().stderr, b"go\n");
}
