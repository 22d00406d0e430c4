//! Programs on a terminal.

use crate::host::{Session, exec, on_tty, sh};
use casemate_proto::agent::{ExitedHow, FromInit, ToInit, TtySize};
use std::io::{Read, Write};

fn read_until(session: &mut Session, end: &str) -> String {
    let mut text = String::new();
    let mut chunk = [0; 256];
    while !text.contains(end) {
        let n = session.stdout.as_mut().unwrap().read(&mut chunk).unwrap();
        assert!(n > 0, "ended after {text:?}");
        text.push_str(&String::from_utf8_lossy(&chunk[..n]));
    }
    text
}

#[test]
fn has_the_size_asked_and_follows_it() {
    let script = "tty; trap 'stty size; exit 4' WINCH; stty size; while :; do sleep 0.02; done";
    let mut session = Session::started(on_tty(sh(script), 31, 97));
    let text = read_until(&mut session, "31 97");
    assert!(text.starts_with("/dev/pts/"), "{text:?}");
    session.send(&ToInit::Resize(TtySize { rows: 5, cols: 7 }));
    read_until(&mut session, "5 7");
    assert_eq!(
        session.receive(),
        FromInit::Ended {
            status: ExitedHow::Code(4),
            oom_kills: 0
        }
    );
}

#[test]
fn control_characters_are_signals() {
    // Not a shell: those catch SIGINT, and may lose one on their way to a program.
    let mut session = Session::started(on_tty(exec(&["cat"]), 24, 80));
    session.stdin.as_mut().unwrap().write_all(b"x\n").unwrap();
    // The terminal's echo, then what `cat` read.
    read_until(&mut session, "x\r\nx\r\n");
    session.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    let FromInit::Ended { status, .. } = session.receive() else {
        panic!("not ended");
    };
    assert_eq!(status, ExitedHow::Signal(2));
}

#[test]
fn the_end_of_input_reads_as_the_end() {
    for input in ["", "line\n", "no newline"] {
        let mut session = Session::started(on_tty(exec(&["wc", "-c"]), 24, 80));
        session
            .stdin
            .as_mut()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        session.no_input();
        let text = read_until(&mut session, &format!("{}\r\n", input.len()));
        assert!(text.contains(&input.replace('\n', "\r\n")), "{text:?}");
    }
}

#[test]
fn all_output_arrives_though_the_reader_is_slow() {
    let session = Session::started(on_tty(sh("seq 1 200000; exit 9"), 24, 80));
    std::thread::sleep(std::time::Duration::from_millis(300));
    let outcome = session.finish();
    assert!(outcome.stdout.ends_with(b"\r\n200000\r\n"));
    assert!(outcome.stdout.len() > 1_400_000);
    assert!(matches!(
        outcome.last,
        FromInit::Ended {
            status: ExitedHow::Code(9),
            ..
        }
    ));
}

#[test]
fn a_lost_host_hangs_up() {
    let script = "trap 'exit 6' HUP; echo ready; sleep 100 & wait";
    let mut session = Session::started(on_tty(sh(script), 24, 80));
    read_until(&mut session, "ready");
    drop(session.stdout.take());
    let FromInit::Ended { status, .. } = session.finish().last else {
        panic!("not ended");
    };
    assert_eq!(status, ExitedHow::Code(6));
}
